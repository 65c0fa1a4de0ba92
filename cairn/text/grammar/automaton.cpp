#include "cairn/text/grammar/automaton.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/text/grammar/utf8_ranges.h"

namespace cairn {
namespace {

constexpr size_t kMostNodes = 200'000;

using Kind = GrammarExpression::Kind;

// The alternatives of a rule's body.
std::vector<GrammarExpression> alternatives(GrammarExpression body) {
  if (body.kind != Kind::choice) return {std::move(body)};
  std::vector<GrammarExpression> result;
  for (GrammarExpression& part : body.parts)
    for (GrammarExpression& one : alternatives(std::move(part))) result.push_back(std::move(one));
  return result;
}

// a ::= a x | a y | z  becomes  a ::= z (x | y)*
void remove_direct_left_recursion(GrammarRule& rule, uint32_t number) {
  const auto calls_itself = [number](const GrammarExpression& e) {
    return e.kind == Kind::rule && e.rule == number;
  };
  std::vector<GrammarExpression> starts, more;
  for (GrammarExpression& one : alternatives(std::move(rule.body))) {
    if (one.kind == Kind::sequence && !one.parts.empty() && calls_itself(one.parts.front())) {
      one.parts.erase(one.parts.begin());
      more.push_back(std::move(one));
    } else if (!calls_itself(one)) {  // a ::= a says nothing
      starts.push_back(std::move(one));
    }
  }
  rule.body = grammar::choice(std::move(starts));
  if (more.empty()) return;
  std::vector<GrammarExpression> parts;
  parts.push_back(std::move(rule.body));
  parts.push_back(grammar::repeat(grammar::choice(std::move(more)), 0));
  rule.body = grammar::sequence(std::move(parts));
}

}  // namespace

GrammarAutomaton::GrammarAutomaton(Grammar grammar, const std::string& source)
    : source_(source), root_(grammar.root) {
  const auto rules = static_cast<uint32_t>(grammar.rules.size());
  for (uint32_t rule = 0; rule < rules; ++rule) {
    building_ = rule;
    entries_.push_back(add_node());
  }
  for (uint32_t rule = 0; rule < rules; ++rule) {
    building_ = rule;
    remove_direct_left_recursion(grammar.rules[rule], rule);
    const uint32_t exit = add_node();
    nodes_[exit].exit = true;
    build(grammar.rules[rule].body, entries_[rule], exit);
  }
  cut_what_never_ends();
  mark_tails();
  refuse_left_recursion(grammar);
  divide_bytes();
}

void GrammarAutomaton::fail(const std::string& expected, const std::string& found,
                            const std::string& hint) const {
  throw Error({.kind = ErrorKind::data,
               .doing = "compiling the grammar " + source_,
               .expected = expected,
               .found = found,
               .hint = hint});
}

uint32_t GrammarAutomaton::add_node() {
  if (nodes_.size() == kMostNodes)
    fail(fmt::format("at most {} places in all rules", kMostNodes), "more",
         "large bounds of repetitions multiply");
  nodes_.emplace_back();
  node_rule_.push_back(building_);
  return static_cast<uint32_t>(nodes_.size() - 1);
}

void GrammarAutomaton::build(const Expression& expression, uint32_t from, uint32_t to) {
  switch (expression.kind) {
    case Kind::text:
      for (size_t i = 0; i < expression.text.size(); ++i) {
        const uint32_t next = i + 1 < expression.text.size() ? add_node() : to;
        const auto byte = static_cast<uint8_t>(expression.text[i]);
        nodes_[from].bytes.push_back({byte, byte, next});
        from = next;
      }
      if (expression.text.empty()) nodes_[from].empty.push_back(to);
      break;
    case Kind::characters:
      build_characters(expression.ranges, from, to);
      break;
    case Kind::sequence:
      for (size_t i = 0; i < expression.parts.size(); ++i) {
        const uint32_t next = i + 1 < expression.parts.size() ? add_node() : to;
        build(expression.parts[i], from, next);
        from = next;
      }
      if (expression.parts.empty()) nodes_[from].empty.push_back(to);
      break;
    case Kind::choice:
      for (const Expression& part : expression.parts) build(part, from, to);
      break;
    case Kind::repeat:
      build_repeat(expression, from, to);
      break;
    case Kind::rule:
      nodes_[from].calls.push_back({expression.rule, to});
      break;
  }
}

void GrammarAutomaton::build_characters(const std::vector<CharRange>& ranges, uint32_t from,
                                        uint32_t to) {
  for (const CharRange& range : ranges)
    for_each_utf8_range(range, [&](std::span<const ByteRange> bytes) {
      uint32_t at = from;
      for (size_t i = 0; i < bytes.size(); ++i) {
        const uint32_t next = i + 1 < bytes.size() ? add_node() : to;
        nodes_[at].bytes.push_back({bytes[i].low, bytes[i].high, next});
        at = next;
      }
    });
}

void GrammarAutomaton::build_repeat(const Expression& expression, uint32_t from, uint32_t to) {
  const Expression& part = expression.parts.front();
  for (uint32_t i = 0; i < expression.least; ++i) {
    const uint32_t next = add_node();
    build(part, from, next);
    from = next;
  }
  if (expression.most == Expression::kUnbounded) {
    // Nodes of its own, so that nothing else comes into or leaves the loop.
    const uint32_t begin = add_node(), end = add_node();
    nodes_[from].empty.push_back(begin);
    build(part, begin, end);
    nodes_[end].empty.push_back(begin);
    nodes_[begin].empty.push_back(to);
    return;
  }
  for (uint32_t i = expression.least; i < expression.most; ++i) {
    const uint32_t next = add_node();
    nodes_[from].empty.push_back(to);
    build(part, from, next);
    from = next;
  }
  nodes_[from].empty.push_back(to);
}

// Keeps only nodes from which the exit of their rule can be reached.
void GrammarAutomaton::cut_what_never_ends() {
  constexpr uint32_t kNoRule = UINT32_MAX;
  struct Edge {
    uint32_t node, rule;  // backwards; kNoRule: no call
  };
  std::vector<std::vector<Edge>> before(nodes_.size());
  std::vector<std::vector<Edge>> callers(entries_.size());  // here `rule` is the call's target
  std::vector<bool> ends(nodes_.size());
  std::vector<uint32_t> fresh;
  const auto mark = [&](uint32_t node) {
    if (!ends[node]) fresh.push_back(node);
    ends[node] = true;
  };
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    for (const ByteEdge& edge : nodes_[n].bytes) before[edge.target].push_back({n, kNoRule});
    for (const uint32_t target : nodes_[n].empty) before[target].push_back({n, kNoRule});
    for (const Call& call : nodes_[n].calls) {
      before[call.target].push_back({n, call.rule});
      callers[call.rule].push_back({n, call.target});
    }
    if (nodes_[n].exit) mark(n);
  }
  while (!fresh.empty()) {
    const uint32_t node = fresh.back();
    fresh.pop_back();
    // A call counts once its target ends and the rule that it calls ends, too.
    for (const Edge& edge : before[node])
      if (edge.rule == kNoRule || ends[entries_[edge.rule]]) mark(edge.node);
    const uint32_t rule = node_rule_[node];
    if (entries_[rule] != node) continue;
    for (const Edge& edge : callers[rule])
      if (ends[edge.rule]) mark(edge.node);
  }
  if (!ends[entries_[root_]])
    fail("texts that can be completed", "none: root calls itself without end");
  for (Node& node : nodes_) {
    std::erase_if(node.bytes, [&](const ByteEdge& e) { return !ends[e.target]; });
    std::erase_if(node.empty, [&](uint32_t target) { return !ends[target]; });
    std::erase_if(node.calls,
                  [&](const Call& c) { return !ends[c.target] || !ends[entries_[c.rule]]; });
  }
}

void GrammarAutomaton::mark_tails() {
  // Exits first; then, again and again, what leads to a tail over an empty edge alone.
  std::vector<std::vector<uint32_t>> before(nodes_.size());
  std::vector<uint32_t> fresh;
  for (uint32_t n = 0; n < nodes_.size(); ++n) {
    Node& node = nodes_[n];
    if (node.exit) {
      node.tail = true;
      fresh.push_back(n);
    } else if (node.bytes.empty() && node.calls.empty() && node.empty.size() == 1) {
      before[node.empty.front()].push_back(n);
    }
  }
  while (!fresh.empty()) {
    const uint32_t node = fresh.back();
    fresh.pop_back();
    for (const uint32_t n : before[node]) {
      nodes_[n].tail = true;
      fresh.push_back(n);
    }
  }
}

void GrammarAutomaton::divide_bytes() {
  std::array<bool, 257> starts{};
  for (const Node& node : nodes_)
    for (const ByteEdge& edge : node.bytes) starts[edge.low] = starts[edge.high + size_t{1}] = true;
  starts[0] = true;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (starts[byte]) class_byte_[classes_++] = static_cast<uint8_t>(byte);
    class_of_[byte] = static_cast<uint8_t>(classes_ - 1);
  }
}

}  // namespace cairn
