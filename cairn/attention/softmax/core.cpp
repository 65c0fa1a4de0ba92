#include "cairn/attention/softmax/core.h"

#include <algorithm>

#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/backward.h"
#include "cairn/attention/softmax/forward.h"
#include "cairn/attention/softmax/prune.h"
#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// What forward leaves for backward.
struct Saved {
  float* log2_sum = nullptr;      // [heads, tokens]
  int32_t* first_tile = nullptr;  // [heads, tiles], only with potentials
};

Saved take_saved(Arena& arena, const SoftmaxCore& core, size_t tokens) {
  const size_t heads = core.geometry.heads;
  Saved saved;
  saved.log2_sum = arena.take<float>(heads * tokens);
  if (core.biased) saved.first_tile = arena.take<int32_t>(heads * most_tiles(tokens));
  return saved;
}

// The plan of a call and, beside a window, where sequences begin.
struct Plan {
  TilePlan tiles;
  int32_t* sequence_slot = nullptr;  // [slots]
  float* scratch = nullptr;          // of prune.h
};

// For some queries and keys: one number but in cross-attention.
size_t tiles_of(const SoftmaxCore& core, size_t tokens, size_t keys) {
  return most_tiles(core.mask == AttentionMask::cross ? tokens + keys : tokens);
}

Plan take_plan_for(Arena& arena, const SoftmaxCore& core, size_t tiles) {
  Plan plan;
  plan.tiles =
      core.mask == AttentionMask::cross ? take_cross_plan(arena, tiles) : take_plan(arena, tiles);
  if (core.biased) {
    plan.sequence_slot = arena.take<int32_t>(tiles * kTile);
    plan.scratch = arena.take<float>(prune_scratch(core.geometry, tiles));
  }
  return plan;
}

Plan make_plan(Arena& arena, const SoftmaxCore& core, const TokenLayout& layout, size_t tokens,
               size_t keys) {
  Plan plan = take_plan_for(arena, core, tiles_of(core, tokens, keys));
  if (core.mask == AttentionMask::cross) {
    fill_cross_plan(plan.tiles, layout.offsets, layout.key_offsets);
    return plan;
  }
  fill_plan(plan.tiles, layout.offsets);
  if (core.mask == AttentionMask::bidirectional) see_whole_sequences(plan.tiles);
  if (core.biased) std::copy_n(plan.tiles.first_key, plan.tiles.slots(), plan.sequence_slot);
  if (core.window > 0) narrow_to_window(plan.tiles, core.window);
  return plan;
}

ScorePotentials potentials_of(Potentials potentials, const Plan& plan, size_t tokens) {
  return {.queries = potentials,
          .keys = potentials,
          .query_stride = tokens,
          .key_stride = tokens,
          .sequence_slot = plan.sequence_slot};
}

void check_inputs(std::string_view doing, const SoftmaxCore& core, const AttentionInputs& inputs,
                  const TokenLayout& layout) {
  check_queries_keys_values(doing, core.geometry, inputs, core.mask);
  if (core.mask == AttentionMask::cross)
    check_cross_layout(doing, layout, inputs.q.tokens, inputs.k.tokens);
  else
    check_layout(doing, layout, inputs.q.tokens, EmptySequences::allowed);
}

}  // namespace

void narrow_to_window(TilePlan& plan, size_t window) {
  const auto keys = static_cast<int32_t>(std::min<size_t>(window, INT32_MAX));
  for (size_t slot = 0; slot < plan.slots(); ++slot)
    if (plan.last_key[slot] >= 0)  // not padding
      plan.first_key[slot] = std::max(plan.first_key[slot], plan.last_key[slot] - (keys - 1));
  for (size_t t = 0; t < plan.tiles; ++t) plan.tile[t].first_key = plan.first_key[t * kTile];
}

AttentionMemory softmax_memory(const SoftmaxCore& core, size_t tokens, DType dtype, int threads) {
  const TileKernel& kernel = tile_kernel_for(dtype);
  const size_t tiles = tiles_of(core, tokens, tokens);
  Arena plan, saved;
  take_plan_for(plan, core, tiles);
  take_saved(saved, core, tokens);
  const size_t passes = most_up_to(tiles, [&](size_t t) {
    return std::max(forward_workspace(core.geometry, kernel, t, threads),
                    backward_workspace(core.geometry, kernel, t, threads));
  });
  return {.saved = saved.used(), .workspace = plan.used() + passes};
}

void softmax_forward(std::string_view doing, const SoftmaxCore& core, const AttentionInputs& inputs,
                     Potentials potentials, const TokenLayout& layout, AnyView3 out,
                     std::span<std::byte> saved, std::span<std::byte> workspace, ThreadTeam& team,
                     const ScoreBias* bias) {
  const AttentionGeometry& g = core.geometry;
  const size_t tokens = inputs.q.tokens;
  check_inputs(doing, core, inputs, layout);
  check_heads(doing, "out", out, tokens, g.heads, g.value_dim, inputs.q.dtype);
  check_bytes(doing, "saved", softmax_memory(core, tokens, inputs.q.dtype, 1).saved, saved.size());
  if (tokens == 0) return;
  Arena arena(workspace), kept(saved);
  const Plan plan = make_plan(arena, core, layout, tokens, inputs.k.tokens);
  const Saved keep = take_saved(kept, core, tokens);
  const ScorePotentials given = potentials_of(potentials, plan, tokens);
  const PotentialBias potential_bias(given);
  ForwardTask task;
  task.q = inputs.q;
  task.k = inputs.k;
  task.v = inputs.v;
  task.out = out;
  task.rotate_q = task.rotate_k = {core.rotary, layout.positions.data};
  task.scale = g.scale;
  task.bias = core.biased ? &potential_bias : bias;
  task.plan = plan.tiles;
  task.query_tiles = task.plan.tiles;
  task.query_tile = task.plan.tile;
  task.first_key = task.plan.first_key;
  task.last_key = task.plan.last_key;
  task.log2_sum = keep.log2_sum;
  task.first_tile = keep.first_tile;
  if (core.biased)
    find_first_tiles({.q = inputs.q,
                      .k = inputs.k,
                      .scale = g.scale,
                      .potentials = given,
                      .plan = task.plan,
                      .query_tiles = task.query_tiles,
                      .query_tile = task.query_tile},
                     g, plan.scratch, keep.first_tile, team);
  run_forward(task, g, tile_kernel_for(inputs.q.dtype), arena, team);
}

void softmax_backward(std::string_view doing, const SoftmaxCore& core,
                      const AttentionInputs& inputs, Potentials potentials,
                      const TokenLayout& layout, AnyView3 out, AnyView3 dout,
                      std::span<const std::byte> saved, const AttentionGradients& gradients,
                      double* dpotential, std::span<std::byte> workspace, ThreadTeam& team,
                      const ScoreBias* bias) {
  const AttentionGeometry& g = core.geometry;
  const size_t tokens = inputs.q.tokens, keys = inputs.k.tokens;
  const DType dtype = inputs.q.dtype;
  check_inputs(doing, core, inputs, layout);
  check_heads(doing, "out", out, tokens, g.heads, g.value_dim, dtype);
  check_heads(doing, "dout", dout, tokens, g.heads, g.value_dim, dtype);
  check_heads(doing, "dq", gradients.dq, tokens, g.heads, g.head_dim, dtype);
  check_heads(doing, "dk", gradients.dk, keys, g.kv_heads, g.head_dim, dtype);
  check_heads(doing, "dv", gradients.dv, keys, g.kv_heads, g.value_dim, dtype);
  check_bytes(doing, "saved", softmax_memory(core, tokens, dtype, 1).saved, saved.size());
  if (tokens + keys == 0) return;
  Arena arena(workspace);
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()});
  const Plan plan = make_plan(arena, core, layout, tokens, keys);
  const Saved keep = take_saved(kept, core, tokens);
  ScorePotentials given = potentials_of(potentials, plan, tokens);
  given.gradients = dpotential;
  const PotentialBias potential_bias(given);
  BackwardTask task;
  task.q = inputs.q;
  task.k = inputs.k;
  task.v = inputs.v;
  task.out = out;
  task.dout = dout;
  task.dq = gradients.dq;
  task.dk = gradients.dk;
  task.dv = gradients.dv;
  task.rotary = {core.rotary, layout.positions.data};
  task.scale = g.scale;
  task.bias = core.biased ? &potential_bias : bias;
  task.plan = plan.tiles;
  task.first_tile = keep.first_tile;
  task.log2_sum = keep.log2_sum;
  if (dpotential != nullptr) std::fill_n(dpotential, g.heads * tokens, 0.0);
  run_backward(task, g, tile_kernel_for(dtype), arena, team);
}

std::optional<AttentionStatistics> softmax_statistics(const SoftmaxCore& core,
                                                      const TokenLayout& layout,
                                                      std::span<const std::byte> saved) {
  if (!core.biased) return std::nullopt;
  AttentionStatistics statistics;
  const size_t tokens = layout.offsets[layout.offsets.size - 1];
  if (tokens == 0) return statistics;
  Arena sizes;
  take_plan_for(sizes, core, tiles_of(core, tokens, tokens));
  AlignedBuffer memory(sizes.used());
  Arena arena({memory.data(), memory.size()});
  Arena kept({const_cast<std::byte*>(saved.data()), saved.size()});
  const TilePlan plan = make_plan(arena, core, layout, tokens, tokens).tiles;
  const int32_t* first_tile = take_saved(kept, core, tokens).first_tile;
  for (size_t head = 0; head < core.geometry.heads; ++head) {
    for (size_t t = 0; t < plan.tiles; ++t) {
      const size_t first = plan.tile[t].first_key / kTile;
      statistics.visible += t + 1 - first;
      statistics.visited += t + 1 - std::max<size_t>(first, first_tile[head * plan.tiles + t]);
    }
  }
  return statistics;
}

}  // namespace cairn
