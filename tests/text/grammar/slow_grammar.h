// What a grammar matches, found slowly and obviously: for every rule and every place of a text, the
// places where the rule can end, computed again and again until nothing is added. Left recursion
// and empty repetitions need no care.
#pragma once

#include <set>
#include <string_view>
#include <vector>

#include "cairn/text/grammar/grammar.h"

namespace cairn {

class SlowMatcher {
 public:
  SlowMatcher(const Grammar& grammar, std::string_view text)
      : grammar_(grammar),
        text_(text),
        ends_(grammar.rules.size(), std::vector<std::set<size_t>>(text.size() + 1)) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t rule = 0; rule < grammar.rules.size(); ++rule)
        for (size_t at = 0; at <= text.size(); ++at)
          for (const size_t end : ends(grammar.rules[rule].body, at))
            changed = ends_[rule][at].insert(end).second || changed;
    }
  }

  bool matches() const { return ends_[grammar_.root][0].contains(text_.size()); }

 private:
  using Kind = GrammarExpression::Kind;

  std::set<size_t> ends(const GrammarExpression& e, size_t at) const {
    switch (e.kind) {
      case Kind::text:
        return text_.substr(at).starts_with(e.text) ? std::set<size_t>{at + e.text.size()}
                                                    : std::set<size_t>{};
      case Kind::characters: {
        size_t end = at;
        const int64_t code = at < text_.size() ? next_utf8(text_, end) : -1;
        for (const CharRange& range : e.ranges)
          if (code >= range.low && code <= range.high) return {end};
        return {};
      }
      case Kind::choice: {
        std::set<size_t> all;
        for (const auto& part : e.parts) all.merge(ends(part, at));
        return all;
      }
      case Kind::sequence: {
        std::set<size_t> places = {at};
        for (const auto& part : e.parts) places = step(part, places);
        return places;
      }
      case Kind::repeat: {
        std::set<size_t> all, places = {at};
        for (uint32_t i = 0; i <= e.most && !places.empty(); ++i) {
          const size_t before = all.size();
          if (i >= e.least) all.insert(places.begin(), places.end());
          if (i > e.least && all.size() == before) break;  // only empty matches are left
          places = step(e.parts.front(), places);
        }
        return all;
      }
      case Kind::rule:
        return ends_[e.rule][at];
    }
    return {};
  }
  std::set<size_t> step(const GrammarExpression& e, const std::set<size_t>& places) const {
    std::set<size_t> next;
    for (const size_t place : places) next.merge(ends(e, place));
    return next;
  }

  const Grammar& grammar_;
  std::string_view text_;
  std::vector<std::vector<std::set<size_t>>> ends_;  // [rule][place]
};

}  // namespace cairn
