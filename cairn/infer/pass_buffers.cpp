#include "cairn/infer/pass_buffers.h"

#include <algorithm>

#include "cairn/infer/attention_step.h"
#include "cairn/infer/head_request.h"

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
  take_activations(widest, block);
  return block;
}

void PassBuffers::take_activations(size_t widest, TokenBlock& block) {
  for (size_t kind = 0; kind < block.activations.size(); ++kind) {
    const size_t bytes = activation_bytes(static_cast<ActivationKind>(kind), block.tokens, widest);
    block.activations[kind] = memory_.emplace_back(bytes).data();
  }
}

void PassBuffers::take_experts(const ModelConfig& config, size_t most) {
  const size_t slots = most * config.experts_per_token;
  const size_t widest = std::max(config.hidden_size, config.intermediate_size);
  router_logits = take(most, config.experts);
  expert_gated = take(slots, config.intermediate_size);
  expert_out = take(slots, config.hidden_size);
  // Full blocks, and one that is not for each expert.
  std::vector<TokenBlock> shared(slots / kBlockTokens + std::min(config.experts, slots));
  for (TokenBlock& block : shared) {
    block.tokens = std::min(kBlockTokens, most);
    take_activations(widest, block);
  }
  for (Own& mine : own) {
    mine.routes.emplace(config.experts, config.experts_per_token, most);
    mine.many_routed = shared;
    mine.first_routed.resize(config.experts + 1);
    mine.few_routed.resize(std::min(config.experts, kFewTokens * config.experts_per_token));
    for (TokenBlock& block : mine.few_routed) {
      block.tokens = kFewTokens;
      take_activations(widest, block);
    }
    mine.gathered = take(kBlockTokens, config.hidden_size);
  }
}

PassBuffers::PassBuffers(const ModelConfig& config, const AttentionGeometry& g, size_t most,
                         size_t gated_rows, size_t context, size_t tables, int threads) {
  most = std::max(most, kFewTokens);
  const size_t attended_size = g.heads * g.value_dim, part = attention_part_size(g.value_dim);
  const size_t mlp =
      config.experts > 0 ? config.shared_intermediate_size : config.intermediate_size;
  const size_t widest = std::max({config.hidden_size, attended_size, mlp});
  const size_t group = g.heads / g.kv_heads;
  qkv = take(most, g.heads * g.head_dim + g.kv_heads * (g.head_dim + g.value_dim));
  attended = take(most, attended_size);
  branch = take(most, config.hidden_size);
  gated = take(most, mlp);
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
    mine.head = take(1, kHeadLogits)[0];
    for (TopLogits& best : mine.best) best.begin(HeadRequest::kMostBest);
    mine.gate_up = take(most, 2 * gated_rows);
    mine.queries = take(kQueryTokens * group, g.head_dim);
    mine.parts = take(kQueryTokens * group, part);
    mine.spans = take(kQueryTokens * group, part);
    mine.sums = take(kQueryTokens * group, part);
    const View2<float> row = take(1, std::max({widest, part, g.head_dim}));
    mine.row = {row.data, row.cols};
  }
  if (config.experts > 0) take_experts(config, most);
}

void PassBuffers::cover(size_t tokens) {
  for (TokenBlock& block : covering(tokens))
    block.tokens = std::min(kBlockTokens, tokens - block.first);
}

}  // namespace cairn
