// `cairn bench prefill`: the speed of reading prompts, beside what the processor allows in the same
// run.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/cli/bench.h"
#include "cairn/cli/bench_subject.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  SubjectArguments subject;
  int64_t tokens = 512;
};

// Billions of operations of the layers' matrices; attention and the one row of the head left out.
double matrix_gop(const ModelConfig& c, size_t tokens) {
  const size_t weights = c.layers * c.hidden_size *
                         (2 * c.head_dim * (c.heads + c.kv_heads) + 3 * c.intermediate_size);
  return 2e-9 * static_cast<double>(weights) * static_cast<double>(tokens);
}

int run_prefill(const Options& options) {
  ThreadTeam team(static_cast<int>(options.subject.threads));
  const size_t tokens = at_least_argument("cairn bench prefill", "--tokens", options.tokens, 1);
  const size_t blocks =
      at_least_argument("cairn bench prefill", "--blocks", options.subject.blocks, 1);
  const std::vector<Subject> subjects =
      open_subjects(options.subject, options.subject.engine.options(), tokens, team);
  std::vector<DecodeSpeed> speeds;
  for (const Subject& subject : subjects) speeds.emplace_back(*subject.engine);
  std::vector<std::vector<double>> seconds(subjects.size());
  std::vector<double> ratios;
  for (size_t block = 0; block < blocks; ++block) {
    for (size_t i = 0; i < speeds.size(); ++i) seconds[i].push_back(speeds[i].prefill(tokens));
    ratios.push_back(seconds.front().back() / seconds.back().back());
  }
  const Subject& subject = subjects.front();
  const double typical = median(seconds.front()), rate = static_cast<double>(tokens) / typical;
  const double peak = measure_peak(PeakKind::int8, team);
  const double gops = matrix_gop(subject.engine->config(), tokens) / typical;
  const bool compared = subjects.size() > 1;
  if (options.subject.json) {
    Json line = {{"bench", "prefill"},
                 {"tokens", tokens},
                 {"tokens_per_second", rate},
                 {"ms", 1e3 * typical},
                 {"ms_best", 1e3 * seconds.front().front()},
                 {"gops", gops},
                 {"int8_peak_gops", peak}};
    line.update(subject.facts(team.size()));
    if (compared)
      line.update({{"versus", subjects.back().facts(team.size())},
                   {"versus_ms", 1e3 * median(seconds.back())},
                   {"ratio", median(ratios)}});
    line.update(circumstances());
    fmt::print("{}", json_line(line));
    return 0;
  }
  fmt::print("{}, {} tokens: {:.0f} tokens/s, {:.0f} GOP/s of {:.0f}", subject.title(team.size()),
             tokens, rate, gops, peak);
  if (compared)
    fmt::print(", {:.2f} times as long as {}", median(ratios), subjects.back().mechanism.name);
  fmt::print("\n");
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  options->subject.declare(arguments);
  arguments.option("--tokens", "of the prompt", options->tokens);
  return [options] { return run_prefill(*options); };
}

}  // namespace

const Verb kBenchPrefillVerb{.name = "prefill",
                             .does = "Speed of reading a prompt",
                             .example =
                                 "cairn bench prefill --shape 135m --format q4_0\n"
                                 "cairn bench prefill --shape 25m --mechanism path --tokens 8192",
                             .prepare = prepare};

}  // namespace cairn
