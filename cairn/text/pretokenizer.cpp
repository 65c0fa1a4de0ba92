#include "cairn/text/pretokenizer.h"

#include <utility>

namespace cairn {
namespace {

using Kind = PretokenizerStep::Kind;
using Behavior = PretokenizerStep::Behavior;

// What the HF library takes for punctuation: Unicode's, and all other symbols of ASCII.
constexpr std::string_view kPunctuation = R"([!-/:-@\[-`{-~]|\p{P})";
constexpr std::string_view kWhiteSpace = R"(\s+)";

// The regular expression a step needs, or "".
std::string regex_of(const PretokenizerStep& step) {
  switch (step.kind) {
    case Kind::split:
      return step.pattern_is_regex ? step.pattern : regex_escape(step.pattern);
    case Kind::punctuation:
      return std::string(kPunctuation);
    case Kind::whitespace_split:
      return std::string(kWhiteSpace);
    default:
      return {};
  }
}

// Holds one piece back until it is known whether it grows.
class Pieces {
 public:
  explicit Pieces(FunctionRef<void(std::string_view)> out) : out_(out) {}
  void add(std::string_view piece) {
    flush();
    held_ = piece;
  }
  // Makes the piece that is held longer by `more`, which follows it in the text.
  void extend(std::string_view more) {
    held_ = held_.empty() ? more : std::string_view(held_.data(), held_.size() + more.size());
  }
  void flush() {
    if (!held_.empty()) out_(held_);
    held_ = {};
  }

 private:
  FunctionRef<void(std::string_view)> out_;
  std::string_view held_;
};

}  // namespace

void split_by(const SplitRegex& regex, std::string_view text, Behavior behavior, bool invert,
              FunctionRef<void(std::string_view)> piece) {
  Pieces pieces(piece);
  bool after_match = false;
  regex.split(text, [&](std::string_view part, bool matched) {
    matched = matched != invert;
    switch (behavior) {
      case Behavior::isolated:
        pieces.add(part);
        break;
      case Behavior::removed:
        if (!matched) pieces.add(part);
        break;
      case Behavior::merged_with_previous:  // of several matches in a row only the first
        matched && !after_match ? pieces.extend(part) : pieces.add(part);
        break;
      case Behavior::merged_with_next:  // and here only the last
        after_match && !matched ? pieces.extend(part) : pieces.add(part);
        break;
      case Behavior::contiguous:
        matched == after_match ? pieces.extend(part) : pieces.add(part);
        break;
    }
    after_match = matched;
  });
  pieces.flush();
}

std::vector<PretokenizerStep> Pretokenizer::smollm() {
  return {PretokenizerStep{.kind = Kind::digits, .individual_digits = true}, PretokenizerStep{}};
}

std::vector<PretokenizerStep> Pretokenizer::by_regex(std::string_view pattern) {
  return {PretokenizerStep{.kind = Kind::split, .pattern = std::string(pattern)}};
}

Pretokenizer::Pretokenizer(std::vector<PretokenizerStep> steps)
    : steps_(std::move(steps)), classes_(&CharClasses::instance()) {
  if (steps_ == gpt2()) fast_ = Fast::gpt2;
  if (steps_ == smollm()) fast_ = Fast::smollm;
  if (steps_ == by_regex(kLlama3Pattern)) fast_ = Fast::llama3;
  if (steps_ == by_regex(kQwen2Pattern)) fast_ = Fast::qwen2;
  for (const PretokenizerStep& step : steps_) {
    const std::string regex = regex_of(step);
    regexes_.push_back(regex.empty() ? nullptr : std::make_shared<SplitRegex>(regex));
  }
}

void Pretokenizer::run_steps(std::string_view text, size_t index, bool at_start, Piece word) const {
  if (text.empty()) return;
  if (index == steps_.size()) return word(text);
  const PretokenizerStep& step = steps_[index];
  const auto next = [&](std::string_view piece) {
    run_steps(piece, index + 1, at_start && piece.data() == text.data(), word);
  };
  switch (step.kind) {
    case Kind::gpt2:
      return cut<gpt2_word_end<false>>(text, next);
    case Kind::prefix_blank:
      if (text.front() == ' ') return next(text);
      return run_steps(std::string(" ").append(text), index + 1, at_start, word);
    case Kind::digits:
      return split_digits(text, step.individual_digits, next);
    case Kind::split:
      return split_by(*regexes_[index], text, step.behavior, step.invert, next);
    case Kind::metaspace:
      return split_metaspace(text, step, at_start, [&](std::string_view piece) {
        run_steps(piece, index + 1, false, word);
      });
    case Kind::whitespace_split:
      return split_by(*regexes_[index], text, Behavior::removed, false, next);
    case Kind::punctuation:
      return split_by(*regexes_[index], text, step.behavior, false, next);
  }
}

void Pretokenizer::split_metaspace(std::string_view text, const PretokenizerStep& step,
                                   bool at_start, Piece piece) const {
  const std::string& mark = step.pattern;
  std::string marked;
  marked.reserve(text.size() + text.size() / 2 + mark.size());
  for (const char c : text) {
    c == ' ' ? marked.append(mark) : marked.append(1, c);
  }
  const bool wanted = step.prepend == PretokenizerStep::Prepend::always ||
                      (step.prepend == PretokenizerStep::Prepend::first && at_start);
  if (wanted && marked.compare(0, mark.size(), mark) != 0) marked.insert(0, mark);
  if (!step.metaspace_splits) return piece(marked);
  const std::string_view all = marked;
  for (size_t from = 0; from < all.size();) {  // each mark starts a piece
    const size_t to = std::min(all.find(mark, from + 1), all.size());
    piece(all.substr(from, to - from));
    from = to;
  }
}

void Pretokenizer::split_digits(std::string_view text, bool individual, Piece piece) const {
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
