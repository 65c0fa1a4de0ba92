// Flip-flop language modelling (Liu et al. 2023): pairs of an instruction and a bit. After r the
// bit must be that of the latest w; the bits after w and i are noise. The first instruction is w,
// the last r; between them i has probability `ignore`, w and r share the rest.
#include <array>

#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

enum Token : int32_t { kWrite, kRead, kIgnore, kZero };  // kZero + bit

class FlipFlop final : public Task {
 public:
  FlipFlop(size_t length, double ignore) : Task(length, 5), ignore_(ignore) {}

  void generate(SplitMix64& random, std::span<int32_t> tokens,
                std::span<int32_t> targets) const override {
    int32_t memory = 0;
    for (size_t t = 0; t < length(); t += 2) {
      const int32_t instruction = draw_instruction(random, t);
      int32_t bit = memory;
      if (instruction != kRead) bit = static_cast<int32_t>(random.below(2));
      if (instruction == kWrite) memory = bit;
      tokens[t] = instruction;
      tokens[t + 1] = kZero + bit;
      targets[t] = instruction == kRead ? kZero + bit : kIgnoredTarget;
      targets[t + 1] = kIgnoredTarget;
    }
  }
  std::string token_text(int32_t token) const override {
    constexpr std::array kNames = {"w", "r", "i", "0", "1"};
    return kNames.at(static_cast<size_t>(token));
  }

 private:
  int32_t draw_instruction(SplitMix64& random, size_t t) const {
    if (t == 0) return kWrite;
    if (t == length() - 2) return kRead;
    const double u = random.uniform();
    const double write = (1.0 - ignore_) / 2;
    return u < write ? kWrite : u < 2 * write ? kRead : kIgnore;
  }

  double ignore_;
};

}  // namespace

std::unique_ptr<Task> make_flip_flop(TaskOptionReader& options) {
  const double ignore = options.real("ignore", 0.8, 0, 1);
  const size_t length = options.whole("length", 512, 4, size_t{1} << 20);
  if (length % 2 != 0) options.refuse("length", "an even number", std::to_string(length));
  return std::make_unique<FlipFlop>(length, ignore);
}

}  // namespace cairn
