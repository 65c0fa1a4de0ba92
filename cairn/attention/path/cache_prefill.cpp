// Many new tokens against the cache, tile by tile of positions. First, per key head and in order of
// time: a tile is transformed, its new queries meet their own keys and, carried to the start of the
// tile, all others of the open block; then the tile's keys join them. Second, in parallel: queries
// carried to the start of their block walk the chain of closed blocks.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cairn/attention/path/cache_parts.h"
#include "cairn/attention/path/elements.h"

namespace cairn {
namespace {

// Travellers that visit closed keys together.
constexpr size_t kStrip = 16;

size_t tiles_of(size_t position, size_t tokens) {
  return chunk_count(position % kTile + tokens, kTile);
}

}  // namespace

PathCache::Scratch PathCache::take_scratch(Arena& arena, const TileKernel& kernel) const {
  Scratch s;
  s.block = take_block(arena, size_);
  s.queries = take_block_queries(arena, size_);
  s.pair = take_pair_scratch(arena, kernel);
  s.load = arena.take<float>(load_floats());
  s.next = arena.take<float>(size_.dim * kTile);
  s.keys = arena.take<uint32_t>(kernel.rows_words(size_.dim));
  s.values = arena.take<uint32_t>(kernel.paired_words(g_.value_dim));
  s.first_key = arena.take<int32_t>(kTile);
  s.last_key = arena.take<int32_t>(kTile);
  return s;
}

void PathCache::take_travellers(Arena& arena, const TileKernel& kernel, size_t count,
                                Traveller* travellers) const {
  const size_t columns = size_.dim * kTile, words = kernel.columns_words(size_.dim);
  const size_t out = kTile * padded_width(g_.value_dim);
  float* x = arena.take<float>(count * columns);
  auto* packed = arena.take<uint32_t>(count * words);
  float* gathered = arena.take<float>(count * out);
  auto* states = arena.take<OnlineSoftmax>(count);
  for (size_t i = 0; travellers != nullptr && i < count; ++i) {
    travellers[i] = {};
    travellers[i].columns = x + i * columns;
    travellers[i].packed = packed + i * words;
    travellers[i].out = gathered + i * out;
    travellers[i].state = states + i;
  }
}

size_t PathCache::prefill_workspace(size_t tokens, const TileKernel& kernel, int threads) const {
  Arena arena, one;
  const size_t count = g_.heads * (chunk_count(tokens, kTile) + 1);
  arena.take<Traveller>(count);
  take_travellers(arena, kernel, count, nullptr);
  take_scratch(one, kernel);
  return arena.used() + one.used() * threads;
}

// Scores in scratch against the keys of positions key0 on.
void PathCache::gather(const PathTask& task, Traveller& t, const void* values, size_t key0,
                       size_t keys, bool diagonal, Scratch& s) const {
  PairBias bias;
  if (!gate_.empty()) {
    const double* c = gate_.data() + t.head * capacity_;
    const double unit = attention_.options().gate_scale / attention_.scale();
    const double origin = c[t.position + t.first_row];
    std::fill_n(bias.query, kTile, 0.0F);
    std::fill_n(bias.key, kTile, 0.0F);
    for (size_t i = t.first_row; i < t.end_row; ++i)
      bias.query[i] = static_cast<float>(unit * (c[t.position + i] - origin));
    for (size_t j = 0; j < keys; ++j)
      bias.key[j] = static_cast<float>(unit * (origin - c[key0 + j]));
  }
  if (diagonal)
    for (size_t i = 0; i < kTile; ++i) {
      const bool is_new = i >= t.first_row && i < t.end_row;
      s.first_key[i] = is_new ? 0 : std::numeric_limits<int32_t>::max();
      s.last_key[i] = is_new ? static_cast<int32_t>(i) : -1;
    }
  gather_weighted(task,
                  {.queries = t.end_row,
                   .keys = align_up(keys, 2),
                   .mask = {s.first_key, s.last_key, 0, diagonal},
                   .bias = gate_.empty() ? nullptr : &bias,
                   .diagonal = diagonal},
                  values, {t.out, t.state, t.fresh}, s.pair);
  t.fresh = false;
}

// The same for a tile of keys, packed in scratch.
void PathCache::meet(const PathTask& task, Traveller& t, size_t key0, Scratch& s) const {
  task.kernel->product({.rows = kTile,
                        .columns = align_up(t.end_row, kWidth),
                        .depth = task.kernel->depth(size_.dim),
                        .a = s.keys,
                        .a_row = task.kernel->row_words(size_.dim),
                        .a_depth = 1,
                        .b = t.packed,
                        .b_depth = kTile,
                        .c = s.pair.scores,
                        .c_row = kTile,
                        .accumulate = false});
  gather(task, t, s.values, key0, kTile, false, s);
}

void PathCache::pack_columns(const PathTask& task, const Traveller& t) const {
  if (task.kernel->pair == 2)
    pair_columns(t.columns, size_.dim, t.packed);
  else
    std::memcpy(t.packed, t.columns, size_.dim * kTile * sizeof(float));
}

// x <- P x for P^T in rows.
void PathCache::carry(Traveller& t, const float* product, Scratch& s) const {
  multiply(f32_tile_kernel(), {size_.dim, kTile, size_.dim}, transposed(product, size_.width),
           {t.columns, kTile}, {s.next, kTile});
  std::memcpy(t.columns, s.next, size_.dim * kTile * sizeof(float));
}

// The travellers of one key head in the tile from `position` on, one a query head; rows of q from
// `token` on are their queries.
void PathCache::enter_tile(const PathTask& task, const AnyView3& q, size_t token,
                           std::span<Traveller> travellers, size_t position, Scratch& s) {
  const TileKernel& f32 = *task.f32;
  const size_t first = travellers[0].first_row, end = travellers[0].end_row;
  const size_t head = travellers[0].head / group_, block = position / kCacheBlock;
  const size_t carried = position % kCacheBlock, value_dim = g_.value_dim;
  const Open now = open(head, block);
  const auto pack_values = [&](size_t key0, size_t count) {
    load_tile(View2<float>(now.values + (key0 % kCacheBlock) * value_dim, count, value_dim), {},
              s.load);
    task.kernel->to_paired(s.load, value_dim, s.values);
  };
  make_block(history_inputs(), size_,
             {static_cast<int32_t>(slot(position)), static_cast<int32_t>(end), 0}, head, f32,
             s.block);
  pack_values(position, end);
  for (Traveller& t : travellers) {
    std::fill_n(t.state->maximum, kTile, std::numeric_limits<float>::lowest());
    std::fill_n(t.state->sum, kTile, 0.0F);
    make_block_queries(tile_rows(q, token, end - first, t.head), first, size_, f32, s.block,
                       s.queries);
    block_scores(size_, f32, s.block, s.queries, s.pair.scores);
    gather(task, t, s.values, position, end, true, s);
    carried_query_columns(size_, f32, s.block, s.queries, t.columns);
    pack_columns(task, t);
  }
  for (size_t row = 0; row < carried; row += kTile) {
    task.kernel->to_rows(now.keys + row * size_.width, size_.dim, s.keys);
    pack_values(row, kTile);
    for (Traveller& t : travellers) meet(task, t, position - carried + row, s);
  }
  if (carried != 0)
    for (Traveller& t : travellers) carry(t, now.transposed, s);
  if (end == kTile) close_tile(head, position + kTile, s.block, s.load);
}

// Closed blocks, from the newest to the oldest.
void PathCache::visit_closed(const PathTask& task, std::span<Traveller*> travellers, Scratch& s) {
  const size_t head = travellers[0]->head / group_;
  size_t most = 0;
  for (Traveller* t : travellers) {
    most = std::max(most, t->position / kCacheBlock);
    pack_columns(task, *t);
  }
  for (size_t block = most; block-- > 0;) {
    for (size_t row = 0; row < kCacheBlock; row += kTile) {
      const size_t key0 = block * kCacheBlock + row;
      load_tile(closed_keys(head, key0, kTile), {}, s.load);
      task.kernel->to_rows(s.load, size_.dim, s.keys);
      load_tile(closed_values(head, key0, kTile), {}, s.load);
      task.kernel->to_paired(s.load, g_.value_dim, s.values);
      for (Traveller* t : travellers)
        if (block < t->position / kCacheBlock) meet(task, *t, key0, s);
    }
    for (Traveller* t : travellers)
      if (block != 0 && block < t->position / kCacheBlock) {
        carry(*t, closed_product(head, block), s);
        pack_columns(task, *t);
      }
  }
}

void PathCache::leave(const Traveller& t, const AnyView3& out) const {
  const size_t width = padded_width(g_.value_dim), rows = t.end_row - t.first_row;
  for (size_t row = t.first_row; row < t.end_row; ++row)
    for (size_t i = 0; i < width; ++i) t.out[row * width + i] /= t.state->sum[row];
  const size_t token = t.position + t.first_row - length_;
  unload_tile(t.out + t.first_row * width, 1.0F, {}, tile_rows(out, token, rows, t.head));
}

void PathCache::attend_many(const AnyView3& q, const FrontRows& rows, const AttentionInputs& inputs,
                            const AnyView3& out, Arena arena, ThreadTeam& team) {
  const size_t tokens = q.tokens, tiles = tiles_of(length_, tokens), first = length_ / kTile;
  PathTask task;
  task.size = size_;
  task.scale = attention_.scale();
  task.value_dim = g_.value_dim;
  task.value_width = padded_width(g_.value_dim);
  task.f32 = &f32_tile_kernel();
  task.kernel = &tile_kernel_for(inputs.q.dtype);
  task.steps = task.kernel->pair == 1 ? &f32_softmax_steps() : &bf16_softmax_steps();
  // [head][tile][member]
  auto* travellers = arena.take<Traveller>(g_.heads * tiles);
  take_travellers(arena, *task.kernel, g_.heads * tiles, travellers);
  Arena one;
  take_scratch(one, *task.kernel);
  const auto scratch = [&](int thread) {
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, *task.kernel);
  };
  team.run(g_.kv_heads, [&](size_t head, int thread) {
    Scratch s = scratch(thread);
    for (size_t n = 0; n < tiles; ++n) {
      const size_t position = (first + n) * kTile;
      const size_t begin = std::max(position, length_);
      const size_t end = std::min(position + kTile, length_ + tokens);
      remember(inputs, rows, head, begin - length_, end - begin, begin, s.load);
      const std::span<Traveller> here(travellers + (head * tiles + n) * group_, group_);
      for (size_t member = 0; member < group_; ++member) {
        here[member].head = head * group_ + member;
        here[member].position = position;
        here[member].first_row = begin - position;
        here[member].end_row = end - position;
      }
      enter_tile(task, q, begin - length_, here, position, s);
    }
  });
  const size_t each = tiles * group_, strips = chunk_count(each, kStrip);
  team.run(g_.kv_heads * strips, [&](size_t chunk, int thread) {
    Scratch s = scratch(thread);
    const size_t head = chunk % g_.kv_heads, begin = (strips - 1 - chunk / g_.kv_heads) * kStrip;
    const size_t count = std::min(kStrip, each - begin);
    Traveller* strip[kStrip];
    for (size_t i = 0; i < count; ++i) strip[i] = travellers + head * each + begin + i;
    visit_closed(task, {strip, count}, s);
    for (size_t i = 0; i < count; ++i) leave(*strip[i], out);
  });
}

}  // namespace cairn
