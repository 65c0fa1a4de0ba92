// Synthetic tasks: sequences that a program makes, with the answers that a model has to give. They
// ask for one ability each (remembering, recalling, tracking a state), need no data, and separate
// attention mechanisms within minutes of training.
//
//   flip_flop     write, read and ignore a bit (Liu et al. 2023, arXiv:2306.00946)
//   shell_game    follow the ball through swaps of cups
//   word_problem  products of a permutation group (Merrill et al. 2024, arXiv:2404.08819)
//   recall        keys with values, then each key is asked for its value
//   mqrar         the latest value of a key that is assigned again and again (multi-query repeated
//                 associative recall, Tan et al. 2025, arXiv:2410.17980)
//   mqrar_n       the same without a first round, back to the N-th last value (PaTH attention, Yang
//                 et al. 2025, arXiv:2505.16381)
//   variable_tracking  variables that stand for one another, in filler (Hsieh et al. 2024,
//                 arXiv:2404.06654); without hops: needles in a haystack
//   phone_book    numbers by name (Jelassi et al. 2024, arXiv:2402.01032)
//   stories       where who has what, and who gave it, in filler (Weston et al. 2015,
//                 arXiv:1502.05698; Kuratov et al. 2024, arXiv:2406.10149)
//
// A sample is a pure function of (options, stream, index). Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/base/random.h"
#include "cairn/data/tasks/split_mix.h"
#include "cairn/nn/batch.h"

namespace cairn {

// A task by name with its options ("ignore" = 0.98); the name is empty where there is no task.
struct TaskOptions {
  std::string name;
  std::map<std::string, OptionValue> values;

  bool operator==(const TaskOptions&) const = default;
};

class Task {
 public:
  virtual ~Task() = default;

  size_t length() const { return length_; }          // tokens a sequence
  size_t vocab_size() const { return vocab_size_; }  // of tokens and answers

  // One sequence. tokens, targets [length]: targets[t] is the token that has to be answered after
  // tokens[t] was read, kIgnoredTarget where nothing is asked. The order of draws is part of the
  // definition.
  virtual void generate(SplitMix64& random, std::span<int32_t> tokens,
                        std::span<int32_t> targets) const = 0;
  // A token as people read it: "w", "k17", "swap(1,4)".
  virtual std::string token_text(int32_t token) const = 0;

 protected:
  Task(size_t length, size_t vocab_size) : length_(length), vocab_size_(vocab_size) {}

 private:
  size_t length_, vocab_size_;
};

// Throws Error (usage): an unknown task or option, with a suggestion; a value out of its range.
std::unique_ptr<Task> make_task(const TaskOptions& options);

struct TaskDescription {
  const char* name;
  const char* does;
  const char* options;  // "ignore = 0.8, length = 512": the keys with what they are unless given
};
std::span<const TaskDescription> task_descriptions();

// Samples first ... first + count - 1 of `stream` as one batch. Sample i draws from a generator of
// its own that starts at stream.bits(i).
Batch task_batch(const Task& task, const RandomStream& stream, uint64_t first, size_t count);

// How well answers fit. Errors are 1 - accuracy.
struct TaskScore {
  uint64_t sequences = 0;
  uint64_t whole = 0;    // sequences without a wrong answer
  uint64_t targets = 0;  // answers asked for
  uint64_t right = 0;
  double loss = 0;  // nats, summed over targets
  // Of all layers together, in rooms that may leave keys unread; else nothing is visible.
  AttentionStatistics attention;

  // answers [tokens of the batch]: what the model says at each position; looked at where a target
  // counts.
  void add(const Batch& batch, std::span<const int32_t> answers);

  double accuracy() const { return share(right, targets); }
  double sequence_accuracy() const { return share(whole, sequences); }
  double mean_loss() const { return targets == 0 ? 0 : loss / static_cast<double>(targets); }

 private:
  static double share(uint64_t part, uint64_t all) {
    return all == 0 ? 0 : static_cast<double>(part) / static_cast<double>(all);
  }
};

}  // namespace cairn
