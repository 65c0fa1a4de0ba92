// Who attends to whom when a model reads a text: the weights of its attention, layer by layer and
// head by head, as the definition of each mechanism gives them (mechanism.h, reference_weights)
// from what the ordinary forward pass fed to it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/base/thread_team.h"
#include "cairn/model/model.h"

namespace cairn {

// Texts that are looked at: memory grows with the square of their length.
inline constexpr size_t kMostLookedAt = 512;  // tokens

struct LayerWeights {
  size_t layer = 0;
  std::string mechanism;
  AttentionWeights weights;  // of all its heads
};

// Lets the model (in f32) read `tokens`. `layers` rises. Throws Error (usage) for a layer that the
// model does not have, for no tokens or more than kMostLookedAt, Error (data) for an id outside the
// vocabulary.
std::vector<LayerWeights> read_attention(Model& model, std::span<const int32_t> tokens,
                                         std::span<const size_t> layers, ThreadTeam& team);

// One map of several heads: their mean; or for each query and key what the head shows that weighs
// the key most. Extras go with the weights.
AttentionWeights mean_of_heads(const AttentionWeights& weights);
AttentionWeights strongest_of_heads(const AttentionWeights& weights);
// Head `head` alone.
AttentionWeights one_head(const AttentionWeights& weights, size_t head);

// The bytes of a token as people can read them in a row of tokens: blanks as "·", line ends as "⏎",
// tabs as "→", other control characters and what is not UTF-8 as "\x0b".
std::string visible_token(std::string_view bytes);

}  // namespace cairn
