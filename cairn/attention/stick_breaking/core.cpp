#include "cairn/attention/stick_breaking/core.h"

#include "cairn/attention/checks.h"
#include "cairn/attention/stick_breaking/backward.h"
#include "cairn/attention/stick_breaking/forward.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

template <class T>
void check_vectors(std::string_view doing, const StickBreaking& attention,
                   const StickVectors<T>& vectors) {
  const AttentionGeometry& g = attention.geometry;
  const StickBreakingOptions& o = attention.options;
  const auto check = [&](std::string_view name, bool wanted, size_t size, size_t found) {
    check_shape(doing, name, {wanted ? size : 0}, {found});
  };
  const size_t values = g.heads * g.value_dim;
  check("remainder vectors", o.remainder == StickRemainder::head_bias, values,
        vectors.remainder.size);
  check("head norm weight", o.head_norm, values, vectors.norm_weight.size);
  check("head norm bias", o.head_norm, values, vectors.norm_bias.size);
  check("logit bias", o.logit_bias, g.heads, vectors.logit_bias.size);
}

void check_inputs(std::string_view doing, const StickBreaking& attention, const StickInputs& inputs,
                  View1<const int32_t> offsets) {
  AttentionInputs in;
  in.q = inputs.q;
  in.k = inputs.k;
  in.v = inputs.v;
  check_queries_keys_values(doing, attention.geometry, in);
  check_vectors(doing, attention, inputs.vectors);
  check_offsets(doing, offsets, inputs.q.tokens, EmptySequences::allowed);
}

template <class T>
void check_remainder(std::string_view doing, std::string_view name, View2<T> view, size_t tokens,
                     size_t heads) {
  if (view.data != nullptr) check_shape(doing, name, {tokens, heads}, {view.rows, view.cols});
}

size_t store_bytes(const StickBreaking& attention, size_t tokens, size_t longest) {
  Arena arena;
  take_store(arena, attention, tokens, longest);
  return arena.used();
}

}  // namespace

AttentionMemory stick_breaking_memory(const StickBreaking& attention, size_t tokens, size_t longest,
                                      DType dtype, int threads) {
  const TileKernel& kernel = tile_kernel_for(dtype);
  const size_t tiles = std::max<size_t>(chunk_count(longest, kTile), 1);
  return {
      .saved = store_bytes(attention, tokens, longest),
      .workspace = std::max(stick_forward_workspace(attention.geometry, kernel, tiles, threads),
                            stick_backward_workspace(attention, kernel, tokens, tiles, threads))};
}

void stick_breaking_forward(const StickBreaking& attention, const StickInputs& inputs,
                            View1<const int32_t> offsets, AnyView3 out, View2<float> remainder,
                            std::span<std::byte> saved, std::span<std::byte> workspace,
                            ThreadTeam& team) {
  constexpr std::string_view kDoing = "stick-breaking attention forward";
  const AttentionGeometry& g = attention.geometry;
  const size_t tokens = inputs.q.tokens;
  check_inputs(kDoing, attention, inputs, offsets);
  check_heads(kDoing, "out", out, tokens, g.heads, g.value_dim, inputs.q.dtype);
  check_remainder(kDoing, "remainder", remainder, tokens, g.heads);
  const size_t longest = longest_sequence(offsets);
  check_bytes(kDoing, "saved", store_bytes(attention, tokens, longest), saved.size());
  if (tokens == 0) return;
  Arena kept(saved), arena(workspace);
  const StickForwardTask task{attention, inputs, out, remainder,
                              take_store(kept, attention, tokens, longest)};
  run_stick_forward(task, offsets, arena, team);
}

void stick_breaking_backward(const StickBreaking& attention, const StickInputs& inputs,
                             View1<const int32_t> offsets, AnyView3 dout,
                             View2<const float> dremainder, std::span<const std::byte> saved,
                             const StickGradients& gradients, std::span<std::byte> workspace,
                             ThreadTeam& team) {
  constexpr std::string_view kDoing = "stick-breaking attention backward";
  const AttentionGeometry& g = attention.geometry;
  const size_t tokens = inputs.q.tokens;
  const DType dtype = inputs.q.dtype;
  check_inputs(kDoing, attention, inputs, offsets);
  check_heads(kDoing, "dout", dout, tokens, g.heads, g.value_dim, dtype);
  check_heads(kDoing, "dq", gradients.dq, tokens, g.heads, g.head_dim, dtype);
  check_heads(kDoing, "dk", gradients.dk, tokens, g.kv_heads, g.head_dim, dtype);
  check_heads(kDoing, "dv", gradients.dv, tokens, g.kv_heads, g.value_dim, dtype);
  check_vectors(kDoing, attention, gradients.vectors);
  check_remainder(kDoing, "dremainder", dremainder, tokens, g.heads);
  const size_t longest = longest_sequence(offsets);
  check_bytes(kDoing, "saved", store_bytes(attention, tokens, longest), saved.size());
  if (tokens == 0) return;
  // Backward only reads the store; the arrays are laid out as forward did.
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()}), arena(workspace);
  const StickBackwardTask task{attention,  inputs,    dout,
                               dremainder, gradients, take_store(kept, attention, tokens, longest)};
  run_stick_backward(task, offsets, arena, team);
}

AttentionStatistics stick_breaking_statistics(const StickBreaking& attention,
                                              View1<const int32_t> offsets,
                                              std::span<const std::byte> saved) {
  constexpr std::string_view kDoing = "reading attention statistics";
  const size_t tokens = offsets.empty() ? 0 : offsets[offsets.size - 1];
  check_offsets(kDoing, offsets, tokens, EmptySequences::allowed);
  const size_t longest = longest_sequence(offsets), heads = attention.geometry.heads;
  check_bytes(kDoing, "saved", store_bytes(attention, tokens, longest), saved.size());
  AttentionStatistics result;
  if (tokens == 0) return result;
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()});
  const StickStore store = take_store(kept, attention, tokens, longest);
  for (size_t head = 0; head < heads; ++head)
    for (size_t i = 0; i + 1 < offsets.size; ++i)
      for (int32_t token = offsets[i]; token < offsets[i + 1]; token += kTile) {
        const size_t tiles = (token - offsets[i]) / kTile + 1;
        result.visible += tiles;
        result.visited += tiles - store.first_tile[head * tokens + token];
      }
  double sum = 0;
  for (size_t i = 0; i < heads * tokens; ++i) sum += store.remainder[i];
  result.mean_remainder = sum / static_cast<double>(heads * tokens);
  return result;
}

}  // namespace cairn
