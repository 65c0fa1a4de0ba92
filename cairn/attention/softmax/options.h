// The options that softmax attention and the Forgetting Transformer share, read and checked.
#pragma once

#include <set>
#include <string>

#include "cairn/attention/mechanism.h"
#include "cairn/attention/rotary.h"

namespace cairn {

enum class PositionKind { none, rope, alibi };

struct SoftmaxOptions {
  PositionKind position = PositionKind::rope;
  double rope_theta = 10000;
  size_t rope_dim = 0;  // of head_dim, from its start, that turn
  RotaryScaling rope_scaling;

  // For contexts of `context` tokens.
  RotaryTable rotary_table(size_t context) const;
  size_t window = 0;   // 0: no window
  size_t qk_conv = 0;  // taps; 0: no convolution
  bool qk_norm = false;
  double qk_norm_eps = 1e-6;
  double qk_norm_offset = 0;
};

// Reads `options`, whose position is `position` unless they say so; keys in `others` belong to the
// room and are skipped. Throws Error (usage) that opens with `doing` on unknown keys and bad
// values.
SoftmaxOptions read_softmax_options(std::string_view doing, const AttentionOptions& options,
                                    const AttentionGeometry& geometry, PositionKind position,
                                    const std::set<std::string>& others = {});

// A number in [low, high], a whole one, or one of `words`.
double real_option(std::string_view doing, const std::string& key, const OptionValue& value,
                   double low, double high);
size_t whole_option(std::string_view doing, const std::string& key, const OptionValue& value,
                    size_t low, size_t high);
std::string word_option(std::string_view doing, const std::string& key, const OptionValue& value,
                        const std::vector<std::string>& words);

// ALiBi's slopes (arXiv:2108.12409): 2^(-8 h / H) for h = 1 .. H where H is a power of two; else
// those of the largest power of two below, then every other one of twice as many heads.
std::vector<double> alibi_slopes(size_t heads);

}  // namespace cairn
