// Keys and values of one sequence during generation, for softmax attention and the rooms that only
// add a term to its scores, and of a source in cross-attention. Keys are kept rotated, so a step
// rotates only what is new. Prompts go through the blockwise pass, single tokens through decode.h.
// Internal to the rooms that use it.
#pragma once

#include <optional>
#include <vector>

#include "cairn/attention/arena.h"
#include "cairn/attention/softmax/bias.h"
#include "cairn/attention/softmax/core.h"
#include "cairn/base/memory.h"

namespace cairn {

class KeyValueCache {
 public:
  // Throws Error (usage) when the type is neither f32 nor bf16.
  KeyValueCache(const SoftmaxCore& core, size_t capacity, DType dtype);
  KeyValueCache(KeyValueCache&&) = default;

  size_t length() const { return length_; }
  size_t capacity() const { return capacity_; }
  size_t bytes() const;
  // Counts keys of one key head and query; empty without potentials.
  std::optional<AttentionStatistics> statistics() const;

  // Throws Error (usage) when `tokens` more do not fit.
  void check_room(size_t tokens) const;
  // As AttentionCache::append_and_attend; `potentials` [heads, new tokens] only if core.biased.
  // They must not be above those appended before. `bias` only if not, see core.h; a token's slot is
  // its place in the sequence. In cross-attention throws Error (usage) for queries before any key.
  void append_and_attend(const AttentionInputs& inputs, Potentials potentials, AnyView3 out,
                         ThreadTeam& team, const ScoreBias* bias = nullptr);
  void truncate(size_t length);
  KeyValueCache fork() const;
  // The potential of the newest token; 0 when there is none.
  double last_potential(size_t head) const {
    return length_ == 0 ? 0 : potentials_[head * capacity_ + length_ - 1];
  }

 private:
  AnyView3 key_view() const;
  AnyView3 value_view() const;
  RotaryRows rotation() const { return {core_.rotary, positions_.data() + length_}; }
  bool crosses() const { return core_.mask == AttentionMask::cross; }
  // Keys that the n-th new query sees, or could without a window.
  size_t keys_of(size_t token) const { return crosses() ? length_ : length_ + token + 1; }
  ScorePotentials potentials(const int32_t* sequence_slot) const;
  Arena workspace(size_t bytes);
  void check_inputs(const AttentionInputs& inputs, const AnyView3& out) const;
  void append(const AttentionInputs& inputs, Potentials potentials, ThreadTeam& team);
  void attend(const AttentionInputs& inputs, const AnyView3& out, const ScoreBias* bias,
              ThreadTeam& team);
  void attend_blockwise(const AttentionInputs& inputs, const AnyView3& out, const ScoreBias* bias,
                        ThreadTeam& team);
  void attend_one(const AnyView3& q, size_t token, const AnyView3& out, const ScoreBias* bias,
                  ThreadTeam& team);
  // The first key that the query at `position` of a key head must read: a multiple of `grain` where
  // potentials decide, see core.h. `queries` [group][head_dim].
  size_t first_key(size_t position, size_t kv_head, const float* queries, size_t grain) const;
  void count_blockwise(size_t query_tiles, const Tile* query_tile, const int32_t* first_tile);

  SoftmaxCore core_;
  size_t capacity_;
  DType dtype_;
  size_t length_ = 0;
  // [kv_heads, capacity, dim]; views of them are made in const functions too.
  mutable AlignedBuffer keys_, values_;
  std::vector<double> potentials_;  // [heads, capacity] if biased
  std::vector<float> largest_key_;  // [kv_heads] norm, never falls
  AlignedBuffer workspace_;         // grows to what the largest call so far needed
  std::vector<int32_t> positions_;  // 0, 1, 2, ...
  AttentionStatistics statistics_;
};

}  // namespace cairn
