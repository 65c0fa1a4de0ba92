// Passes of few tokens without fusion (infer/program_parts.h): every operator is a phase of its own
// between barriers. What fusion brings is measured against this, so it does the same work with the
// same kernels; the residual stream, norms and rounded activations exist once, as in long passes.
#include <algorithm>
#include <cmath>

#include "cairn/infer/decode_walk.h"
#include "cairn/infer/residual_step.h"
#include "cairn/kernels/activations.h"

namespace cairn {

void DecodeProgram::Walk::normalize_apart(const Norm& norm, ActivationKinds kinds) {
  const ModelConfig& config = program_.config_;
  const size_t n = config.hidden_size;
  TokenBlock& block = blocks_[0];
  const auto eps = static_cast<float>(config.rms_norm_eps);
  for (size_t t = 0; fills(0) && norm.post_gain != nullptr && t < tokens_; ++t)
    add_branch_to(block.x[t].data, norm, t);
  meet();
  for (size_t t = 0; fills(0) && t < tokens_; ++t) {
    const float* x = block.x[t].data;
    const float squares = sum_of_squares(x, n);
    if (!std::isfinite(squares)) note_fault(norm.layer, t);
    const float factor = 1.0F / std::sqrt(squares / static_cast<float>(n) + eps);
    scale_by(x, factor, norm.gain.data(), n, buffers_.normed[t].data);
  }
  meet();
  store_rows(buffers_.normed, kinds, norm.input, norm.reader);
}

void DecodeProgram::Walk::append_apart(const Layer& layer) {
  for (size_t i = thread_; i < tokens_ * geometry_.kv_heads; i += threads_)
    append_token(layer, i % geometry_.kv_heads, i / geometry_.kv_heads);
  meet();
}

void DecodeProgram::Walk::gate_apart(size_t index) {
  const Layer& layer = program_.layers_[index];
  const size_t units = program_.config_.intermediate_size;
  const View2<float> both = buffers_.gate_up.rows_slice(0, tokens_);
  for (const ThreadProgram& rows : mine_)
    for (const PlannedRows& gate : rows.layers[index].mlp.gate)
      multiply(gate, blocks_, both.cols_slice(0, units), layer.gate_bias);
  meet();
  for (const ThreadProgram& rows : mine_)
    for (const PlannedRows& up : rows.layers[index].mlp.up)
      multiply(up, blocks_, both.cols_slice(units, units), layer.up_bias);
  meet();
  if (fills(0)) gated_unit(program_.config_.gate, both, buffers_.gated.rows_slice(0, tokens_));
}

}  // namespace cairn
