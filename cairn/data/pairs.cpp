#include "cairn/data/pairs.h"

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/data/sampler.h"

namespace cairn {
namespace {

// One row of a stream: tokens, then padding as a sequence of its own.
void add_row(std::vector<int32_t> row, size_t length, std::vector<int32_t>& tokens,
             std::vector<int32_t>& offsets, std::vector<int32_t>& positions) {
  const auto begin = static_cast<int32_t>(tokens.size());
  offsets.push_back(begin);
  offsets.push_back(begin + static_cast<int32_t>(row.size()));
  for (size_t i = 0; i < length; ++i)
    positions.push_back(static_cast<int32_t>(i < row.size() ? i : i - row.size()));
  row.resize(length);
  tokens.insert(tokens.end(), row.begin(), row.end());
}

}  // namespace

PairBatches::PairBatches(const TokenStream& stream, const PairOptions& options)
    : stream_(stream), options_(options), pairs_{0} {
  for (size_t i = 0; i < stream.shards(); ++i) {
    const ShardInfo& shard = stream.shard(i).info();
    if (shard.documents % 2 != 0)
      throw Error({.kind = ErrorKind::data,
                   .doing = "reading pairs",
                   .subject = stream.shard(i).path().string(),
                   .expected = "an even number of documents",
                   .found = std::to_string(shard.documents)});
    pairs_.push_back(pairs_.back() + shard.documents / 2);
  }
  if (pairs_.back() == 0)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading pairs",
                 .expected = "at least one",
                 .found = "none"});
}

PairBatches::Place PairBatches::place(uint64_t pair) const {
  const auto next = std::upper_bound(pairs_.begin(), pairs_.end(), pair);
  const auto shard = static_cast<size_t>(next - pairs_.begin() - 1);
  return {shard, 2 * (pair - pairs_[shard])};
}

uint64_t PairBatches::pair_of(uint64_t sample) const {
  return Permutation(size(), options_.seed, sample / size())(sample % size());
}

std::vector<int32_t> PairBatches::document(const Place& place, uint64_t index) const {
  const Shard& shard = stream_.shard(place.shard);
  const auto starts = shard.document_starts();
  const uint64_t begin = starts[index];
  const uint64_t end = index + 1 < starts.size() ? starts[index + 1] : shard.info().tokens;
  std::vector<int32_t> tokens(std::min<uint64_t>(end - begin, options_.length));
  shard.read(begin, tokens);
  return tokens;
}

void PairBatches::add(uint64_t pair, Batch& batch) const {
  const Place at = place(pair);
  SourceStream& source = batch.source;
  add_row(document(at, at.document), batch.length, source.tokens, source.offsets, source.positions);
  std::vector<int32_t> target = document(at, at.document + 1);
  std::vector<int32_t> targets = target;
  targets.resize(batch.length, kIgnoredTarget);
  batch.targets.insert(batch.targets.end(), targets.begin(), targets.end());
  // The decoder reads its targets one place late.
  target.insert(target.begin(), options_.start_id);
  target.pop_back();
  add_row(std::move(target), batch.length, batch.tokens, batch.offsets, batch.positions);
}

namespace {

void end_offsets(Batch& batch) {
  const auto end = static_cast<int32_t>(batch.tokens.size());
  batch.offsets.push_back(end);
  batch.source.offsets.push_back(end);
}

}  // namespace

Batch PairBatches::shuffled(uint64_t first, size_t count) const {
  Batch batch{.sequences = count, .length = options_.length};
  for (size_t i = 0; i < count; ++i) add(pair_of(first + i), batch);
  end_offsets(batch);
  return batch;
}

Batch PairBatches::in_order(uint64_t first, size_t count) const {
  if (first > size() || count > size() - first)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading pairs",
                 .expected = std::to_string(size()) + " of them",
                 .found = std::to_string(first) + " and " + std::to_string(count) + " more"});
  Batch batch{.sequences = count, .length = options_.length};
  for (size_t i = 0; i < count; ++i) add(first + i, batch);
  end_offsets(batch);
  return batch;
}

std::string PairBatches::origin(uint64_t sample) const {
  const Place at = place(pair_of(sample));
  return stream_.file_of(at.shard, at.document);
}

}  // namespace cairn
