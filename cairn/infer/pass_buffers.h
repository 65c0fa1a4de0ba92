// The activations of one pass of a decode program: what threads share, and what each has of its
// own.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/base/memory.h"
#include "cairn/infer/expert_routes.h"
#include "cairn/infer/top_logits.h"
#include "cairn/kernels/tile_products.h"
#include "cairn/model/config.h"
#include "cairn/tensor/view.h"

namespace cairn {

// Up to PassBuffers::kBlockTokens tokens whose activations stand together.
struct TokenBlock {
  size_t first = 0;  // token of the pass
  size_t tokens = 0;
  View2<float> x;                           // [tokens, hidden_size] the residual stream
  std::array<std::byte*, 3> activations{};  // by ActivationKind, wide enough for any product
};

class PassBuffers {
 public:
  static constexpr size_t kFewTokens = 8;     // up to which every thread norms for itself
  static constexpr size_t kMostTokens = 256;  // of a pass of a decoder
  static constexpr size_t kBlockTokens = 32;
  static constexpr size_t kHeadLogits = 4096;  // of a piece of the head: half a first-level cache
  static constexpr size_t kQueryTokens = 16;   // of a task of a long pass's attention

  // What belongs to one thread.
  struct Own {
    TokenBlock few;                           // kFewTokens
    TokenBlock last;                          // one token, for the head
    View2<float> attended;                    // [kFewTokens, heads * value_dim]
    View2<float> gate_up;                     // [most, 2 * kGatedRows]
    View2<float> queries;                     // [kQueryTokens * group, head_dim]
    View2<float> parts, spans, sums;          // [kQueryTokens * group, part size]
    View1<float> row;                         // [widest row]
    std::array<float, kBlockTokens> scale{};  // of a block's tokens
    // Of the head, where few logits are wanted: those of a piece of its rows, and the highest.
    View1<float> head;                       // [kHeadLogits]
    std::array<TopLogits, kFewTokens> best;  // by place
    std::chrono::nanoseconds waited{};       // at the barriers of a timed pass
    // With experts: where tokens go, and blocks of one expert's tokens each, whose `first` is
    // counted from the expert's first slot. The memory of a long pass's blocks is shared.
    std::optional<ExpertRoutes> routes;
    std::vector<TokenBlock> few_routed, many_routed;
    std::vector<size_t> first_routed;  // [experts + 1] the first block of each expert
    View2<float> gathered;             // [kBlockTokens, hidden_size]
  };

  // For passes of `most` tokens. `gated_rows`: most rows of gate in one product. `context` bounds
  // positions.
  PassBuffers(const ModelConfig& config, const AttentionGeometry& geometry, size_t most,
              size_t gated_rows, size_t context, size_t tables, int threads);

  View2<float> qkv;            // [most, heads * head_dim + kv_heads * (head_dim + value_dim)]
  View2<float> attended;       // [most, heads * value_dim]
  View2<float> branch;         // [most, hidden_size]
  View2<float> gated;          // [most, width of the MLP that all tokens take]
  View2<float> normed;         // [most, hidden_size], for mechanisms and experts, who read it
  View2<float> gate_up;        // [kFewTokens, 2 * intermediate_size], where take_gate_up was called
  View2<float> router_logits;  // [most, experts]
  View2<float> expert_gated, expert_out;  // [slots, intermediate_size], [slots, hidden_size]
  std::vector<View2<float>> turns;        // a table's angles: [most, head_dim]
  std::vector<TokenBlock> blocks;         // of long passes
  View2<float> parts;    // [kFewTokens * heads * chunks, part size] of short passes
  size_t chunks = 0;     // that a context has
  std::vector<Own> own;  // one a thread

  // For passes of few tokens without fusion (infer/program_parts.h).
  void take_gate_up(const ModelConfig& config) {
    gate_up = take(kFewTokens, 2 * config.intermediate_size);
  }
  // Sizes the blocks for a pass of `tokens` tokens that shares them.
  void cover(size_t tokens);
  std::span<TokenBlock> covering(size_t tokens) {
    return {blocks.data(), (tokens - 1) / kBlockTokens + 1};
  }

 private:
  View2<float> take(size_t rows, size_t cols);
  TokenBlock take_block(const ModelConfig& config, size_t widest, size_t tokens);
  void take_activations(size_t widest, TokenBlock& block);
  void take_experts(const ModelConfig& config, size_t most);

  std::vector<AlignedBuffer> memory_;
};

}  // namespace cairn
