// The front end of the PaTH room: from the normed hidden state x to the directions w, the strengths
// beta and the gate (PaTH, section 3.1; FoX, section 2), forward and backward. With T tokens, H key
// heads, n maps a token and C = n H dim channels:
//
//   y    = A2 (A1 x)                     rank r between; or one full matrix
//   z    = silu(conv(y))                 depthwise, causal, zeros before a sequence begins
//   w    = z / sqrt(|z|^2 + 1e-6)        per map and key head; turned by RoPE if asked for
//   beta = beta_max alpha sigmoid(Wb x + bb)        alpha: see PathOptions
//   log_gate = -softplus(-(Wf x + bf))
//
// and, if asked for, q and k normalised per head and turned. All of it in f32.
#pragma once

#include <optional>
#include <vector>

#include "cairn/attention/arena.h"
#include "cairn/attention/mechanism.h"
#include "cairn/attention/path/core.h"
#include "cairn/attention/path/options.h"
#include "cairn/attention/rotary.h"

namespace cairn {

inline constexpr float kPathEpsilon = 1e-6F;

// Sizes and places of everything, fixed by options and geometry.
struct FrontShape {
  size_t hidden = 0, heads = 0, kv_heads = 0, dim = 0, products = 1;
  size_t rank = 0;      // 0: full
  size_t kernel = 0;    // of the convolution; 0: none
  size_t channels = 0;  // C
  // Columns of what x is multiplied with: [y or its low rank | beta | gate].
  size_t beta_column = 0, gate_column = 0, columns = 0;
  size_t width = 0;  // the same, padded

  FrontShape() = default;
  FrontShape(const PathOptions& options, const AttentionGeometry& geometry);
  size_t low() const { return rank != 0 ? rank : channels; }
};

// Places in parameters(); -1: not there.
struct FrontParameters {
  int low = -1, high = -1;  // A1 or the full matrix; A2
  int taps = -1, beta = -1, beta_bias = -1, gate = -1, gate_bias = -1;
  int q_norm = -1, k_norm = -1, alpha = -1;
};

// What the front end makes, by token; rows padded to multiples of kWidth.
struct FrontRows {
  float* projected = nullptr;  // [T][width]: x times all matrices, biases added
  float* y = nullptr;          // [T][padded C]; the first columns of `projected` at full rank
  size_t y_stride = 0;
  float* w = nullptr;                // [T n, H, dim]
  float* beta = nullptr;             // [T n, H]
  float* log_gate = nullptr;         // [T, heads]
  float *q = nullptr, *k = nullptr;  // normalised and turned; null: as they came
};

// Parameters as the products want them.
struct FrontWeights {
  float* right = nullptr;      // [hidden][width]: columns of all matrices on x
  float* left = nullptr;       // [width][padded hidden]: the same in rows, for backward
  float* high = nullptr;       // A2^T [rank][padded C]
  float* high_rows = nullptr;  // A2 [C][padded rank], for backward
  float* taps = nullptr;       // [kernel][C], the current token first
};

// The factor of beta of a key head: 1 without rope_on_w.
float path_alpha(std::span<const View1<const float>> parameters, const FrontParameters& places,
                 size_t kv_head);

class PathFront {
 public:
  PathFront(const PathOptions& options, const AttentionGeometry& geometry, size_t context_length);

  const FrontShape& shape() const { return shape_; }
  const FrontParameters& places() const { return places_; }
  const std::vector<ParameterSpec>& parameters() const { return specs_; }
  const RotaryTable* rotary() const { return rotary_ ? &*rotary_ : nullptr; }
  bool changes_queries() const { return options_.qk_norm || options_.rope_on_w; }

  FrontRows take_rows(Arena& arena, size_t tokens) const;
  FrontWeights take_weights(Arena& arena, bool backward) const;
  // Everything, or the convolution alone.
  void pack_weights(std::span<const View1<const float>> parameters, const FrontWeights& weights,
                    bool matrices = true) const;

  // `projected` and y of rows [begin, begin + count) of x, count <= kTile.
  void project(const AttentionInputs& in, const FrontWeights& weights, size_t begin, size_t count,
               const FrontRows& rows, float* scratch) const;
  // The same for few tokens, from the parameters as they are.
  void project_few(const AttentionInputs& in, size_t begin, size_t count, const FrontRows& rows,
                   float* scratch) const;
  // w, beta, log_gate, q, k of the same rows. earlier[t] rows of token t's sequence lie before it
  // in rows.y (more than the convolution sees do not count).
  void finish(const AttentionInputs& in, const float* taps, size_t begin, size_t count,
              const int32_t* earlier, const int32_t* positions, const FrontRows& rows,
              float* scratch) const;
  // What the three need.
  size_t scratch_floats() const;

  // Everything, for whole sequences.
  void forward(const AttentionInputs& in, const TokenLayout& layout, const FrontWeights& weights,
               const FrontRows& rows, Arena arena, ThreadTeam& team) const;
  size_t forward_workspace(size_t tokens, int threads) const;

  // Gradients of the rows, as the core leaves them; dw becomes that of the convolution's result.
  struct Gradients {
    float *dw = nullptr, *dbeta = nullptr, *dlog_gate = nullptr;
    float *dq = nullptr, *dk = nullptr;  // of rows.q and rows.k; null without them
  };
  Gradients take_gradients(Arena& arena, size_t tokens) const;
  // Adds to gradients.dx and its parameters; fills gradients.dq and dk from own.dq and own.dk where
  // there are such.
  void backward(const AttentionInputs& in, const TokenLayout& layout, const FrontWeights& weights,
                const FrontRows& rows, const Gradients& own, const AttentionGradients& gradients,
                Arena arena, ThreadTeam& team) const;
  size_t backward_workspace(size_t tokens, int threads) const;

 private:
  int add(std::string name, Shape shape, Initializer initializer, ParameterGroup group);
  void add_parameters();
  void pack_matrices(std::span<const View1<const float>> parameters,
                     const FrontWeights& weights) const;

  PathOptions options_;
  FrontShape shape_;
  FrontParameters places_;
  std::vector<ParameterSpec> specs_;
  std::optional<RotaryTable> rotary_;
};

}  // namespace cairn
