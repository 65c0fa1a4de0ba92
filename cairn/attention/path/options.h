// Options of the PaTH room, as config.json stores them.
#pragma once

#include "cairn/attention/mechanism.h"

namespace cairn {

// path_rank    rank of the projection to w; 0: full (32)
// path_conv    kernel of the convolution before w; 0: none (3)
// path_nh      maps a token, 1 to 4 (1)
// beta_max     strengths lie in (0, beta_max), at most 2 (2)
// gate_scale   factor of the gate's logits, "path_fox" alone (1; the authors' code: 1/sqrt(dim))
// qk_norm      RMSNorm of q and k per head (false)
// rope_on_w    q, k and w turn with their position, and beta has a factor alpha per key head that
//              starts at 0 and is held to [0, 1]: a new model is then exactly softmax attention
//              with RoPE, and a converted one starts as its teacher (false)
// rope_theta   base of the frequencies of rope_on_w (10000)
struct PathOptions {
  bool gate = false;  // "path_fox"
  size_t rank = 32, conv = 3, products = 1;
  double beta_max = 2, gate_scale = 1, rope_theta = 10000;
  bool qk_norm = false, rope_on_w = false;
};

// Throws Error (usage) that names the option and, for an unknown one, those there are.
PathOptions parse_path_options(const AttentionOptions& options);

}  // namespace cairn
