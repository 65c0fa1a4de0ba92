#include "cairn/infer/pass_buffers.h"

#include <algorithm>

#include "cairn/infer/attention_step.h"

namespace cairn {

View2<float> PassBuffers::take(size_t rows, size_t cols) {
  // Rows a multiple of a line apart, so that threads that write different tokens share no line.
  const size_t stride = align_up(cols, kAlignment / sizeof(float));
  AlignedBuffer& buffer = memory_.emplace_back(std::max<size_t>(1, rows * stride) * sizeof(float));
  return {buffer.as<float>().data(), rows, cols, stride};
}

TokenBlock PassBuffers::take_block(const ModelConfig& config, size_t widest, size_t tokens) {
  TokenBlock block;
  block.tokens = tokens;
  block.x = take(tokens, config.hidden_size);
  for (size_t kind = 0; kind < block.activations.size(); ++kind) {
    const size_t bytes = activation_bytes(static_cast<ActivationKind>(kind), tokens, widest);
    block.activations[kind] = memory_.emplace_back(bytes).data();
  }
  return block;
}

PassBuffers::PassBuffers(const ModelConfig& config, const AttentionGeometry& g, size_t gated_rows,
                         size_t context, size_t tables, int threads) {
  const size_t most = std::min(kMostTokens, std::max(context, kFewTokens));
  const size_t attended_size = g.heads * g.value_dim, part = attention_part_size(g.value_dim);
  const size_t widest = std::max({config.hidden_size, attended_size, config.intermediate_size});
  const size_t group = g.heads / g.kv_heads;
  qkv = take(most, g.heads * g.head_dim + g.kv_heads * (g.head_dim + g.value_dim));
  attended = take(most, attended_size);
  branch = take(most, config.hidden_size);
  gated = take(most, config.intermediate_size);
  normed = take(most, config.hidden_size);
  for (size_t i = 0; i < tables; ++i) turns.push_back(take(most, g.head_dim));
  for (size_t first = 0; first < most; first += kBlockTokens) {
    blocks.push_back(take_block(config, widest, std::min(kBlockTokens, most - first)));
    blocks.back().first = first;
  }
  chunks = (context + kAttentionChunk - 1) / kAttentionChunk;
  parts = take(kFewTokens * g.heads * chunks, part);
  own.resize(static_cast<size_t>(threads));
  for (Own& mine : own) {
    mine.few = take_block(config, widest, kFewTokens);
    mine.last = take_block(config, widest, 1);
    mine.attended = take(kFewTokens, attended_size);
    mine.gate_up = take(most, 2 * gated_rows);
    mine.queries = take(kQueryTokens * group, g.head_dim);
    mine.parts = take(kQueryTokens * group, part);
    mine.spans = take(kQueryTokens * group, part);
    mine.sums = take(kQueryTokens * group, part);
    const View2<float> row = take(1, std::max({widest, part, g.head_dim}));
    mine.row = {row.data, row.cols};
  }
}

void PassBuffers::cover(size_t tokens) {
  for (TokenBlock& block : covering(tokens))
    block.tokens = std::min(kBlockTokens, tokens - block.first);
}

}  // namespace cairn
