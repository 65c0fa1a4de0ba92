#include "cairn/nn/moe_routes.h"

#include <algorithm>
#include <cstring>

#include "cairn/base/thread_team.h"

namespace cairn::moe {

size_t TokenRoutes::most_rows(size_t tokens, size_t experts, size_t per_token) {
  return (chunk_count(tokens * per_token, kBlock) + experts) * kBlock;
}

size_t TokenRoutes::bytes(size_t tokens, size_t experts, size_t per_token) {
  return sizeof(float) * (tokens * experts + 3 * tokens * per_token +
                          most_rows(tokens, experts, per_token) + experts + 1);
}

TokenRoutes::TokenRoutes(std::span<std::byte> memory, size_t tokens, size_t experts,
                         size_t per_token)
    : experts(experts), per_token(per_token) {
  const size_t slots = tokens * per_token;
  auto* next = reinterpret_cast<float*>(memory.data());
  logits = next;
  weight = next += tokens * experts;
  chosen = reinterpret_cast<int32_t*>(next += slots);
  place = reinterpret_cast<int32_t*>(next += slots);
  row_slot = reinterpret_cast<int32_t*>(next += slots);
  first_block = reinterpret_cast<int32_t*>(next + most_rows(tokens, experts, per_token));
}

size_t TokenRoutes::expert_of(size_t block) const {
  const int32_t *first = first_block, *end = first + experts + 1;
  return static_cast<size_t>(std::upper_bound(first, end, static_cast<int32_t>(block)) - first - 1);
}

void TokenRoutes::lay_out(size_t tokens, size_t* counts) const {
  std::fill_n(counts, experts, size_t{0});
  const size_t count = tokens * per_token;
  for (size_t i = 0; i < count; ++i) ++counts[chosen[i]];
  int32_t block = 0;
  for (size_t e = 0; e < experts; ++e) {
    first_block[e] = block;
    block += static_cast<int32_t>(chunk_count(counts[e], kBlock));
  }
  first_block[experts] = block;
  std::fill_n(row_slot, blocks() * kBlock, -1);
  for (size_t e = 0; e < experts; ++e) {
    int32_t row = first_block[e] * static_cast<int32_t>(kBlock);
    for (size_t i = 0; i < count; ++i) {
      if (chosen[i] != static_cast<int32_t>(e)) continue;
      place[i] = row;
      row_slot[row++] = static_cast<int32_t>(i);
    }
  }
}

void TokenRoutes::gather(size_t block, const AnyView2& from, const AnyView2& to) const {
  const size_t bytes = from.cols * dtype_size(from.dtype);
  for (size_t i = 0; i < kBlock; ++i) {
    const int32_t slot = row_slot[block * kBlock + i];
    if (slot < 0)
      std::memset(at(to, i, 0), 0, bytes);
    else
      std::memcpy(at(to, i, 0), at(from, static_cast<size_t>(slot) / per_token, 0), bytes);
  }
}

}  // namespace cairn::moe
