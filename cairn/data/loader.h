// Batches for training; for evaluation: data/evaluation_windows.h.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cairn/data/dataset.h"
#include "cairn/data/sampler.h"
#include "cairn/nn/batch.h"

namespace cairn {

struct LoaderOptions {
  size_t sequences = 1;  // a batch
  size_t length = 512;   // tokens a sequence; length + 1 are read
  uint64_t seed = 0;
  bool mask_documents = false;   // attention does not cross from one document into the next
  bool reset_positions = false;  // positions start again at each document
};

// Makes any training batch on demand: batch i holds samples [i * sequences, (i + 1) * sequences).
// Thread-safe.
class BatchMaker {
 public:
  // `stream` must outlive it.
  BatchMaker(const TokenStream& stream, const LoaderOptions& options);

  const Sampler& sampler() const { return sampler_; }
  Batch batch(uint64_t index) const;
  // The same in the memory of `out`: allocates nothing when that came from empty_batch().
  void batch(uint64_t index, Batch& out) const;
  Batch empty_batch() const;
  // The files that batch `index` was cut from, each once: for reports.
  std::vector<std::string> files(uint64_t index) const;

 private:
  void add_sequence(const SamplePlace& place, Batch& batch) const;

  const TokenStream& stream_;
  LoaderOptions options_;
  Sampler sampler_;
};

// Hands out training batches in order, made one ahead by a thread of its own.
class DataLoader {
 public:
  // `maker` must outlive it.
  DataLoader(const BatchMaker& maker, uint64_t first_batch);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The next batch. Rethrows what went wrong while it was made, naming the shard.
  Batch next();
  // Gives back the memory of a batch that is no longer wanted: a later one is made in it, so that
  // taking and giving back in turns allocates nothing.
  void recycle(Batch&& used);
  // Index of the batch that next() gives: what a checkpoint keeps.
  uint64_t next_index() const { return next_index_; }
  // Seconds that next() has waited so far.
  double stall_seconds() const { return stall_seconds_; }

 private:
  void work();

  const BatchMaker& maker_;
  uint64_t next_index_;
  double stall_seconds_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  bool stopping_ = false;
  Batch batch_;
  std::vector<Batch> spares_;  // the caller holds one batch at a time: two are enough
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace cairn
