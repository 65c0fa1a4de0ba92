// What the trainer asks of its data: micro-batches in order from any sample on, as a pure function
// of the sample's number, so that the number is all there is to remember. Packed datasets
// (train/dataset_source.h) and synthetic tasks (train/task_source.h) are such; tests bring their
// own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cairn/nn/batch.h"

namespace cairn {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Samples of one epoch; at least 1. Beyond an epoch the next one follows.
  virtual uint64_t samples() const = 0;
  // A fingerprint of the data: a run is only resumed on the same.
  virtual uint64_t fingerprint() const = 0;

  // The next next() gives the micro-batch that begins with sample `first`, a multiple of the
  // micro-batch.
  virtual void seek(uint64_t first) = 0;
  virtual Batch next() = 0;
  // Gives back the memory of a batch that next() gave, for a later one.
  virtual void recycle(Batch&& /*used*/) {}
  // The files that samples first ... first + count - 1 come from, each once, for messages.
  virtual std::vector<std::string> files(uint64_t first, uint64_t count) const = 0;

  // Held-out windows in their order; 0 when there are none.
  virtual uint64_t held_out_windows() const = 0;
  virtual Batch held_out(uint64_t first, uint64_t count) const = 0;
  // Bytes of text that a held-out token stands for, on average; 0 when not known.
  virtual double bytes_per_token() const = 0;
};

}  // namespace cairn
