// The differentiable operations of a decoder. Each function records one operation on the tape and
// returns its result. Weights are borrowed: values are read, gradients added to.
//
// `compute` is the type of products and stored activations (f32 or bf16); the residual stream,
// norms, statistics, losses and gradients of weights are f32.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/autograd/tape.h"
#include "cairn/kernels/activations.h"
#include "cairn/kernels/matmul_cache.h"
#include "cairn/kernels/norms.h"

namespace cairn {

// A matrix [out, in] with its gradient; a vector is a matrix of one row. Data may be null while a
// tape is only planned.
struct WeightRef {
  View2<float> values;
  View2<float> gradient;
  GradientRange block = {};  // the gradient's place in a block that the tape keeps
};

// What an attention node read in a forward pass, and what that left for
// AttentionMechanism::statistics(). Valid while an observer looks.
struct AttentionSeen {
  const AttentionMechanism& mechanism;
  const AttentionInputs& inputs;
  const TokenLayout& layout;
  std::span<const std::byte> saved;
};
using AttentionObserver = std::function<void(const AttentionSeen& seen)>;

// The current micro-batch, borrowed by the operations that read token ids. An encoder-decoder has
// two: the source that its encoder reads, without targets, and what its decoder writes. They have
// the same number of token rows, and as many sequences: sequence i reads source i.
struct TokenInputs {
  View1<const int32_t> tokens;   // [tokens]
  View1<const int32_t> targets;  // [tokens], kIgnoredTarget (-1) does not count
  TokenLayout layout;
  AttentionObserver observer = {};  // of every attention node, in order; empty: nobody looks
};

// What the loss operation reports: nats summed over the targets that count.
struct LossResult {
  double loss = 0;
  size_t targets = 0;
  // Of evaluation: the likeliest token at every position, until the tape runs again.
  std::span<const int32_t> answers = {};
};

// What recording needs besides the tape.
struct Recorder {
  Tape& tape;
  MatmulCache& products;
  DType compute;
  size_t longest_sequence;  // tokens that attention may span
  std::string label;        // given to every operation recorded
};

// hidden[t] = factor * table[tokens[t]], f32. The gradient is summed in token order.
Value embedding(Recorder& recorder, const TokenInputs& inputs, WeightRef table, float factor = 1);

// RMSNorm in the compute type (kernels/norms.h); computed again in backward rather than kept.
// `hidden` is f32.
Value rms_norm(Recorder& recorder, Value hidden, WeightRef weight, const NormOptions& options);

// y = [x W_0^T, x W_1^T, ...]: the outputs of several matrices side by side, in the compute type.
// Several matrices need an x whose gradient is f32 (a norm's), as each adds to it.
Value linear(Recorder& recorder, Value x, const std::vector<WeightRef>& weights);

// x + [b_0, b_1, ...], in the compute type: vectors side by side that cover the columns of x.
Value bias(Recorder& recorder, Value x, const std::vector<WeightRef>& parts);

// hidden + x W^T, f32.
Value linear_residual(Recorder& recorder, Value hidden, Value x, WeightRef weight);

// hidden + factor * branch, f32.
Value residual(Recorder& recorder, Value hidden, Value branch, float factor);

// x in f32.
Value widen(Recorder& recorder, Value x);

// act(gate) * up of gate_up = [gate, up] (kernels/activations.h); computed again in backward.
Value gated_unit(Recorder& recorder, Gate gate, Value gate_up);

// act(x), likewise.
Value activation(Recorder& recorder, Gate gate, Value x);

// The one attention node: any mechanism, known by its contract only. `qkv` holds queries, keys and
// values side by side. `x` is the normed hidden state, for mechanisms that use it.
Value attention(Recorder& recorder, const AttentionMechanism& mechanism, const TokenInputs& inputs,
                Value qkv, Value x, const std::vector<WeightRef>& parameters);

// The same node between two streams of tokens: q of `inputs`, and kv, keys and values side by side,
// of `source`. Throws Error (usage) unless the mechanism's mask is AttentionMask::cross;
// attention() refuses those whose mask is.
Value cross_attention(Recorder& recorder, const AttentionMechanism& mechanism,
                      const TokenInputs& inputs, const TokenInputs& source, Value q, Value kv,
                      const std::vector<WeightRef>& parameters);

// The LM head and its cross-entropy: logits = x head^T exist only for a block of tokens at a time.
// In training, backward computes the loss together with its gradient; in evaluation, forward does.
void cross_entropy_head(Recorder& recorder, const TokenInputs& inputs, Value x, WeightRef head,
                        LossResult& result);

}  // namespace cairn
