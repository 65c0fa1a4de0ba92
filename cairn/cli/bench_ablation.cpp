// `cairn bench ablation`: what each part of the decode program (infer/program_parts.h) brings: the
// paper's claim for whole-model kernels (Nrusimha et al. 2025, arXiv:2505.22758), taken apart in
// one engine. Parts are added one by one, all steps in turns, block by block.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

constexpr const char* kVerb = "cairn bench ablation";

struct Options {
  std::vector<std::string> shapes, formats, depths;
  int64_t blocks = 12, tokens = 16, threads = 0;
  bool json = false;
};

struct Step {
  const char* part;  // that it adds
  const char* name;
  ProgramParts parts;
};
constexpr std::array kSteps = {
    Step{"none", "each operator between barriers", {false, false, false, false}},
    Step{"fusion", "+ fused phases", {true, false, false, false}},
    Step{"stream", "+ one stream of weights a thread", {true, true, false, false}},
    Step{"prefetch", "+ reading ahead across barriers", {true, true, true, false}},
    Step{"constant-k", "+ width known to the compiler", {true, true, true, true}}};

// A ratio of times and its 95 % interval.
struct Ratio {
  double middle = 0, low = 0, high = 0;
};

// Of the times of the same blocks: the median of their ratios, and how it varies when blocks are
// drawn again (bootstrap).
Ratio ratio_of(const std::vector<double>& slow, const std::vector<double>& fast) {
  constexpr size_t kDraws = 1000;
  std::vector<double> ratios(slow.size()), drawn(slow.size()), medians(kDraws);
  for (size_t i = 0; i < ratios.size(); ++i) ratios[i] = slow[i] / fast[i];
  const RandomStream random(1, "bench ablation");
  for (size_t d = 0; d < kDraws; ++d) {
    for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = ratios[random.below(ratios.size(), d, i)];
    medians[d] = median(drawn);
  }
  std::sort(medians.begin(), medians.end());
  return {median(ratios), medians[kDraws / 40], medians[kDraws - 1 - kDraws / 40]};
}

// A model packed both ways, and a text in each.
class Subject {
 public:
  Subject(const DecoderWeights& weights, ThreadTeam& team)
      : apart_(weights, team, {.walkers = Walkers::team, .parts = kSteps.front().parts}),
        whole_(weights, team, {.walkers = Walkers::team}),
        speed_of_apart_(apart_),
        speed_(whole_) {}

  const Engine& whole() const { return whole_; }
  // Seconds of a token, the median of `tokens`.
  double time(const Step& step, size_t depth, size_t tokens) {
    (step.parts.stream ? whole_ : apart_).set_parts(step.parts);
    std::vector<double> seconds =
        (step.parts.stream ? speed_ : speed_of_apart_).decode(depth, tokens);
    return median(seconds);
  }

 private:
  Engine apart_, whole_;
  DecodeSpeed speed_of_apart_, speed_;
};

struct Measured {
  std::array<std::vector<double>, kSteps.size()> seconds;  // a block each
  double bandwidth = 0;                                    // GB/s
};

Measured measure(Subject& subject, size_t depth, const Options& options, ThreadTeam& team) {
  const size_t blocks = at_least_argument(kVerb, "--blocks", options.blocks, 1);
  const size_t tokens = at_least_argument(kVerb, "--tokens", options.tokens, 1);
  const size_t bytes = subject.whole().bytes_per_token();
  for (const Step& step : {kSteps.front(), kSteps.back()}) subject.time(step, depth, 1);
  Measured result;
  result.bandwidth = measure_read_bandwidth(bytes, team) / 2;
  for (size_t block = 0; block < blocks; ++block)
    for (size_t i = 0; i < kSteps.size(); ++i) {
      // There and back, so that no step always follows the same one.
      const size_t s = block % 2 == 0 ? i : kSteps.size() - 1 - i;
      result.seconds[s].push_back(subject.time(kSteps[s], depth, tokens));
    }
  result.bandwidth += measure_read_bandwidth(bytes, team) / 2;
  return result;
}

void report(const std::string& shape, const std::string& format, size_t depth, const Engine& engine,
            Measured& measured, int threads, bool json) {
  const Ratio total = ratio_of(measured.seconds.front(), measured.seconds.back());
  std::array<Ratio, kSteps.size()> gains;
  for (size_t i = 1; i < kSteps.size(); ++i)
    gains[i] = ratio_of(measured.seconds[i - 1], measured.seconds[i]);
  const size_t bytes =
      engine.bytes_per_token() + cache_bytes_at(engine.config(), depth, BlockType::f16);
  const double fastest = median(measured.seconds.back());
  const double mbu = static_cast<double>(bytes) / fastest / 1e9 / measured.bandwidth;
  Json steps = Json::array();
  if (!json)
    fmt::print("{} {}, depth {}, {} threads: {:.3f} ms, {:.2f} of {:.0f} GB/s\n", shape, format,
               depth, threads, 1e3 * fastest, mbu, measured.bandwidth);
  for (size_t i = 0; i < kSteps.size(); ++i) {
    const double ms = 1e3 * median(measured.seconds[i]);
    const Ratio& gain = gains[i];
    steps.push_back({{"part", kSteps[i].part}, {"ms", ms}});
    if (i > 0) steps.back().update({{"gain", gain.middle}, {"low", gain.low}, {"high", gain.high}});
    if (json) continue;
    fmt::print("  {:<34}{:9.3f} ms", kSteps[i].name, ms);
    if (i > 0) fmt::print("  {:.3f} x ({:.3f}-{:.3f})", gain.middle, gain.low, gain.high);
    fmt::print("\n");
  }
  if (!json) {
    fmt::print("  all {:.3f} x ({:.3f}-{:.3f})\n", total.middle, total.low, total.high);
    return;
  }
  fmt::print("{}", json_line({{"bench", "ablation"},
                              {"model", shape},
                              {"format", format},
                              {"depth", depth},
                              {"threads", threads},
                              {"steps", steps},
                              {"gain", total.middle},
                              {"gain_low", total.low},
                              {"gain_high", total.high},
                              {"tokens_per_second", 1 / fastest},
                              {"bytes", bytes},
                              {"bandwidth_gbs", measured.bandwidth},
                              {"mbu", mbu},
                              {"isa", isa_name(usable_isa())},
                              {"processor", processor_family()}}));
}

BlockType type_of(const std::string& word) {
  const BlockTypeInfo* info = find_block_type(word);
  if (info == nullptr) refuse_argument(kVerb, "--format", "a type such as q4_0 or bf16", word);
  return info->type;
}

size_t depth_of(const std::string& word) {
  int64_t depth = 0;
  const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), depth);
  if (code != std::errc() || end != word.data() + word.size() || depth < 1)
    refuse_argument(kVerb, "--depth", "1 or more", word);
  return static_cast<size_t>(depth);
}

int run_ablation(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  for (const std::string& shape : options.shapes)
    for (const std::string& format : options.formats) {
      const RandomDecoder random(RandomDecoder::shape(shape), type_of(format));
      Subject subject(random.weights(), team);
      for (const std::string& word : options.depths) {
        const size_t depth = depth_of(word);
        Measured measured = measure(subject, depth, options, team);
        report(shape, format, depth, subject.whole(), measured, team.size(), options.json);
      }
    }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--shape", "of random weights, may be repeated (15m, 135m and 1b)",
                   options->shapes);
  arguments.option("--format", "of the weights, may be repeated (q4_0, q8_0 and bf16)",
                   options->formats);
  arguments.option("--depth", "tokens that stand before, may be repeated, rising (128 and 2048)",
                   options->depths);
  arguments.option("--blocks", "measurements of each step, in turns", options->blocks);
  arguments.option("--tokens", "of one measurement", options->tokens);
  arguments.option("--threads", "0: as many as the machine allows", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] {
    if (options->shapes.empty()) options->shapes = {"15m", "135m", "1b"};
    if (options->formats.empty()) options->formats = {"q4_0", "q8_0", "bf16"};
    if (options->depths.empty()) options->depths = {"128", "2048"};
    return run_ablation(*options);
  };
}

}  // namespace

const Verb kBenchAblationVerb{
    .name = "ablation",
    .does = "What each part of the decode program brings, added one by one",
    .example =
        "cairn bench ablation --shape 135m --format q4_0\n"
        "cairn bench ablation --json > ablation.jsonl",
    .prepare = prepare};

}  // namespace cairn
