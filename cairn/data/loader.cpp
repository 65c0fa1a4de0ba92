#include "cairn/data/loader.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

std::vector<uint64_t> shard_sizes(const TokenStream& stream) {
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < stream.shards(); ++i) sizes.push_back(stream.shard(i).info().tokens);
  return sizes;
}

void clear_batch(Batch& batch, size_t sequences, size_t length) {
  batch.sequences = sequences;
  batch.length = length;
  for (std::vector<int32_t>* part :
       {&batch.tokens, &batch.targets, &batch.positions, &batch.offsets})
    part->clear();
  batch.tokens.reserve(sequences * length + 1);  // the last sequence is read with its last target
  batch.targets.reserve(sequences * length);
  batch.positions.reserve(sequences * length);
  batch.offsets.reserve(sequences * length + 1);  // a document may be one token long
}

}  // namespace

BatchMaker::BatchMaker(const TokenStream& stream, const LoaderOptions& options)
    : stream_(stream),
      options_(options),
      sampler_(shard_sizes(stream), options.length, options.seed) {}

void BatchMaker::add_sequence(const SamplePlace& place, Batch& batch) const {
  const Shard& shard = stream_.shard(place.shard);
  const size_t first = batch.tokens.size();
  const auto begin = static_cast<int32_t>(first);
  batch.tokens.resize(first + options_.length + 1);
  const std::span tokens = std::span(batch.tokens).subspan(first);
  shard.read(place.offset, tokens);
  batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
  batch.tokens.pop_back();
  batch.offsets.push_back(begin);

  const auto starts = shard.document_starts();
  auto next = std::upper_bound(starts.begin(), starts.end(), place.offset);
  int32_t position = 0;
  for (size_t i = 0; i < options_.length; ++i, ++position) {
    if (next != starts.end() && *next == place.offset + i) {
      while (next != starts.end() && *next == place.offset + i) ++next;  // documents may be empty
      if (options_.mask_documents) batch.offsets.push_back(begin + static_cast<int32_t>(i));
      if (options_.reset_positions) position = 0;
    }
    batch.positions.push_back(position);
  }
}

Batch BatchMaker::batch(uint64_t index) const {
  Batch made;
  batch(index, made);
  return made;
}

Batch BatchMaker::empty_batch() const {
  Batch batch;
  clear_batch(batch, options_.sequences, options_.length);
  return batch;
}

void BatchMaker::batch(uint64_t index, Batch& out) const {
  clear_batch(out, options_.sequences, options_.length);
  const uint64_t first = index * options_.sequences;
  for (size_t i = 0; i < options_.sequences; ++i) {  // all reads are under way before the first
    const SamplePlace place = sampler_.place(first + i);
    stream_.shard(place.shard).will_need(place.offset, options_.length + 1);
  }
  for (size_t i = 0; i < options_.sequences; ++i) add_sequence(sampler_.place(first + i), out);
  out.offsets.push_back(static_cast<int32_t>(out.tokens.size()));
}

std::vector<std::string> BatchMaker::files(uint64_t index) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < options_.sequences; ++i) {
    const SamplePlace place = sampler_.place(index * options_.sequences + i);
    const Shard& shard = stream_.shard(place.shard);
    const uint64_t last = shard.document_of(place.offset + options_.length);
    for (uint64_t document = shard.document_of(place.offset); document <= last; ++document)
      names.push_back(stream_.file_of(place.shard, document));
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

DataLoader::DataLoader(const BatchMaker& maker, uint64_t first_batch)
    : maker_(maker), next_index_(first_batch) {
  for (int i = 0; i < 2; ++i) spares_.push_back(maker_.empty_batch());
  thread_ = std::thread([this] { work(); });
}

DataLoader::~DataLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Batch DataLoader::next() {
  const auto start = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ready_; });
  stall_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (error_) std::rethrow_exception(error_);
  Batch batch = std::move(batch_);
  ready_ = false;
  ++next_index_;
  lock.unlock();
  changed_.notify_all();
  return batch;
}

void DataLoader::recycle(Batch&& used) {
  if (used.tokens.empty()) return;
  const std::lock_guard lock(mutex_);
  if (spares_.size() < spares_.capacity()) spares_.push_back(std::move(used));
}

void DataLoader::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (ready_) {
      changed_.wait(lock, [this] { return !ready_ || stopping_; });
      continue;
    }
    const uint64_t index = next_index_;
    Batch batch;
    if (!spares_.empty()) {
      batch = std::move(spares_.back());
      spares_.pop_back();
    }
    lock.unlock();
    std::exception_ptr error;
    try {
      maker_.batch(index, batch);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    batch_ = std::move(batch);
    error_ = error;
    ready_ = true;
    changed_.notify_all();
  }
}

}  // namespace cairn
