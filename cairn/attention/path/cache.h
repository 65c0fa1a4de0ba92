// Keys and values of one sequence during generation: an append-only chain of blocks. Internal to
// the room.
//
// Keys of a closed block of kCacheBlock tokens stay carried to the block's own end for ever, and
// each block keeps the product of its maps; a query walks from block to block (x <- P x). Nothing
// that is stored is ever rewritten, where the published rule rewrites every key at every token.
// Inside the open block, keys are carried to the end of the last whole tile, once a tile; the
// tokens after it, fewer than kTile, are walked over map by map. What the last two blocks were made
// of is kept in f32, so that the newest tokens can be forgotten exactly.
#pragma once

#include <algorithm>
#include <vector>

#include "cairn/attention/path/block.h"
#include "cairn/attention/path/path.h"
#include "cairn/attention/path/task.h"
#include "cairn/base/memory.h"

namespace cairn {

inline constexpr size_t kCacheBlock = 512;
inline constexpr size_t kCacheHistory = 2 * kCacheBlock;

class PathCache : public AttentionCache {
 public:
  PathCache(const PathAttention& attention, size_t capacity, DType dtype);

  size_t length() const override { return length_; }
  size_t bytes() const override;
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  // Exact for the last kCacheBlock tokens at least, and further back at multiples of kCacheBlock;
  // anything else is an Error (usage) that names the nearest length.
  void truncate(size_t length) override;
  std::unique_ptr<AttentionCache> fork() const override;

 private:
  // One key head's view of the open block.
  struct Open {
    float* keys;        // [kCacheBlock][width], carried to the last whole tile
    float* transposed;  // P^T of the whole tiles [dim][width]
    float* values;      // [kCacheBlock][value_dim]
  };
  // A tile of new queries on its way.
  struct Traveller;
  struct Scratch;
  struct DecodeStep;
  struct DecodeScratch;

  Arena workspace(size_t bytes);
  void check(const AttentionInputs& inputs, const AnyView3& out) const;
  // Room for a tile of keys or values, or a product.
  size_t load_floats() const {
    return std::max(kTile, size_.dim) * padded_width(std::max(size_.dim, g_.value_dim));
  }
  size_t slot(size_t position) const { return position % history_; }
  size_t open_begin() const { return length_ / kCacheBlock * kCacheBlock; }
  Open open(size_t head, size_t block);
  float* closed_product(size_t head, size_t block) {
    return products_.as<float>().data() + (head * blocks_ + block) * size_.dim * size_.width;
  }
  AnyView2 closed_keys(size_t head, size_t begin, size_t count);
  AnyView2 closed_values(size_t head, size_t begin, size_t count);
  PathInputs history_inputs();

  // Steps of append_and_attend.
  FrontRows front(const AttentionInputs& inputs, Arena& arena, ThreadTeam& team);
  void remember(const AttentionInputs& inputs, const FrontRows& rows, size_t head, size_t from,
                size_t count, size_t position, float* scratch);
  void remember_convolution(const FrontRows& rows, size_t tokens);
  void sum_gate(const FrontRows& rows, size_t tokens);
  void reopen(size_t begin);
  void restore_convolution(size_t length);
  // Carries the keys of a finished tile, and closes a finished block.
  void close_tile(size_t head, size_t end, const Block& block, float* scratch);

  // cache_decode.cpp: one token.
  void attend_one(const AnyView3& q, const FrontRows& rows, const AttentionInputs& inputs,
                  size_t token, const AnyView3& out, Arena arena, ThreadTeam& team);
  DecodeStep take_step(Arena& arena, size_t position) const;
  DecodeScratch take_decode_scratch(Arena& arena) const;
  void walk(const DecodeStep& step, const AnyView3& q, size_t token, size_t head,
            const DecodeScratch& s);
  const float* range_bias(const DecodeStep& step, size_t first_head, size_t key0, size_t count,
                          const DecodeScratch& s) const;
  void read_range(const DecodeStep& step, size_t head, size_t range, const DecodeScratch& s);
  void merge(const DecodeStep& step, const AnyView3& out, size_t token) const;
  // cache_prefill.cpp: many.
  void attend_many(const AnyView3& q, const FrontRows& rows, const AttentionInputs& inputs,
                   const AnyView3& out, Arena arena, ThreadTeam& team);
  size_t decode_workspace(int threads) const;
  size_t prefill_workspace(size_t tokens, const TileKernel& kernel, int threads) const;
  Scratch take_scratch(Arena& arena, const TileKernel& kernel) const;
  void take_travellers(Arena& arena, const TileKernel& kernel, size_t count,
                       Traveller* travellers) const;
  void enter_tile(const PathTask& task, const AnyView3& q, size_t token,
                  std::span<Traveller> travellers, size_t position, Scratch& s);
  void visit_closed(const PathTask& task, std::span<Traveller*> travellers, Scratch& s);
  void meet(const PathTask& task, Traveller& t, size_t key0, Scratch& s) const;
  void gather(const PathTask& task, Traveller& t, const void* values, size_t key0, size_t keys,
              bool diagonal, Scratch& s) const;
  void carry(Traveller& t, const float* product, Scratch& s) const;
  void pack_columns(const PathTask& task, const Traveller& t) const;
  void leave(const Traveller& t, const AnyView3& out) const;

  const PathAttention& attention_;
  const PathFront& front_;
  AttentionGeometry g_;
  BlockSize size_;
  size_t group_;
  size_t capacity_, history_, blocks_;
  DType dtype_;
  size_t length_ = 0;
  size_t remembered_ = 0;        // first position in the history
  AlignedBuffer keys_, values_;  // of closed blocks [kv_heads, blocks * kCacheBlock, dim]
  AlignedBuffer products_;       // P^T of closed blocks [kv_heads, blocks, dim, width]
  AlignedBuffer open_keys_, open_products_;
  // The history, by position modulo history_.
  AlignedBuffer recent_k_;     // [history, kv_heads, dim]
  AlignedBuffer recent_v_;     // [kv_heads, history, value_dim]
  AlignedBuffer recent_w_;     // [history * products, kv_heads, dim]
  AlignedBuffer recent_beta_;  // [history * products, kv_heads]
  AlignedBuffer recent_y_;     // [history, y_stride]
  AlignedBuffer before_y_;     // the rows that the next convolution sees [kernel - 1, y_stride]
  AlignedBuffer edge_y_;  // those at the end of each closed block [blocks, kernel - 1, y_stride]
  size_t y_stride_ = 0;
  std::vector<double> gate_;        // c [heads, capacity]
  std::vector<int32_t> positions_;  // 0, 1, 2, ...
  AlignedBuffer workspace_;         // grows to what the largest call so far needed
};

}  // namespace cairn
