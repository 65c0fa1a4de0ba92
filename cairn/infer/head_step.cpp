// The head of a decode program: its rows, and of them only what the pass asks for (head_request.h).
#include <algorithm>
#include <bit>
#include <limits>

#include "cairn/infer/decode_walk.h"

namespace cairn {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

size_t groups_of(const PlannedRows& rows) {
  return tile_groups(rows.tiles.rows);
}

// Groups [begin, begin + count) of some rows.
PlannedRows groups_slice(const PlannedRows& rows, size_t begin, size_t count) {
  PlannedRows some = rows;
  const size_t first = begin * kTileRows;
  some.first += first;
  some.tiles.rows = std::min(count * kTileRows, rows.tiles.rows - first);
  some.tiles.tiles += begin * tile_group_bytes(rows.tiles.kind, rows.tiles.cols);
  return some;
}

// The rows of ids below `ids`.
PlannedRows rows_below(const PlannedRows& rows, size_t ids) {
  PlannedRows some = rows;
  some.tiles.rows = std::min(rows.tiles.rows, ids - std::min(ids, rows.first));
  return some;
}

bool is_allowed(const HeadRequest& head, size_t first) {
  uint32_t bits = 0;
  for (size_t place = 0; place < head.places(); ++place) bits |= head.allowed16(place, first);
  return bits != 0;
}

// Logits of ids [first, first + logits.size): -infinity for those that may not follow.
void exclude(const HeadRequest& head, size_t place, size_t first, View1<float> logits) {
  for (size_t at = 0; at < logits.size; at += kTileRows) {
    uint32_t out = ~head.allowed16(place, first + at) & 0xFFFF;
    if (logits.size - at < kTileRows) out &= (1U << (logits.size - at)) - 1;
    for (; out != 0; out &= out - 1)
      logits[at + static_cast<size_t>(std::countr_zero(out))] = kNever;
  }
}

}  // namespace

void DecodeProgram::choose_head_rows(const HeadRequest& head) {
  const size_t vocab = config_.vocab_size;
  if (!head.excludes(vocab)) return;
  for (size_t place = 0; head.best.empty() && place < head.logits.rows; ++place)
    std::fill(head.logits[place].begin(), head.logits[place].end(), kNever);
  allowed_rows_.clear();
  allowed_groups_ = head.allowed.empty() ? tile_groups(head.ids) : 0;
  for (const ThreadProgram& thread : plan_.programs()) {
    const size_t groups = head.allowed.empty() ? 0 : groups_of(thread.head);
    for (size_t begin = 0, end = 0; begin < groups; begin = end + 1) {
      for (end = begin; end < groups; ++end)
        if (!is_allowed(head, thread.head.first + end * kTileRows)) break;
      if (begin == end) continue;
      allowed_rows_.push_back(groups_slice(thread.head, begin, end - begin));
      allowed_groups_ += end - begin;
    }
  }
  const TileRows& tiles = plan_.programs()[0].head.tiles;
  skipped_bytes_ +=
      (tile_groups(vocab) - allowed_groups_) * tile_group_bytes(tiles.kind, tiles.cols);
}

void DecodeProgram::collect_best(const HeadRequest& head, bool alone) {
  const size_t threads = alone ? 1 : buffers_.own.size();
  for (size_t place = 0; place < head.best.size(); ++place) {
    head.best[place].begin(head.k);
    for (size_t thread = 0; thread < threads; ++thread)
      head.best[place].add(buffers_.own[thread].best[place]);
    head.best[place].sort();
  }
}

void DecodeProgram::Walk::multiply_head(std::span<const TokenBlock> blocks) {
  const HeadRequest& head = pass_.head;
  for (size_t place = 0; place < head.best.size(); ++place) own_.best[place].begin(head.k);
  if (!head.allowed.empty()) return multiply_allowed(blocks[0]);
  const bool whole = head.best.empty() && !head.excludes(program_.config_.vocab_size);
  for (const ThreadProgram& rows : mine_) {
    if (whole)
      multiply(rows.head, blocks, head.logits, {});
    else
      multiply_asked(rows_below(rows.head, head.ids), blocks[0], {});
  }
}

// Threads take equal shares of the allowed groups, whosever rows they are: these may be few, and
// all in one thread's part.
void DecodeProgram::Walk::multiply_allowed(const TokenBlock& block) {
  const size_t begin = program_.allowed_groups_ * thread_ / threads_,
               end = program_.allowed_groups_ * (thread_ + 1) / threads_;
  const std::span<const PlannedRows> all = program_.allowed_rows_;
  size_t before = 0;
  for (size_t i = 0; i < all.size() && before < end; before += groups_of(all[i++])) {
    const size_t first = std::max(begin, before), last = std::min(end, before + groups_of(all[i]));
    if (first >= last) continue;
    const std::byte* then = i + 1 < all.size() ? all[i + 1].tiles.tiles : nullptr;
    multiply_asked(groups_slice(all[i], first - before, last - first), block, then);
  }
}

// In pieces whose logits stay at hand. `then`: the weights that are read next, if not those behind.
void DecodeProgram::Walk::multiply_asked(const PlannedRows& rows, const TokenBlock& block,
                                         const std::byte* then) {
  const HeadRequest& head = pass_.head;
  const bool lists = !head.best.empty();
  const ActivationKind kind = activation_kind_of(rows.tiles.kind);
  const Activations x{kind, block.tokens, rows.tiles.cols,
                      block.activations[static_cast<size_t>(kind)]};
  const size_t groups = groups_of(rows),
               piece = PassBuffers::kHeadLogits / (kTileRows * block.tokens);
  for (size_t at = 0; at < groups; at += piece) {
    PlannedRows some = groups_slice(rows, at, piece);
    some.tiles.constant_cols = some.tiles.constant_cols && program_.parts_.constant_k;
    NextStream next;
    if (then != nullptr && at + piece >= groups)
      next = {then, tile_group_bytes(rows.tiles.kind, rows.tiles.cols)};
    if (!program_.parts_.prefetch) next = {x.data, 64};
    const size_t count = some.tiles.rows;
    const View2<float> y = lists ? View2<float>(own_.head.data, block.tokens, count)
                                 : head.logits.cols_slice(some.first, count);
    multiply_tiles(some.tiles, x, y, next);
    for (size_t place = 0; place < block.tokens; ++place) {
      if (!head.allowed.empty()) exclude(head, place, some.first, y[place]);
      if (lists) own_.best[place].add(y[place], static_cast<int32_t>(some.first));
    }
  }
}

}  // namespace cairn
