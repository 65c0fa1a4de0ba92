// `cairn bench decode` and `cairn bench prefill`: the speed of generation and of reading prompts,
// beside what memory and processor allow in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  std::string model, shape = "135m", format = "q4_0";
  EngineArguments engine;
  int64_t depth = 128, tokens = 64, blocks = 8, width = 1, threads = 0;
  std::string walkers = "automatic", without;
  bool turns = false, json = false;
};

size_t positive(const char* name, int64_t value) {
  return at_least_argument("cairn bench", name, value, 1);
}

BlockType random_type(const std::string& word) {
  if (const BlockTypeInfo* info = find_block_type(word)) return info->type;
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a type of weights to measure",
               .expected = "f32, f16, bf16, q8_0, q4_0, ...",
               .found = word});
}

// "fusion,stream": all parts but these.
ProgramParts parts_without(const std::string& list) {
  ProgramParts parts;
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string word = list.substr(begin, end - begin);
    begin = end + 1;
    if (word == "fusion")
      parts.fusion = false;
    else if (word == "stream")
      parts.stream = false;
    else if (word == "prefetch")
      parts.prefetch = false;
    else if (word == "constant-k")
      parts.constant_k = false;
    else
      throw Error({.kind = ErrorKind::usage,
                   .doing = "choosing parts of the decode program",
                   .subject = "--without",
                   .expected = "some of fusion,stream,prefetch,constant-k",
                   .found = in_quotes(word)});
  }
  return parts;
}

EngineOptions engine_options(const Options& options) {
  EngineOptions how = options.engine.options();
  how.parts = parts_without(options.without);
  if (options.walkers == "automatic")
    how.walkers = Walkers::automatic;
  else if (options.walkers == "team")
    how.walkers = Walkers::team;
  else if (options.walkers == "one")
    how.walkers = Walkers::one;
  else
    refuse_argument("cairn bench decode", "--walkers", "automatic, team or one", options.walkers);
  return how;
}

// The engine under measurement: a file's, or one with random weights.
class Subject {
 public:
  Subject(const Options& options, ThreadTeam& team) {
    const EngineOptions how = engine_options(options);
    if (!options.model.empty()) {
      engine_.emplace(open_decoder_weights(options.model), team, how);
      name_ = options.model;
      format_ = options.engine.precision.empty() ? "as stored" : options.engine.precision;
      return;
    }
    const RandomDecoder random(RandomDecoder::shape(options.shape), random_type(options.format));
    engine_.emplace(random.weights(), team, how);
    name_ = options.shape;
    format_ = options.format;
  }

  Engine& engine() { return *engine_; }
  const std::string& name() const { return name_; }
  const std::string& format() const { return format_; }

 private:
  std::optional<Engine> engine_;
  std::string name_, format_;
};

double load_average() {
  double load[1] = {0};
  return getloadavg(load, 1) == 1 ? load[0] : 0;
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Answers lines "decode DEPTH TOKENS" and "prefill TOKENS" with the seconds of each token or of the
// prompt: for programs that measure in turns with another.
int take_turns(DecodeSpeed& speed, int threads) {
  std::cout << json_line({{"ready", true}, {"threads", threads}}) << std::flush;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string verb;
    int64_t first = 0, second = 0;
    fields >> verb >> first >> second;
    std::vector<double> seconds;
    if (verb == "decode")
      seconds = speed.decode(positive("DEPTH", first), positive("TOKENS", second));
    else if (verb == "prefill")
      seconds = {speed.prefill(positive("TOKENS", first))};
    else
      throw Error({.kind = ErrorKind::usage,
                   .doing = "measuring in turns",
                   .expected = "decode DEPTH TOKENS or prefill TOKENS",
                   .found = in_quotes(line)});
    std::cout << json_line({{"seconds", seconds}}) << std::flush;
  }
  return 0;
}

int run_decode(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  Subject subject(options, team);
  Engine& engine = subject.engine();
  DecodeSpeed speed(engine);
  if (options.turns) return take_turns(speed, team.size());
  const size_t depth = positive("--depth", options.depth);
  const size_t width = positive("--width", options.width);
  const size_t tokens = positive("--tokens", options.tokens);
  const size_t weights = engine.bytes_per_token();
  const BlockType cache = options.engine.options().cache.value_or(BlockType::f16);
  const size_t bytes = weights + cache_bytes_at(engine.config(), depth, cache);

  const double before = measure_read_bandwidth(weights, team);
  std::vector<double> medians, all;
  for (size_t i = 0; i < positive("--blocks", options.blocks); ++i) {
    std::vector<double> seconds =
        width == 1 ? speed.decode(depth, tokens) : speed.passes(depth, width, tokens / width + 1);
    all.insert(all.end(), seconds.begin(), seconds.end());
    medians.push_back(median(seconds));
  }
  const double bandwidth = (before + measure_read_bandwidth(weights, team)) / 2;
  const double waiting = speed.barrier_share(depth, tokens);
  const double typical = median(medians), rate = static_cast<double>(width) / typical;
  const double mbu = static_cast<double>(bytes) / typical / 1e9 / bandwidth;
  if (options.json)
    fmt::print("{}", json_line({{"bench", "decode"},
                                {"model", subject.name()},
                                {"format", subject.format()},
                                {"threads", team.size()},
                                {"depth", depth},
                                {"width", width},
                                {"tokens_per_second", rate},
                                {"ms", 1e3 * typical},
                                {"ms_best", 1e3 * medians.front()},
                                {"ms_p10", 1e3 * percentile(all, 0.1)},
                                {"ms_p90", 1e3 * percentile(all, 0.9)},
                                {"bytes", bytes},
                                {"bandwidth_gbs", bandwidth},
                                {"bandwidth_before_gbs", before},
                                {"mbu", mbu},
                                {"barriers", engine.barriers()},
                                {"barrier_share", waiting},
                                {"passes_alone", engine.passes_alone()},
                                {"load", load_average()},
                                {"isa", isa_name(usable_isa())},
                                {"processor", processor_name()}}));
  else
    fmt::print(
        "{} {}, {} thread{}, depth {}, {} token{} a pass: {:.1f} tokens/s, {:.3f} ms "
        "({:.3f} to {:.3f}), {:.2f} of {:.1f} GB/s\n",
        subject.name(), subject.format(), team.size(), team.size() == 1 ? "" : "s", depth, width,
        width == 1 ? "" : "s", rate, 1e3 * typical, 1e3 * percentile(all, 0.1),
        1e3 * percentile(all, 0.9), mbu, bandwidth);
  return 0;
}

int run_prefill(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  Subject subject(options, team);
  Engine& engine = subject.engine();
  DecodeSpeed speed(engine);
  const size_t tokens = positive("--tokens", options.tokens);
  std::vector<double> seconds;
  for (size_t i = 0; i < positive("--blocks", options.blocks); ++i)
    seconds.push_back(speed.prefill(tokens));
  const double typical = median(seconds), rate = static_cast<double>(tokens) / typical;
  // Multiply-adds of the layers' matrices; attention and the one row of the head left out.
  const ModelConfig& c = engine.config();
  const double weights =
      static_cast<double>(c.layers * c.hidden_size) *
      static_cast<double>(2 * c.head_dim * (c.heads + c.kv_heads) + 3 * c.intermediate_size);
  const double peak = measure_peak(PeakKind::int8, team), gops = 2e-9 * weights * rate;
  if (options.json)
    fmt::print("{}", json_line({{"bench", "prefill"},
                                {"model", subject.name()},
                                {"format", subject.format()},
                                {"threads", team.size()},
                                {"tokens", tokens},
                                {"tokens_per_second", rate},
                                {"ms", 1e3 * typical},
                                {"ms_best", 1e3 * seconds.front()},
                                {"gops", gops},
                                {"int8_peak_gops", peak},
                                {"load", load_average()},
                                {"isa", isa_name(usable_isa())},
                                {"processor", processor_name()}}));
  else
    fmt::print("{} {}, {} thread{}, {} tokens: {:.0f} tokens/s, {:.0f} GOP/s of {:.0f}\n",
               subject.name(), subject.format(), team.size(), team.size() == 1 ? "" : "s", tokens,
               rate, gops, peak);
  return 0;
}

void declare(Arguments& arguments, Options& o) {
  arguments.option("--model",
                   "a model folder or GGUF file; its weights as they are stored, or as "
                   "--precision says",
                   o.model);
  arguments.option("--shape", "random weights in this shape: 15m, 25m, 135m, 360m, 1b or 1b-a400m",
                   o.shape);
  arguments.option("--format", "of random weights: q4_0, q8_0, bf16, ...", o.format);
  o.engine.declare(arguments);
  arguments.option("--threads", "0: as many as the machine allows", o.threads);
  arguments.option("--blocks", "measurements; the median counts", o.blocks);
  arguments.flag("--json", "print one JSON line", o.json);
}

std::function<int()> prepare_decode(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  declare(arguments, *options);
  arguments.option("--depth", "tokens that stand before", options->depth);
  arguments.option("--tokens", "of one measurement", options->tokens);
  arguments.option("--width", "tokens of a pass, with the logits of each", options->width);
  arguments.option("--walkers",
                   "of passes: team, one (thread over the rows of all), or automatic: whichever is "
                   "quicker at the time",
                   options->walkers);
  arguments.option("--without",
                   "parts of the program, to see what they bring: some of "
                   "fusion,stream,prefetch,constant-k",
                   options->without);
  arguments.flag("--turns",
                 "measure when a line of the input says so: decode DEPTH TOKENS, or "
                 "prefill TOKENS",
                 options->turns);
  return [options] { return run_decode(*options); };
}

std::function<int()> prepare_prefill(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  options->tokens = 512;
  declare(arguments, *options);
  arguments.option("--tokens", "of the prompt", options->tokens);
  return [options] { return run_prefill(*options); };
}

}  // namespace

size_t cache_bytes_at(const ModelConfig& config, size_t depth, BlockType type) {
  return 2 * config.layers * config.kv_heads * depth * block_row_bytes(type, config.head_dim);
}

const Verb kBenchDecodeVerb{
    .name = "decode",
    .does = "Speed of generation, token by token, as a share of memory bandwidth",
    .example =
        "cairn bench decode --shape 135m --format q4_0\n"
        "cairn bench decode --model smollm2.gguf --depth 1024 --json",
    .prepare = prepare_decode};

const Verb kBenchPrefillVerb{.name = "prefill",
                             .does = "Speed of reading a prompt",
                             .example = "cairn bench prefill --shape 135m --format q4_0",
                             .prepare = prepare_prefill};

}  // namespace cairn
