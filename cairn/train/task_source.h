// A synthetic task as the trainer's data: samples without end, made when they are asked for, which
// takes a thousandth of a training step.
#pragma once

#include <memory>

#include "cairn/data/tasks/task.h"
#include "cairn/train/batch_source.h"

namespace cairn {

class TaskSource final : public BatchSource {
 public:
  // Micro-batches of `sequences`; `seed` chooses the training samples. Held-out samples are the
  // same for every seed. Throws Error (usage) as make_task() does.
  TaskSource(const TaskOptions& options, size_t sequences, uint64_t seed);

  const Task& task() const { return *task_; }
  // Training samples first ... first + count - 1.
  Batch training(uint64_t first, size_t count) const;

  // More than any run asks for: no sample comes twice.
  uint64_t samples() const override { return uint64_t{1} << 40; }
  // Of the task with its options, and the seed.
  uint64_t fingerprint() const override { return fingerprint_; }
  void seek(uint64_t first) override { next_ = first; }
  Batch next() override;
  std::vector<std::string> files(uint64_t first, uint64_t count) const override;
  uint64_t held_out_windows() const override { return 4096; }
  Batch held_out(uint64_t first, uint64_t count) const override;
  double bytes_per_token() const override { return 0; }

 private:
  std::string name_;
  std::unique_ptr<Task> task_;
  size_t sequences_;
  RandomStream training_stream_, held_out_stream_;
  uint64_t fingerprint_;
  uint64_t next_ = 0;
};

}  // namespace cairn
