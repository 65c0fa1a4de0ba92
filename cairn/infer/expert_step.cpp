// The mixture of experts of a decode pass. Every thread multiplies its rows of every expert that a
// token of the pass has chosen, by all of the expert's tokens. Short passes gather and round the
// tokens thread by thread, long ones block by block with a barrier behind.
#include <algorithm>

#include "cairn/infer/decode_walk.h"

namespace cairn {

void DecodeProgram::Walk::choose_experts(size_t layer) {
  for (const ThreadProgram& rows : mine_)
    multiply(rows.layers[layer].router, blocks_, buffers_.router_logits, {});
  meet();
  own_.routes->route(buffers_.router_logits.rows_slice(0, tokens_));
  std::vector<TokenBlock>& blocks = few() ? own_.few_routed : own_.many_routed;
  const size_t most = few() ? kFewTokens : PassBuffers::kBlockTokens;
  own_.first_routed[0] = 0;
  for (size_t e = 0, next = 0; e < program_.config_.experts; ++e) {
    const size_t count = own_.routes->count(e);
    for (size_t at = 0; at < count; at += most, ++next) {
      blocks[next].first = at;
      blocks[next].tokens = std::min(most, count - at);
    }
    own_.first_routed[e + 1] = next;
  }
}

std::span<TokenBlock> DecodeProgram::Walk::blocks_of(size_t expert) {
  const size_t begin = own_.first_routed[expert], end = own_.first_routed[expert + 1];
  return std::span(few() ? own_.few_routed : own_.many_routed).subspan(begin, end - begin);
}

// `rows` are the tokens' where gates and ups read them, else the slots'.
void DecodeProgram::Walk::store_routed(View2<const float> rows, ActivationKinds kinds,
                                       ProductInput input, size_t layer) {
  note_routed_squares(rows, input, layer);
  const bool gather = input == ProductInput::experts_gate_up;
  const ExpertRoutes& routes = *own_.routes;
  size_t index = 0;
  for (size_t e = 0; e < program_.config_.experts; ++e)
    for (TokenBlock& block : blocks_of(e)) {
      if (!fills(index++)) continue;
      const size_t slot = routes.first[e] + block.first;
      View2<const float> from = rows.rows_slice(gather ? 0 : slot, block.tokens);
      for (size_t t = 0; gather && t < block.tokens; ++t) {
        const View1<const float> row = rows[routes.tokens[slot + t]];
        std::copy(row.begin(), row.end(), own_.gathered[t].data);
      }
      if (gather) from = own_.gathered.rows_slice(0, block.tokens);
      store({from, {}, {}}, block, kinds, layer, &routes.tokens[slot]);
    }
  meet_if_shared();
}

// Each expert's by one thread, in the order of its tokens.
void DecodeProgram::Walk::note_routed_squares(View2<const float> rows, ProductInput input,
                                              size_t layer) {
  if (pass_.squares == nullptr) return;
  const ExpertRoutes& routes = *own_.routes;
  for (size_t e = thread_; e < program_.config_.experts; e += threads_)
    for (size_t slot = routes.first[e]; slot < routes.first[e + 1]; ++slot) {
      const size_t row = input == ProductInput::experts_gate_up ? routes.tokens[slot] : slot;
      pass_.squares->add(layer, input, e, {rows.rows_slice(row, 1), {}, {}});
    }
}

void DecodeProgram::Walk::gate_experts(size_t layer) {
  choose_experts(layer);
  store_routed(buffers_.normed, program_.plan_.kinds(layer).experts_gate_up,
               ProductInput::experts_gate_up, layer);
  const ExpertRoutes& routes = *own_.routes;
  for (const ThreadProgram& rows : mine_)
    for (size_t e = 0; e < program_.config_.experts; ++e)
      if (routes.count(e) > 0)
        gate(rows.layers[layer].experts[e], program_.layers_[layer], blocks_of(e),
             buffers_.expert_gated.rows_slice(routes.first[e], routes.count(e)));
}

void DecodeProgram::Walk::add_experts(size_t layer) {
  store_routed(buffers_.expert_gated, program_.plan_.kinds(layer).experts_down,
               ProductInput::experts_down, layer);
  for (const ThreadProgram& rows : mine_) add_experts(rows.layers[layer].experts);
}

void DecodeProgram::Walk::add_experts(std::span<const ThreadMlp> experts) {
  const ExpertRoutes& routes = *own_.routes;
  for (size_t e = 0; e < experts.size(); ++e)
    if (routes.count(e) > 0)
      multiply(experts[e].down, blocks_of(e),
               buffers_.expert_out.rows_slice(routes.first[e], routes.count(e)), {});
  // All experts have the same rows here, so nobody else writes these columns.
  const size_t first = experts[0].down.first, rows = experts[0].down.tiles.rows;
  const bool shared = program_.config_.shared_intermediate_size > 0;
  for (size_t t = 0; t < tokens_; ++t) {
    const View1<float> sum = buffers_.branch[t];
    if (!shared) std::fill_n(sum.data + first, rows, 0.0F);
    for (size_t i = t * routes.per_token; i < (t + 1) * routes.per_token; ++i) {
      const float weight = routes.weights[i];
      const View1<const float> out = buffers_.expert_out[routes.slots[i]];
      for (size_t r = first; r < first + rows; ++r) sum[r] += weight * out[r];
    }
  }
}

}  // namespace cairn
