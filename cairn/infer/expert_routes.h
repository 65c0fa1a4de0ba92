// Which tokens of a pass go to which experts of a mixture (kernels/routing.h), laid out expert by
// expert, so that an expert's weights are read once for all of its tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cairn/tensor/view.h"

namespace cairn {

// A token that an expert has is a slot; an expert's slots stand together, in the order of tokens.
struct ExpertRoutes {
  // All memory that passes of up to `most_tokens` tokens need.
  ExpertRoutes(size_t experts, size_t per_token, size_t most_tokens);

  // Of the router's logits [tokens, experts]. The same for equal logits; allocates nothing.
  void route(View2<const float> logits);

  size_t count(size_t expert) const { return first[expert + 1] - first[expert]; }

  size_t per_token = 0;
  // [tokens, per_token], the highest logit first: expert, its weight in the sum, the token's slot.
  std::vector<int32_t> experts;
  std::vector<float> weights;
  std::vector<size_t> slots;
  std::vector<size_t> tokens;  // [slots] whose slot it is
  std::vector<size_t> first;   // [experts + 1] the first slot of each
};

}  // namespace cairn
