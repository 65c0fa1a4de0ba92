#include "cairn/attention/stick_breaking/forward.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cairn/attention/stick_breaking/rows.h"
#include "cairn/attention/stick_breaking/steps.h"
#include "cairn/attention/tile_pair.h"

namespace cairn {
namespace {

// Packed keys and values of one sequence, for a batch of key heads: [head][tile][...] in words.
struct PackedKeys {
  uint32_t* keys = nullptr;    // rows form
  uint32_t* values = nullptr;  // paired form
  size_t tiles = 0;

  size_t index(size_t slot, size_t tile) const { return slot * tiles + tile; }
};

// A tile of queries and what it has gathered so far.
struct Queries {
  size_t tile = 0;  // of the passage
  size_t rows = 0;
  size_t place = 0;            // of the first row in its sequence
  size_t first_tile = 0;       // of keys: the oldest that was visited
  bool done = false;           // no stick is left
  uint32_t* packed = nullptr;  // columns form
  float* out = nullptr;        // [kTile][width of v]
  double* stick = nullptr;     // [kTile] what is left; of padding 0

  size_t last_tile() const { return (place + rows - 1) / kTile; }
};

// Query tiles of one head that walk over the keys together: a tile of keys comes from far away
// once and is used kStrip times.
constexpr size_t kStrip = 4;

// One thread's scratch.
struct Scratch {
  float* load = nullptr;        // [kTile][width of q or v]
  float* scores = nullptr;      // [kTile keys][kTile queries]
  uint32_t* weights = nullptr;  // left operand; the scores themselves in f32
  float* stick = nullptr;       // [kTile]
  float* consumed = nullptr;    // [kTile]
  float* product = nullptr;     // [kTile]
  std::array<Queries, kStrip> strip;
};

Scratch take_scratch(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel) {
  Scratch s;
  s.load = arena.take<float>(kTile * padded_width(std::max(g.head_dim, g.value_dim)));
  s.scores = arena.take<float>(kTile * kTile);
  s.weights = kernel.pair == 1 ? reinterpret_cast<uint32_t*>(s.scores)
                               : arena.take<uint32_t>(kTile / 2 * kTile);
  s.stick = arena.take<float>(kTile);
  s.consumed = arena.take<float>(kTile);
  s.product = arena.take<float>(kTile);
  for (Queries& queries : s.strip) {
    queries.packed = arena.take<uint32_t>(kernel.columns_words(g.head_dim));
    queries.out = arena.take<float>(kTile * padded_width(g.value_dim));
    queries.stick = arena.take<double>(kTile);
  }
  return s;
}

PackedKeys take_keys(Arena& arena, const AttentionGeometry& g, const TileKernel& kernel,
                     size_t tiles, size_t heads) {
  return {arena.take<uint32_t>(heads * tiles * kernel.rows_words(g.head_dim)),
          arena.take<uint32_t>(heads * tiles * kernel.paired_words(g.value_dim)), tiles};
}

class Forward {
 public:
  Forward(const StickForwardTask& task, const StickPassage& passage, const TileKernel& kernel,
          PackedKeys packed)
      : task_(task),
        g_(task.attention.geometry),
        passage_(passage),
        kernel_(kernel),
        steps_(kernel.pair == 1 ? f32_stick_steps() : bf16_stick_steps()),
        packed_(packed),
        stride_(stick_stride(passage.key_tiles())),
        row_end_{task.attention, task.inputs.v, task.inputs.vectors} {}

  // Packs tile `t` of the keys of key head `head` as head `slot` of the batch.
  void pack(size_t slot, size_t head, size_t t, const Scratch& s) const;
  // Query tiles [first, first + count) of one head, whose key head is `slot` of the batch.
  void attend(size_t slot, size_t head, size_t first, size_t count, Scratch& s) const;

 private:
  void begin(size_t head, size_t tile, Queries& queries, const Scratch& s) const;
  TilePair pair_of(size_t head, size_t key_tile, const Queries& queries) const;
  GateRule gate(size_t head, const Queries& queries, size_t key_tile, size_t keys) const;
  void visit(size_t slot, size_t head, size_t key_tile, Queries& queries, const Scratch& s) const;
  void enter(size_t head, size_t key_tile, const Queries& queries, const Scratch& s) const;
  void leave(size_t key_tile, Queries& queries, const Scratch& s) const;
  void finish(size_t head, const Queries& queries, const Scratch& s) const;

  const StickForwardTask& task_;
  const AttentionGeometry& g_;
  const StickPassage& passage_;
  const TileKernel& kernel_;
  const StickSteps& steps_;
  const PackedKeys packed_;
  size_t stride_;
  RowEnd row_end_;
};

void Forward::pack(size_t slot, size_t head, size_t t, const Scratch& s) const {
  const size_t at = packed_.index(slot, t), token = passage_.key + t * kTile;
  const size_t tokens = std::min(kTile, passage_.keys - t * kTile);
  load_tile(tile_rows(task_.inputs.k, token, tokens, head), {}, s.load);
  kernel_.to_rows(s.load, g_.head_dim, packed_.keys + at * kernel_.rows_words(g_.head_dim));
  load_tile(tile_rows(task_.inputs.v, token, tokens, head), {}, s.load);
  kernel_.to_paired(s.load, g_.value_dim, packed_.values + at * kernel_.paired_words(g_.value_dim));
}

void Forward::begin(size_t head, size_t tile, Queries& queries, const Scratch& s) const {
  queries.tile = tile;
  queries.rows = std::min(kTile, passage_.queries - tile * kTile);
  queries.place = passage_.keys - passage_.queries + tile * kTile;
  queries.first_tile = 0;
  queries.done = false;
  const size_t token = passage_.query + tile * kTile;
  load_tile(tile_rows(task_.inputs.q, token, queries.rows, head), {}, s.load);
  kernel_.to_columns(s.load, g_.head_dim, queries.packed);
  std::fill_n(queries.stick, kTile, 0.0);
  std::fill_n(queries.stick, queries.rows, 1.0);
}

TilePair Forward::pair_of(size_t head, size_t key_tile, const Queries& queries) const {
  const size_t key0 = key_tile * kTile;
  TilePair pair;
  pair.head = head;
  pair.query_tile = queries.tile;
  pair.key_tile = key_tile;
  pair.queries = queries.rows;
  pair.keys = std::min(kTile, align_up(queries.place + queries.rows - key0, 2));
  pair.diagonal = key0 == queries.place;
  return pair;
}

GateRule Forward::gate(size_t head, const Queries& queries, size_t key_tile, size_t keys) const {
  const StickBreakingOptions& options = task_.attention.options;
  const View1<const float>& bias = task_.inputs.vectors.logit_bias;
  const auto ahead = static_cast<int32_t>(queries.place - key_tile * kTile);
  const int32_t shift = options.attend_current ? ahead : ahead - 1;
  return {.factor = g_.scale * kLogitToExponent,
          .offset = bias.empty() ? 0 : bias[head] * kLogitToExponent,
          .floor = options.gate_floor,
          .shift = shift,
          .restricted = shift < static_cast<int32_t>(keys) - 1 || options.gate_floor > 0};
}

// The sticks as they are before a tile of keys.
void Forward::enter(size_t head, size_t key_tile, const Queries& queries, const Scratch& s) const {
  std::copy_n(queries.stick, kTile, s.stick);
  const bool kept = key_tile == queries.last_tile() || (key_tile + 1) % stride_ == 0;
  if (task_.store.sticks == nullptr || !kept) return;
  std::copy_n(s.stick, queries.rows,
              task_.store.sticks_of(head, passage_.query, queries.tile, queries.rows,
                                    key_tile / stride_, stride_));
}

// What the tile of keys has left of them.
void Forward::leave(size_t key_tile, Queries& queries, const Scratch& s) const {
  const double threshold = task_.attention.options.exit_threshold;
  bool any = threshold == 0;
  for (size_t row = 0; row < kTile; ++row) {
    queries.stick[row] *= share_left(s.consumed[row], s.product[row]);
    any |= !(queries.stick[row] <= threshold);  // NaN goes on
  }
  queries.first_tile = key_tile;
  queries.done = !any;
}

void Forward::visit(size_t slot, size_t head, size_t key_tile, Queries& queries,
                    const Scratch& s) const {
  const TilePair pair = pair_of(head, key_tile, queries);
  const size_t at = packed_.index(slot, key_tile);
  multiply_scores(kernel_, pair, g_.head_dim, packed_.keys + at * kernel_.rows_words(g_.head_dim),
                  queries.packed, false, s.scores);
  enter(head, key_tile, queries, s);
  std::fill_n(s.consumed, kTile, 0.0F);  // of the columns beyond
  steps_.attend({.scores = s.scores,
                 .keys = pair.keys,
                 .columns = pair.columns(),
                 .gate = gate(head, queries, key_tile, pair.keys),
                 .stick = s.stick,
                 .consumed = s.consumed,
                 .product = s.product,
                 .weights = s.weights});
  multiply_values(kernel_, pair, g_.value_dim, s.weights,
                  packed_.values + at * kernel_.paired_words(g_.value_dim),
                  key_tile != queries.last_tile(), queries.out);
  leave(key_tile, queries, s);
}

void Forward::finish(size_t head, const Queries& queries, const Scratch& s) const {
  const size_t token = passage_.query + queries.tile * kTile, rows = queries.rows;
  const StickStore& store = task_.store;
  std::copy_n(queries.stick, kTile, s.stick);
  row_end_.add_remainder(passage_.key + queries.place, rows, head, s.stick, queries.out, s.load);
  const size_t at = head * store.tokens + token;
  float* unnormed = store.unnormed == nullptr ? nullptr : store.unnormed + at * g_.value_dim;
  row_end_.normalize(rows, head, queries.out, unnormed);
  unload_tile(queries.out, 1.0F, {}, tile_rows(task_.out, token, rows, head));
  if (store.remainder != nullptr) std::copy_n(s.stick, rows, store.remainder + at);
  if (store.first_tile != nullptr) store.first_tile[at] = static_cast<int32_t>(queries.first_tile);
  if (task_.remainder.empty()) return;
  for (size_t row = 0; row < rows; ++row) task_.remainder[token + row][head] = s.stick[row];
}

void Forward::attend(size_t slot, size_t head, size_t first, size_t count, Scratch& s) const {
  for (size_t i = 0; i < count; ++i) begin(head, first + i, s.strip[i], s);
  bool any = true;
  for (size_t t = s.strip[count - 1].last_tile() + 1; any && t-- > 0;) {
    any = false;
    for (size_t i = 0; i < count; ++i) {
      Queries& queries = s.strip[i];
      if (!queries.done && t <= queries.last_tile()) visit(slot, head, t, queries, s);
      any |= !queries.done;
    }
  }
  for (size_t i = 0; i < count; ++i) finish(head, s.strip[i], s);
}

// Query tiles of one unit of work: as many as leave enough units for many threads.
size_t strip_length(size_t query_tiles, size_t heads) {
  constexpr size_t kUnits = 64;
  return std::clamp<size_t>(query_tiles * heads / kUnits, 1, kStrip);
}

// A key head of a short sequence in one unit of work.
void run_whole(const StickForwardTask& task, View1<const int32_t> offsets, size_t whole,
               const TileKernel& kernel, const Arena& arena, ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const size_t group = g.heads / g.kv_heads;
  const auto take = [&](Arena& own) {
    return std::pair(take_keys(own, g, kernel, kWholeTiles, 1), take_scratch(own, g, kernel));
  };
  Arena one;
  take(one);
  team.run((offsets.size - 1) * g.kv_heads, [&](size_t chunk, int thread) {
    const size_t sequence = chunk / g.kv_heads, kv_head = chunk % g.kv_heads;
    const size_t token = offsets[sequence], tokens = offsets[sequence + 1] - token;
    const size_t tiles = chunk_count(tokens, kTile);
    if (tokens == 0 || tiles > whole) return;
    Arena own = arena;
    own.take<std::byte>(one.used() * thread);
    auto [packed, scratch] = take(own);
    const StickPassage passage{token, tokens, token, tokens};
    const Forward forward(task, passage, kernel, packed);
    for (size_t t = 0; t < tiles; ++t) forward.pack(0, kv_head, t, scratch);
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
      for (size_t t = 0; t < tiles; t += kStrip)
        forward.attend(0, head, t, std::min(kStrip, tiles - t), scratch);
  });
}

}  // namespace

// Key heads in batches: all tiles are packed, then strips of queries attend to them.
void run_stick_passage(const StickForwardTask& task, const StickPassage& passage, Arena& arena,
                       ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const TileKernel& kernel = tile_kernel_for(task.inputs.q.dtype);
  const size_t tiles = passage.key_tiles(), group = g.heads / g.kv_heads;
  const size_t batch = stick_head_batch(g.kv_heads, tiles);
  Arena space = arena;
  const Forward forward(task, passage, kernel, take_keys(space, g, kernel, tiles, batch));
  Arena one;
  take_scratch(one, g, kernel);
  const auto scratch = [&](int thread) {
    Arena own = space;
    own.take<std::byte>(one.used() * thread);
    return take_scratch(own, g, kernel);
  };
  for (size_t first = 0; first < g.kv_heads; first += batch) {
    const size_t heads = std::min(batch, g.kv_heads - first);
    team.run(heads * tiles, [&](size_t chunk, int thread) {
      forward.pack(chunk / tiles, first + chunk / tiles, chunk % tiles, scratch(thread));
    });
    // Later queries have more keys: they come first, so that no long strip is left last.
    const size_t query_heads = heads * group;
    const size_t length = strip_length(passage.query_tiles(), query_heads);
    const size_t strips = chunk_count(passage.query_tiles(), length);
    team.run(strips * query_heads, [&](size_t chunk, int thread) {
      const size_t head = chunk % query_heads, begin = (strips - 1 - chunk / query_heads) * length;
      Scratch own = scratch(thread);
      forward.attend(head / group, first * group + head, begin,
                     std::min(length, passage.query_tiles() - begin), own);
    });
  }
}

size_t stick_forward_workspace(const AttentionGeometry& g, const TileKernel& kernel, size_t tiles,
                               int threads) {
  Arena shared, own;
  take_keys(shared, g, kernel, most_batch_tiles(g.kv_heads, tiles), 1);
  take_scratch(own, g, kernel);
  const size_t scratch = own.used();
  take_keys(own, g, kernel, kWholeTiles, 1);
  return std::max(shared.used() + scratch * threads, own.used() * threads);
}

void run_stick_forward(const StickForwardTask& task, View1<const int32_t> offsets, Arena& arena,
                       ThreadTeam& team) {
  const AttentionGeometry& g = task.attention.geometry;
  const size_t whole = whole_tiles(offsets, g.kv_heads);
  for (size_t i = 0; i + 1 < offsets.size; ++i) {
    const size_t token = offsets[i], tokens = offsets[i + 1] - token;
    if (chunk_count(tokens, kTile) > whole)
      run_stick_passage(task, {token, tokens, token, tokens}, arena, team);
  }
  run_whole(task, offsets, whole, tile_kernel_for(task.inputs.q.dtype), arena, team);
}

}  // namespace cairn
