// Facts far back in a long context: variables that stand for one another, and a phone book.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "cairn/data/tasks/filler.h"
#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

constexpr size_t kMostTokens = size_t{1} << 20;

// 0 ... count - 1 in a random order (Fisher-Yates).
std::vector<int32_t> shuffled(SplitMix64& random, size_t count) {
  std::vector<int32_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  for (size_t i = 0; i + 1 < count; ++i) std::swap(all[i], all[i + random.below(count - i)]);
  return all;
}

struct TrackingSize {
  size_t length, chains, hops, names, values, filler;

  size_t variables() const { return chains * (hops + 1); }
  size_t facts() const { return 3 * variables(); }      // tokens of all assignments
  size_t questions() const { return 1 + variables(); }  // and of what comes behind
};

// After RULER's variable tracking (Hsieh et al. 2024, arXiv:2404.06654): every chain gives a value
// to a first variable, "x7 = v3", and hands it on `hops` times, "x2 = x7". Chains mingle, spread
// over filler. Then "?" and every variable, asked at each: which value does it hold in the end?
// With hops = 0 this is the search for needles in a haystack.
// Draws: names, values, the mingling, what filler.h draws, the order of the questions.
// Tokens: names, values, filler, "=", "?".
class VariableTracking final : public Task {
 public:
  explicit VariableTracking(const TrackingSize& size)
      : Task(size.length, size.names + size.values + size.filler + 2), size_(size) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    std::fill(targets.begin(), targets.end(), kIgnoredTarget);
    const std::vector<int32_t> names = shuffled(random, size_.names);
    std::vector<int32_t> values(size_.chains);
    for (int32_t& value : values)
      value = first_value() + static_cast<int32_t>(random.below(size_.values));
    // Slot s of the mingled order belongs to chain order[s] % chains, so each has hops + 1 slots.
    const std::vector<int32_t> order = shuffled(random, size_.variables());
    std::vector<size_t> assigned(size_.chains);
    std::vector<Sentence> facts;
    for (const int32_t slot : order) {
      const size_t chain = static_cast<size_t>(slot) % size_.chains, hop = assigned[chain]++;
      const size_t variable = chain * (size_.hops + 1) + hop;
      facts.push_back({names[variable], equals(), hop == 0 ? values[chain] : names[variable - 1]});
    }
    const size_t story = length() - size_.questions();
    spread_over_filler(random, facts, first_filler(), size_.filler, tokens.first(story));
    tokens[story] = equals() + 1;
    const std::vector<int32_t> asked = shuffled(random, size_.variables());
    for (size_t i = 0; i < asked.size(); ++i) {
      const auto variable = static_cast<size_t>(asked[i]);
      tokens[story + 1 + i] = names[variable];
      targets[story + 1 + i] = values[variable / (size_.hops + 1)];
    }
  }
  std::string token_text(int32_t token) const override {
    if (token < first_value()) return fmt::format("x{}", token);
    if (token < first_filler()) return fmt::format("v{}", token - first_value());
    if (token < equals()) return fmt::format("f{}", token - first_filler());
    return token == equals() ? "=" : "?";
  }

 private:
  int32_t first_value() const { return static_cast<int32_t>(size_.names); }
  int32_t first_filler() const { return first_value() + static_cast<int32_t>(size_.values); }
  int32_t equals() const { return first_filler() + static_cast<int32_t>(size_.filler); }

  TrackingSize size_;
};

struct PhoneBookSize {
  size_t length, questions, digits, names;

  size_t row() const { return digits + 3; }  // tokens of an entry or question
  size_t entries() const { return std::min(length / row() - questions, names * names); }
};

// The phone book (Jelassi et al. 2024, arXiv:2402.01032): as many entries as fit, each of a first
// name, a last name, the digits of a number and ";", no two of the same name; then questions of
// "?", a first name and a last name, asked for the digits one after another. What is too short for
// an entry is ";" in front. Draws: the names, the digits entry by entry, the order of the
// questions. Tokens: digits, first names, last names, ";", "?".
class PhoneBook final : public Task {
 public:
  explicit PhoneBook(const PhoneBookSize& size)
      : Task(size.length, 10 + 2 * size.names + 2), size_(size) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    std::fill(targets.begin(), targets.end(), kIgnoredTarget);
    const size_t row = size_.row(), entries = size_.entries();
    const size_t first = length() - (entries + size_.questions) * row;
    std::fill(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(first), end_of_entry());
    const std::vector<int32_t> people = shuffled(random, size_.names * size_.names);
    const auto names = static_cast<int32_t>(size_.names);
    for (size_t i = 0; i < entries; ++i) {
      int32_t* entry = &tokens[first + i * row];
      *entry++ = 10 + people[i] / names;
      *entry++ = 10 + names + people[i] % names;
      for (size_t d = 0; d < size_.digits; ++d) *entry++ = static_cast<int32_t>(random.below(10));
      *entry = end_of_entry();
    }
    const std::vector<int32_t> order = shuffled(random, entries);
    for (size_t i = 0; i < size_.questions; ++i) {
      const size_t from = first + static_cast<size_t>(order[i]) * row;
      const size_t at = first + (entries + i) * row;
      tokens[at] = end_of_entry() + 1;
      for (size_t t = 0; t < size_.digits + 2; ++t) tokens[at + 1 + t] = tokens[from + t];
      for (size_t d = 0; d < size_.digits; ++d) targets[at + 2 + d] = tokens[from + 2 + d];
    }
  }
  std::string token_text(int32_t token) const override {
    const auto names = static_cast<int32_t>(size_.names);
    if (token < 10) return std::to_string(token);
    if (token < 10 + names) return fmt::format("first{}", token - 10);
    if (token < 10 + 2 * names) return fmt::format("last{}", token - 10 - names);
    return token == end_of_entry() ? ";" : "?";
  }

 private:
  int32_t end_of_entry() const { return 10 + 2 * static_cast<int32_t>(size_.names); }

  PhoneBookSize size_;
};

}  // namespace

std::unique_ptr<Task> make_variable_tracking(TaskOptionReader& options) {
  TrackingSize size{};
  size.length = options.whole("length", 256, 1, kMostTokens);
  size.chains = options.whole("chains", 2, 1, 1024);
  size.hops = options.whole("hops", 4, 0, 1024);
  size.names = options.whole("names", 64, size.variables(), kMostTokens);
  size.values = options.whole("values", 64, 1, kMostTokens);
  size.filler = options.whole("filler", 64, 1, kMostTokens);
  const size_t least = size.facts() + size.questions();
  if (size.length < least)
    options.refuse("length", fmt::format("at least {} for chains and questions", least),
                   std::to_string(size.length));
  return std::make_unique<VariableTracking>(size);
}

std::unique_ptr<Task> make_phone_book(TaskOptionReader& options) {
  PhoneBookSize size{};
  size.names = options.whole("names", 32, 1, 1024);
  size.digits = options.whole("digits", 4, 1, 16);
  size.length = options.whole("length", 256, 2 * size.row(), kMostTokens);
  size.questions = options.whole("questions", std::min<size_t>(4, size.length / size.row() / 2), 1,
                                 size.length / size.row() / 2);
  if (size.questions > size.entries())
    options.refuse("questions", fmt::format("at most {}, the entries", size.entries()),
                   std::to_string(size.questions));
  return std::make_unique<PhoneBook>(size);
}

}  // namespace cairn
