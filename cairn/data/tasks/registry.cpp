// The tasks by name. A new task adds a line here, and one to tasks.h.
#include <array>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/data/tasks/tasks.h"

namespace cairn {
namespace {

constexpr std::array kDescriptions = {
    TaskDescription{"flip_flop", "remember a bit across noise", "length = 512, ignore = 0.8"},
    TaskDescription{"shell_game", "follow the ball through swaps of cups", "length = 32, cups = 5"},
    TaskDescription{"word_problem", "multiply permutations",
                    "elements = 20, group = \"A5\", words = \"elements\", begin = true, "
                    "answer = \"product\""},
    TaskDescription{"recall", "answer keys with their values",
                    "pairs = 8, keys = 128, values = 128"},
    TaskDescription{"mqrar", "answer keys with their latest values, again and again",
                    "assigned = 8, repeats = 24, back = 1, keys = 128, values = 128"},
    TaskDescription{"mqrar_n", "answer keys with their N-th last values",
                    "length = 768, keys = 32, values = 64, back = 1"},
    TaskDescription{"variable_tracking", "find what variables stand for, far back in filler",
                    "length = 256, chains = 2, hops = 4, names = 64, values = 64, filler = 64"},
    TaskDescription{"phone_book", "look up numbers by name",
                    "length = 256, names = 32, digits = 4, questions = 4"},
    TaskDescription{"stories", "answer from a story of a small world, spread over filler",
                    "length = 256, kind = 1 (to 5), facts = 8 (by kind), questions = 2, "
                    "filler = 64"},
};
constexpr std::array kMakers = {
    make_flip_flop, make_shell_game,        make_word_problem, make_recall, make_mqrar,
    make_mqrar_n,   make_variable_tracking, make_phone_book,   make_stories};
static_assert(kDescriptions.size() == kMakers.size());

}  // namespace

std::span<const TaskDescription> task_descriptions() {
  return kDescriptions;
}

std::unique_ptr<Task> make_task(const TaskOptions& options) {
  std::vector<std::string> known;
  std::string list;
  for (size_t i = 0; i < kMakers.size(); ++i) {
    known.emplace_back(kDescriptions[i].name);
    list += (list.empty() ? "" : ", ") + known.back();
    if (options.name != known.back()) continue;
    TaskOptionReader reader(options);
    std::unique_ptr<Task> task = kMakers[i](reader);
    reader.finish();
    return task;
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "making a task",
               .subject = "name",
               .expected = "one of " + list,
               .found = options.name.empty() ? "nothing" : options.name,
               .hint = did_you_mean(options.name, known)});
}

Batch task_batch(const Task& task, const RandomStream& stream, uint64_t first, size_t count) {
  const size_t length = task.length();
  Batch batch;
  batch.sequences = count;
  batch.length = length;
  batch.tokens.resize(count * length);
  batch.targets.resize(count * length);
  batch.positions.resize(count * length);
  batch.offsets.push_back(0);
  for (size_t s = 0; s < count; ++s) {
    SplitMix64 random(stream.bits(first + s));
    const size_t begin = s * length;
    task.generate(random, std::span(batch.tokens).subspan(begin, length),
                  std::span(batch.targets).subspan(begin, length));
    for (size_t t = 0; t < length; ++t) batch.positions[begin + t] = static_cast<int32_t>(t);
    batch.offsets.push_back(static_cast<int32_t>(begin + length));
  }
  return batch;
}

void TaskScore::add(const Batch& batch, std::span<const int32_t> answers) {
  for (size_t s = 0; s < batch.sequences; ++s) {
    uint64_t wrong = 0;
    for (size_t t = s * batch.length; t < (s + 1) * batch.length; ++t) {
      if (batch.targets[t] == kIgnoredTarget) continue;
      const bool hit = answers[t] == batch.targets[t];
      ++targets;
      right += hit ? 1 : 0;
      wrong += hit ? 0 : 1;
    }
    ++sequences;
    whole += wrong == 0 ? 1 : 0;
  }
}

}  // namespace cairn
