// Normalisation: changing text before it is cut into words. The steps of tokenizer.json's
// normalizers and of SentencePiece models (tokenizer_spec.h), in order.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/text/precompiled_map.h"
#include "cairn/text/split_regex.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Whether a piece of text is at the start or the end of the whole text, or stands between added
// tokens.
struct TextEnds {
  bool start = true, end = true;
};

// Immutable after construction; any thread may use it.
class Normalizer {
 public:
  // No steps: text stays. Throws Error (data) for a pattern or map that is not understood.
  explicit Normalizer(std::vector<NormalizerStep> steps = {});

  bool empty() const { return steps_.empty(); }

  // The text after all steps: `text` itself where nothing changes, else a view of `buffer`. Throws
  // Error (data) when it would become longer than 16 times the text and 1 MiB (a hostile rule).
  std::string_view apply(std::string_view text, std::string& buffer, TextEnds ends = {}) const;

 private:
  // Whether the step changes the text; if so the result is in `out`.
  bool run(size_t step, std::string_view text, TextEnds ends, std::string& out) const;
  void sentencepiece(size_t step, std::string_view text, TextEnds ends, std::string& out) const;
  void replace(size_t step, std::string_view text, std::string& out) const;

  std::vector<NormalizerStep> steps_;
  std::vector<std::shared_ptr<const SplitRegex>> regexes_;   // one a step, null but for replace
  std::vector<std::shared_ptr<const PrecompiledMap>> maps_;  // of SentencePiece; null elsewhere
};

}  // namespace cairn
