// Where the tokens of a mixture of experts go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cairn/nn/moe_rows.h"

namespace cairn::moe {

// A slot is one choice of one token; its row lies at `place` among the rows that are sorted by
// expert, each expert's beginning with a block of its own. Borrows a scratch of bytes().
struct TokenRoutes {
  size_t experts = 0, per_token = 0;
  float* logits = nullptr;         // [tokens, experts]
  int32_t* chosen = nullptr;       // [slots] expert
  float* weight = nullptr;         // [slots]
  int32_t* place = nullptr;        // [slots]
  int32_t* row_slot = nullptr;     // [rows] slot, -1 for padding
  int32_t* first_block = nullptr;  // [experts + 1]

  // Of up to `tokens` tokens.
  static size_t most_rows(size_t tokens, size_t experts, size_t per_token);
  static size_t bytes(size_t tokens, size_t experts, size_t per_token);
  TokenRoutes(std::span<std::byte> memory, size_t tokens, size_t experts, size_t per_token);

  size_t slot(size_t token, size_t i) const { return token * per_token + i; }
  size_t blocks() const { return static_cast<size_t>(first_block[experts]); }
  size_t expert_of(size_t block) const;

  // Gives each slot of the first `tokens` tokens its place, those of an expert one after another in
  // the order of tokens, and counts them: `counts` [experts].
  void lay_out(size_t tokens, size_t* counts) const;
  // The rows [tokens, cols] of a block's tokens, zeros for padding.
  void gather(size_t block, const AnyView2& from, const AnyView2& to) const;
};

}  // namespace cairn::moe
