// How well a language model predicts a text: loss, perplexity and bits per byte.
//
// A text is cut into windows of `length` tokens that begin `stride` tokens after one another. Every
// token but the first is predicted exactly once; with a stride below the length each window also
// sees tokens that the one before it has scored, as context. Bits per byte divide by the bytes that
// the scored tokens stand for, so models with different tokenizers, and file compressors, compare
// (Gao et al. 2020, arXiv:2101.00027, section 3.1).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/nn/batch.h"
#include "cairn/nn/language_model.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// The tokens of a text, wherever they are.
struct TokenSource {
  uint64_t size = 0;
  // Copies tokens [begin, begin + out.size()), all below `size`.
  std::function<void(uint64_t begin, std::span<int32_t> out)> read;
};

// Tokens in memory. The vector is moved into the source.
TokenSource token_source(std::vector<int32_t> tokens);

// The windows of a text, in order: always the same ones. Thread-safe if the source is.
class EvaluationWindows {
 public:
  // 1 <= stride <= length, else Error (usage); Error (data) when there are not two tokens.
  EvaluationWindows(TokenSource source, size_t length, size_t stride);

  uint64_t size() const { return windows_; }
  // `count` windows from `first` on. Targets that another window scores, and those beyond the end
  // of the text, are kIgnoredTarget. Error (usage) beyond the last window.
  Batch batch(uint64_t first, uint64_t count) const;

 private:
  TokenSource source_;
  size_t length_;
  size_t stride_;
  uint64_t windows_ = 0;
};

// Sums over the scored tokens of a text.
struct TextScore {
  double nats = 0;
  uint64_t tokens = 0;
  uint64_t bytes = 0;  // of the text that those tokens are
  double nats_per_token() const;
  double perplexity() const;
  double bits_per_byte() const;  // infinite when no byte was scored
};

// By token id, the bytes of text it stands for; special tokens stand for none.
std::vector<uint32_t> token_byte_counts(const Tokenizer& tokenizer);

// Scores the first `limit` windows (0: all), `sequences` at a time. `done`, when given, hears the
// number of tokens scored after each batch. Sums are in the windows' order and in double.
// Throws Error (data) naming the first window with a loss that is not finite.
TextScore score_windows(const EvaluationWindows& windows, uint64_t limit, size_t sequences,
                        std::span<const uint32_t> byte_counts,
                        FunctionRef<LossSum(const Batch&)> loss_of,
                        const std::function<void(uint64_t tokens)>& done = {});

}  // namespace cairn
