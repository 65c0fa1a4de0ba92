#include "cairn/text/pretokenizer.h"

#include <utility>

namespace cairn {

using Kind = PretokenizerStep::Kind;

std::vector<PretokenizerStep> Pretokenizer::smollm() {
  return {PretokenizerStep{.kind = Kind::digits, .individual_digits = true}, PretokenizerStep{}};
}

Pretokenizer::Pretokenizer(std::vector<PretokenizerStep> steps)
    : steps_(std::move(steps)), classes_(&CharClasses::instance()) {
  if (steps_ == gpt2()) fast_ = Fast::gpt2;
  if (steps_ == smollm()) fast_ = Fast::smollm;
  for (const PretokenizerStep& step : steps_) {
    std::shared_ptr<const SplitRegex> regex;
    if (step.kind == Kind::split) {
      regex = std::make_shared<SplitRegex>(step.pattern_is_regex ? step.pattern
                                                                 : regex_escape(step.pattern));
    }
    regexes_.push_back(std::move(regex));
  }
}

void Pretokenizer::run_steps(std::string_view text, size_t index,
                             FunctionRef<void(std::string_view)> word) const {
  if (text.empty()) return;
  if (index == steps_.size()) return word(text);
  const PretokenizerStep& step = steps_[index];
  const auto next = [&](std::string_view piece) { run_steps(piece, index + 1, word); };
  switch (step.kind) {
    case Kind::gpt2:
      return cut<false>(text, next);
    case Kind::digits:
      return split_digits(text, step.individual_digits, next);
    case Kind::split:
      return regexes_[index]->split(text, [&](std::string_view piece, bool matched) {
        if (matched || !step.keep_only_matches) next(piece);
      });
  }
}

void Pretokenizer::split_digits(std::string_view text, bool individual,
                                FunctionRef<void(std::string_view)> piece) const {
  const char* const end = text.data() + text.size();
  const auto emit = [&](const char* from, const char* to) {
    if (to > from) piece(std::string_view(from, static_cast<size_t>(to - from)));
  };
  const char* start = text.data();
  bool in_number = false;
  for (const char* at = text.data(); at < end;) {
    const gpt2_rule::ClassAt found = gpt2_rule::class_at(at, end, *classes_);
    const bool number = found.cls == CharClass::number;
    if (number != in_number || (number && individual)) {
      emit(start, at);
      start = at;
    }
    in_number = number;
    at += found.length;
  }
  emit(start, end);
}

}  // namespace cairn
