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

// The matrices of a layer that read the same activations, or the head. With a mixture of experts
// `gate_up` and `down` are those of the shared one.
enum class ProductInput : uint8_t { qkv, o, gate_up, down, experts_gate_up, experts_down, head };

class ActivationSquares {
 public:
  // Threads that add at the same time must have different slots.
  static constexpr size_t kSlots = 8;

  explicit ActivationSquares(const ModelConfig& config);

  // Adds the squares of each row; the head's are left out. `slot` < kSlots, but of what experts
  // read the expert.
  void add(size_t layer, ProductInput input, size_t slot, const ActivationSource& rows);
  // Sum of squares of each column, [cols] with the slots added in their order, or
  // [experts * cols].
  std::vector<float> sums(size_t layer, ProductInput input) const;
  // Rows that the sums are over: one number, or one an expert.
  std::vector<float> counts(size_t layer, ProductInput input) const;

 private:
  struct Slot {
    std::vector<double> squares;  // [cols]
    uint64_t rows = 0;
  };
  static constexpr size_t kInputs = static_cast<size_t>(ProductInput::head);
  std::vector<std::array<std::vector<Slot>, kInputs>> layers_;
};

}  // namespace cairn
