// Tasks of keys and values. Tokens: the keys, the values, a separator where there is one.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

constexpr size_t kMostTokens = size_t{1} << 20;

// `count` different numbers below `bound`: the first steps of a Fisher-Yates shuffle.
std::vector<int32_t> distinct(SplitMix64& random, size_t count, size_t bound) {
  std::vector<int32_t> all(bound);
  std::iota(all.begin(), all.end(), 0);
  for (size_t i = 0; i < count; ++i) std::swap(all[i], all[i + random.below(bound - i)]);
  all.resize(count);
  return all;
}

class KeyValueTask : public Task {
 public:
  std::string token_text(int32_t token) const override {
    if (token < keys_) return fmt::format("k{}", token);
    return token < keys_ + values_ ? fmt::format("v{}", token - keys_) : "|";
  }

 protected:
  KeyValueTask(size_t length, size_t keys, size_t values, bool separator = false)
      : Task(length, keys + values + (separator ? 1 : 0)),
        keys_(static_cast<int32_t>(keys)),
        values_(static_cast<int32_t>(values)) {}

  size_t keys() const { return static_cast<size_t>(keys_); }
  int32_t draw_value(SplitMix64& random) const {
    return keys_ + static_cast<int32_t>(random.below(static_cast<uint64_t>(values_)));
  }
  int32_t separator() const { return keys_ + values_; }

 private:
  int32_t keys_, values_;
};

// a1 b1 ... an bn | a_p(1) ... a_p(n): different keys, any values; asked at each key after the
// separator: its value. Draws: the keys, the values, the order of the questions.
class Recall final : public KeyValueTask {
 public:
  Recall(size_t pairs, size_t keys, size_t values)
      : KeyValueTask(3 * pairs + 1, keys, values, true), pairs_(pairs) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    std::fill(targets.begin(), targets.end(), kIgnoredTarget);
    const std::vector<int32_t> chosen = distinct(random, pairs_, keys());
    for (size_t i = 0; i < pairs_; ++i) {
      tokens[2 * i] = chosen[i];
      tokens[2 * i + 1] = draw_value(random);
    }
    tokens[2 * pairs_] = separator();
    const std::vector<int32_t> order = distinct(random, pairs_, pairs_);
    for (size_t i = 0; i < pairs_; ++i) {
      const size_t asked = 2 * static_cast<size_t>(order[i]), at = 2 * pairs_ + 1 + i;
      tokens[at] = tokens[asked];
      targets[at] = tokens[asked + 1];
    }
  }

 private:
  size_t pairs_;
};

// The last values that each key was given.
class History {
 public:
  History(size_t keys, size_t back) : values_(keys), back_(back) {}
  // The value before the last `back` - 1 ones, kIgnoredTarget when there were fewer.
  int32_t recall(int32_t key) const {
    const std::vector<int32_t>& given = values_[static_cast<size_t>(key)];
    return given.size() < back_ ? kIgnoredTarget : given[given.size() - back_];
  }
  void assign(int32_t key, int32_t value) { values_[static_cast<size_t>(key)].push_back(value); }

 private:
  std::vector<std::vector<int32_t>> values_;
  size_t back_;
};

// `assigned` different keys get a value each; then, `repeats` times, one of them appears, asked is
// the value it has (`back` 1: the latest), and the next token gives it another. Draws: the keys,
// their values, then key and value in turns.
class Mqrar final : public KeyValueTask {
 public:
  struct Size {
    size_t assigned, repeats, back;
  };
  Mqrar(const Size& size, size_t keys, size_t values)
      : KeyValueTask(2 * (size.assigned + size.repeats), keys, values), size_(size) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    std::fill(targets.begin(), targets.end(), kIgnoredTarget);
    History history(keys(), size_.back);
    const std::vector<int32_t> chosen = distinct(random, size_.assigned, keys());
    for (size_t i = 0; i < size_.assigned + size_.repeats; ++i) {
      const bool first = i < size_.assigned;
      const int32_t key = first ? chosen[i] : chosen[random.below(size_.assigned)];
      const int32_t value = draw_value(random);
      tokens[2 * i] = key;
      tokens[2 * i + 1] = value;
      if (!first) targets[2 * i] = history.recall(key);
      history.assign(key, value);
    }
  }

 private:
  Size size_;
};

// Pairs of any key and any value; asked at a key: the value it got `back` occurrences ago, nothing
// while there were fewer.
class MqrarN final : public KeyValueTask {
 public:
  MqrarN(size_t length, size_t keys, size_t values, size_t back)
      : KeyValueTask(length, keys, values), back_(back) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    History history(keys(), back_);
    for (size_t t = 0; t < length(); t += 2) {
      const auto key = static_cast<int32_t>(random.below(keys()));
      const int32_t value = draw_value(random);
      tokens[t] = key;
      tokens[t + 1] = value;
      targets[t] = history.recall(key);
      targets[t + 1] = kIgnoredTarget;
      history.assign(key, value);
    }
  }

 private:
  size_t back_;
};

}  // namespace

std::unique_ptr<Task> make_recall(TaskOptionReader& options) {
  const size_t keys = options.whole("keys", 128, 1, kMostTokens);
  const size_t values = options.whole("values", 128, 1, kMostTokens);
  return std::make_unique<Recall>(options.whole("pairs", 8, 1, keys), keys, values);
}

std::unique_ptr<Task> make_mqrar(TaskOptionReader& options) {
  const size_t keys = options.whole("keys", 128, 1, kMostTokens);
  const size_t values = options.whole("values", 128, 1, kMostTokens);
  const Mqrar::Size size{.assigned = options.whole("assigned", 8, 1, keys),
                         .repeats = options.whole("repeats", 24, 1, kMostTokens),
                         .back = options.whole("back", 1, 1, 64)};
  return std::make_unique<Mqrar>(size, keys, values);
}

std::unique_ptr<Task> make_mqrar_n(TaskOptionReader& options) {
  const size_t length = options.whole("length", 768, 2, kMostTokens);
  if (length % 2 != 0) options.refuse("length", "an even number", std::to_string(length));
  const size_t keys = options.whole("keys", 32, 1, kMostTokens);
  const size_t values = options.whole("values", 64, 1, kMostTokens);
  return std::make_unique<MqrarN>(length, keys, values, options.whole("back", 1, 1, 64));
}

}  // namespace cairn
