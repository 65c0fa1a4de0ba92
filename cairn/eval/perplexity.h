// How well a language model predicts a text: loss, perplexity and bits per byte.
//
// A text is cut into windows, each token but the first predicted once (data/evaluation_windows.h).
// Bits per byte divide by the bytes that
// the scored tokens stand for, so models with different tokenizers, and file compressors, compare
// (Gao et al. 2020, arXiv:2101.00027, section 3.1).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/data/evaluation_windows.h"
#include "cairn/nn/batch.h"
#include "cairn/nn/language_model.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

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
