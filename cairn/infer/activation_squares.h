// What the products of a decoder read, summed as squares by column: which columns of its weights
// matter (importance matrices of github.com/ggml-org/llama.cpp). Filled by
// Session::append(tokens, squares).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cairn/kernels/tile_products.h"
#include "cairn/model/config.h"

namespace cairn {

// The matrices of a layer that read the same activations, or the head.
enum class ProductInput : uint8_t { qkv, o, gate_up, down, head };

class ActivationSquares {
 public:
  // Threads that add at the same time must have different slots.
  static constexpr size_t kSlots = 8;

  // Throws Error (usage) for a mixture of experts.
  explicit ActivationSquares(const ModelConfig& config);

  // Adds the squares of each row; the head's are left out. `slot` < kSlots.
  void add(size_t layer, ProductInput input, size_t slot, const ActivationSource& rows);
  // Sum of squares of each column, the slots added in their order.
  std::vector<float> sums(size_t layer, ProductInput input) const;

  // Rows that each sum is over.
  uint64_t tokens() const { return tokens_; }
  void count(size_t tokens) { tokens_ += tokens; }

 private:
  using Columns = std::array<std::vector<double>, kSlots>;
  std::vector<std::array<Columns, 4>> layers_;
  uint64_t tokens_ = 0;
};

}  // namespace cairn
