#include "cairn/train/task_source.h"

#include <fmt/core.h>

#include "cairn/base/hash.h"

namespace cairn {

TaskSource::TaskSource(const TaskOptions& options, size_t sequences, uint64_t seed)
    : name_(options.name),
      task_(make_task(options)),
      sequences_(sequences),
      training_stream_(seed, "task training"),
      held_out_stream_(0, "task held out") {
  // The first samples tell tasks, options and seeds apart, however the options were written.
  const Batch first = training(0, 4);
  const std::string facts = fmt::format("{} {} {}", name_, task_->vocab_size(), seed);
  Hasher hasher;
  hasher.update(facts.data(), facts.size());
  hasher.update(first.tokens.data(), first.tokens.size() * sizeof(int32_t));
  hasher.update(first.targets.data(), first.targets.size() * sizeof(int32_t));
  fingerprint_ = hasher.digest();
}

Batch TaskSource::training(uint64_t first, size_t count) const {
  return task_batch(*task_, training_stream_, first, count);
}

Batch TaskSource::next() {
  Batch batch = training(next_, sequences_);
  next_ += sequences_;
  return batch;
}

std::vector<std::string> TaskSource::files(uint64_t first, uint64_t count) const {
  return {fmt::format("{}, samples {} to {}", name_, first, first + count - 1)};
}

Batch TaskSource::held_out(uint64_t first, uint64_t count) const {
  return task_batch(*task_, held_out_stream_, first, count);
}

}  // namespace cairn
