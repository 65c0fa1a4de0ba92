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

Batch empty_batch(size_t sequences, size_t length) {
  Batch batch{.sequences = sequences, .length = length};
  batch.tokens.reserve(sequences * length);
  batch.targets.reserve(sequences * length);
  batch.positions.reserve(sequences * length);
  return batch;
}

}  // namespace

BatchMaker::BatchMaker(const TokenStream& stream, const LoaderOptions& options)
    : stream_(stream),
      options_(options),
      sampler_(shard_sizes(stream), options.length, options.seed) {}

void BatchMaker::add_sequence(const SamplePlace& place, Batch& batch) const {
  const Shard& shard = stream_.shard(place.shard);
  std::vector<int32_t> tokens(options_.length + 1);
  shard.read(place.offset, tokens);
  const auto begin = static_cast<int32_t>(batch.tokens.size());
  batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end() - 1);
  batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
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
  Batch batch = empty_batch(options_.sequences, options_.length);
  const uint64_t first = index * options_.sequences;
  for (size_t i = 0; i < options_.sequences; ++i) {  // all reads are under way before the first
    const SamplePlace place = sampler_.place(first + i);
    stream_.shard(place.shard).will_need(place.offset, options_.length + 1);
  }
  for (size_t i = 0; i < options_.sequences; ++i) add_sequence(sampler_.place(first + i), batch);
  batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  return batch;
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
    : maker_(maker), next_index_(first_batch), thread_([this] { work(); }) {}

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

void DataLoader::work() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (ready_) {
      changed_.wait(lock, [this] { return !ready_ || stopping_; });
      continue;
    }
    const uint64_t index = next_index_;
    lock.unlock();
    Batch batch;
    std::exception_ptr error;
    try {
      batch = maker_.batch(index);
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
