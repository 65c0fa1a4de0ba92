// Checkpoints that training does not wait for: save() copies weights, moments and counters into a
// staging area, and a thread of its own writes that through the CheckpointStore and deletes what
// has become superfluous. One write is under way at a time; save() waits for the one before it.
// What is on disk after any crash is what the store promises: whole checkpoints, or none.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cairn/train/checkpoint.h"

namespace cairn {

class CheckpointWriter {
 public:
  // `store` must outlive it. `background` false: no staging area and no thread, save() itself
  // writes. `companions` are copied beside the weights (tokenizer files).
  CheckpointWriter(CheckpointStore& store, CheckpointFacts facts, std::vector<Path> companions,
                   bool background);
  // Waits for the write under way; its failure is logged.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Begins to write checkpoint parts.state.step; afterwards `retention` is applied to the store.
  // Everything has been copied when it returns. Throws Error (checkpoint): what stopped the write
  // before this one, or too little free space for this one; older checkpoints are untouched then.
  void save(const CheckpointParts& parts, const Retention& retention);

  // Rethrows, once, what stopped a write that is over. Does not wait.
  void check();
  // Waits for the write under way, then as check().
  void finish();

  // Where the newest checkpoint lies that is known to be whole; empty when this writer has
  // finished none.
  Path last() const;

  // Bytes of the staging area.
  static uint64_t memory(uint64_t weight_bytes) { return 3 * weight_bytes; }

 private:
  struct Staging;
  void stage(const CheckpointParts& parts);
  void write(const CheckpointParts& parts, const Retention& retention);
  void work();

  CheckpointStore& store_;
  const CheckpointFacts facts_;
  const std::vector<Path> companions_;
  std::unique_ptr<Staging> staging_;  // belongs to the thread while busy_

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;
  bool stopping_ = false;
  Path last_;
  std::exception_ptr error_;
  std::thread thread_;  // not running without `background`
};

}  // namespace cairn
