// Tasks whose answer is a state that every token changes: permutations applied one after another.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

// The ball lies under cup 0 at the start token; each further token swaps two cups. Asked at every
// token: under which cup is the ball?
// Tokens: the swaps of cups a < b in lexicographic order, the start, the cups.
class ShellGame final : public Task {
 public:
  ShellGame(size_t length, size_t cups)
      : Task(length, cups * (cups - 1) / 2 + 1 + cups), cups_(static_cast<int32_t>(cups)) {
    for (int32_t a = 0; a < cups_; ++a)
      for (int32_t b = a + 1; b < cups_; ++b) swaps_.push_back({a, b});
  }

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    int32_t ball = 0;
    for (size_t t = 0; t < length(); ++t) {
      tokens[t] = start();
      if (t > 0) {
        const auto drawn = random.below(swaps_.size());
        const auto [a, b] = swaps_[drawn];
        ball = ball == a ? b : ball == b ? a : ball;
        tokens[t] = static_cast<int32_t>(drawn);
      }
      targets[t] = start() + 1 + ball;
    }
  }
  std::string token_text(int32_t token) const override {
    if (token == start()) return "start";
    if (token > start()) return fmt::format("cup{}", token - start() - 1);
    const Swap& swap = swaps_.at(static_cast<size_t>(token));
    return fmt::format("swap({},{})", swap.a, swap.b);
  }

 private:
  struct Swap {
    int32_t a, b;
  };
  int32_t start() const { return static_cast<int32_t>(swaps_.size()); }

  int32_t cups_;
  std::vector<Swap> swaps_;
};

constexpr size_t kPoints = 5;
using Permutation = std::array<int32_t, kPoints>;

bool is_even(const Permutation& p) {
  int inversions = 0;
  for (size_t i = 0; i < kPoints; ++i)
    for (size_t j = i + 1; j < kPoints; ++j) inversions += p[i] > p[j] ? 1 : 0;
  return inversions % 2 == 0;
}

// The elements in lexicographic order, so that the identity is element 0.
std::vector<Permutation> group_elements(bool even_only) {
  std::vector<Permutation> elements;
  Permutation p;
  std::iota(p.begin(), p.end(), 0);
  do {
    if (!even_only || is_even(p)) elements.push_back(p);
  } while (std::next_permutation(p.begin(), p.end()));
  return elements;
}

// The 3-cycles (1 2 3), (1 2 4), (1 2 5) and their inverses, which generate A5.
std::vector<Permutation> three_cycles() {
  std::vector<Permutation> cycles;
  for (const int32_t c : {2, 3, 4}) {
    Permutation p, inverse{};
    std::iota(p.begin(), p.end(), 0);
    p[0] = 1;
    p[1] = c;
    p[static_cast<size_t>(c)] = 0;
    for (size_t i = 0; i < kPoints; ++i)
      inverse[static_cast<size_t>(p[i])] = static_cast<int32_t>(i);
    cycles.push_back(p);
    cycles.push_back(inverse);
  }
  return cycles;
}

struct WordProblemOptions {
  bool even_only = false;   // A5, not S5
  bool generators = false;  // draw three_cycles() only
  bool begin = true;        // a token of its own before the first element
  bool identity = false;    // asked is only whether the product is the identity
};

// Elements of S5 or A5; asked after each: the product of all so far, where (a b)[x] = b[a[x]].
// Tokens: the elements, the begin token, then "no" and "yes" for the identity form.
class WordProblem final : public Task {
 public:
  WordProblem(size_t elements, const WordProblemOptions& options)
      : Task(elements + (options.begin ? 1 : 0), (options.even_only ? 60 : 120) + 3),
        options_(options),
        group_(group_elements(options.even_only)) {
    if (options.generators) {
      for (const Permutation& cycle : three_cycles()) drawn_.push_back(index_of(cycle));
    } else {
      drawn_.resize(group_.size());
      std::iota(drawn_.begin(), drawn_.end(), 0);
    }
    for (const Permutation& a : group_)
      for (const Permutation& b : group_) product_.push_back(index_of(then(a, b)));
  }

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    const size_t first = options_.begin ? 1 : 0;
    if (options_.begin) {
      tokens[0] = begin_token();
      targets[0] = kIgnoredTarget;
    }
    int32_t product = 0;
    for (size_t t = first; t < length(); ++t) {
      const int32_t element = drawn_[random.below(drawn_.size())];
      product =
          product_[static_cast<size_t>(product) * group_.size() + static_cast<size_t>(element)];
      tokens[t] = element;
      targets[t] = !options_.identity ? product : begin_token() + (product == 0 ? 2 : 1);
    }
  }
  std::string token_text(int32_t token) const override {
    if (token == begin_token()) return "begin";
    if (token > begin_token()) return token == begin_token() + 1 ? "no" : "yes";
    std::string text;
    for (const int32_t image : group_.at(static_cast<size_t>(token)))
      text += std::to_string(image + 1);
    return text;
  }

 private:
  int32_t begin_token() const { return static_cast<int32_t>(group_.size()); }
  int32_t index_of(const Permutation& p) const {
    return static_cast<int32_t>(std::lower_bound(group_.begin(), group_.end(), p) - group_.begin());
  }
  static Permutation then(const Permutation& a, const Permutation& b) {
    Permutation out{};
    for (size_t x = 0; x < kPoints; ++x) out[x] = b[static_cast<size_t>(a[x])];
    return out;
  }

  WordProblemOptions options_;
  std::vector<Permutation> group_;
  std::vector<int32_t> drawn_;    // the elements that words are made of
  std::vector<int32_t> product_;  // [elements, elements]
};

}  // namespace

std::unique_ptr<Task> make_shell_game(TaskOptionReader& options) {
  const size_t length = options.whole("length", 32, 2, size_t{1} << 20);
  return std::make_unique<ShellGame>(length, options.whole("cups", 5, 2, 64));
}

std::unique_ptr<Task> make_word_problem(TaskOptionReader& options) {
  const size_t elements = options.whole("elements", 20, 1, size_t{1} << 20);
  WordProblemOptions form;
  form.even_only = options.word("group", {"A5", "S5"}) == "A5";
  form.generators = options.word("words", {"elements", "generators"}) == "generators";
  form.begin = options.flag("begin", true);
  form.identity = options.word("answer", {"product", "identity"}) == "identity";
  return std::make_unique<WordProblem>(elements, form);
}

}  // namespace cairn
