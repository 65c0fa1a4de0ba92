// `cairn bench decode`: the speed of generation, at one depth or several and beside another
// attention mechanism in turns, as a share of what memory allows in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/bench_subject.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

constexpr const char* kVerb = "cairn bench decode";

struct Options {
  SubjectArguments subject;
  std::vector<std::string> depths;
  int64_t tokens = 64, width = 1;
  std::string walkers = "automatic", without;
  bool turns = false;
};

size_t positive(const char* name, int64_t value) {
  return at_least_argument(kVerb, name, value, 1);
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
  EngineOptions how = options.subject.engine.options();
  how.parts = parts_without(options.without);
  if (options.walkers == "automatic")
    how.walkers = Walkers::automatic;
  else if (options.walkers == "team")
    how.walkers = Walkers::team;
  else if (options.walkers == "one")
    how.walkers = Walkers::one;
  else
    refuse_argument(kVerb, "--walkers", "automatic, team or one", options.walkers);
  return how;
}

std::vector<size_t> depths_of(const Options& options) {
  if (options.depths.empty()) return {128};
  std::vector<size_t> depths;
  for (const std::string& word : options.depths) {
    int64_t depth = 0;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), depth);
    if (code != std::errc() || end != word.data() + word.size() || depth < 0)
      refuse_argument(kVerb, "--depth", "0 or more", word);
    depths.push_back(static_cast<size_t>(depth));
  }
  std::sort(depths.begin(), depths.end());
  return depths;
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Answers lines "decode DEPTH TOKENS" and "prefill TOKENS" with the seconds of each token or of the
// prompt: for programs that measure in turns with another.
int take_turns(Engine& engine, int threads) {
  DecodeSpeed speed(engine);
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

// One engine at one depth.
struct Trial {
  const Subject* subject = nullptr;
  size_t depth = 0;
  DecodeSpeed speed;
  size_t cache_bytes = 0;  // of keys and values before a token
  std::vector<double> medians, all;
  AttentionStatistics read = {};  // of the keys that tokens have seen, those that they read
  bool leaves_keys_unread = false;
  double bandwidth_before = 0, bandwidth = 0;  // GB/s of as many bytes as a token reads

  double share_read() const {
    return read.visible == 0
               ? 1
               : static_cast<double>(read.visited) / static_cast<double>(read.visible);
  }
  size_t cache_bytes_read() const {
    return static_cast<size_t>(static_cast<double>(cache_bytes) * share_read());
  }
  size_t bytes() const { return subject->engine->bytes_per_token() + cache_bytes_read(); }

  void measure(size_t width, size_t tokens) {
    const auto before = speed.session().attention_statistics();
    std::vector<double> seconds =
        width == 1 ? speed.decode(depth, tokens) : speed.passes(depth, width, tokens / width + 1);
    all.insert(all.end(), seconds.begin(), seconds.end());
    medians.push_back(median(seconds));
    const auto after = speed.session().attention_statistics();
    if (!before || !after) return;
    leaves_keys_unread = true;
    read.visible += after->visible - before->visible;
    read.visited += after->visited - before->visited;
  }
};

// The text of each depth goes on from the one before.
std::vector<Trial> trials_of(const std::vector<Subject>& subjects,
                             const std::vector<size_t>& depths) {
  std::vector<Trial> trials;
  ProgressCount progress("reading", subjects.size() * depths.back(), "tokens");
  for (const Subject& subject : subjects)
    for (const size_t depth : depths) {
      const bool first = depth == depths.front();
      trials.push_back({&subject, depth,
                        first ? DecodeSpeed(*subject.engine) : trials.back().speed.fork(),
                        cache_bytes_at(subject.engine->config(), depth, subject.cache)});
      trials.back().speed.fill(depth, [&](size_t read) { progress.advance(read); });
    }
  progress.finish();
  return trials;
}

double middle(std::vector<double> values) {
  return median(values);
}

// What was seen of an engine at one depth.
struct Figures {
  double seconds = 0;        // of a pass
  double mbu = 0;            // share of the memory bandwidth
  double barrier_share = 0;  // of the time, that threads wait
  // What a deeper text costs: the time that a token takes longer than behind the shallowest, over
  // the time that memory takes for the keys and values that stand between.
  std::optional<double> depth_cost;
  const Trial* rival = nullptr;  // at the same depth
  double ratio = 0;              // of our time to its
};

Figures figures_of(Trial& trial, const Trial& shallowest, const Trial* rival, size_t tokens) {
  Figures figures;
  figures.seconds = middle(trial.medians);
  figures.mbu = static_cast<double>(trial.bytes()) / figures.seconds / 1e9 / trial.bandwidth;
  figures.barrier_share = trial.speed.barrier_share(trial.depth, tokens);
  figures.rival = rival;
  std::vector<double> longer, ratios;
  for (size_t i = 0; i < trial.medians.size(); ++i) {
    longer.push_back(trial.medians[i] - shallowest.medians[i]);
    if (rival != nullptr) ratios.push_back(trial.medians[i] / rival->medians[i]);
  }
  if (rival != nullptr) figures.ratio = median(ratios);
  if (trial.cache_bytes > shallowest.cache_bytes) {
    const auto bytes = static_cast<double>(trial.cache_bytes - shallowest.cache_bytes);
    figures.depth_cost = median(longer) / (bytes / (1e9 * trial.bandwidth));
  }
  return figures;
}

void print_row(const Trial& trial, const Figures& figures, size_t width, int threads) {
  fmt::print(
      "{}, depth {}, {} token{} a pass: {:.1f} tokens/s, {:.3f} ms ({:.3f} to {:.3f}), "
      "{:.2f} of {:.1f} GB/s",
      trial.subject->title(threads), trial.depth, width, width == 1 ? "" : "s",
      static_cast<double>(width) / figures.seconds, 1e3 * figures.seconds,
      1e3 * percentile(trial.all, 0.1), 1e3 * percentile(trial.all, 0.9), figures.mbu,
      trial.bandwidth);
  if (figures.depth_cost) fmt::print(", depth costs {:.2f} of its bytes", *figures.depth_cost);
  if (figures.rival != nullptr)
    fmt::print(", {:.3f} times {}", figures.ratio, figures.rival->subject->mechanism.name);
  fmt::print("\n");
}

Json json_of(const Trial& trial, const Figures& figures, size_t width, int threads) {
  const Engine& engine = *trial.subject->engine;
  Json line = {{"bench", "decode"},
               {"depth", trial.depth},
               {"width", width},
               {"tokens_per_second", static_cast<double>(width) / figures.seconds},
               {"ms", 1e3 * figures.seconds},
               {"ms_best", 1e3 * *std::min_element(trial.medians.begin(), trial.medians.end())},
               {"ms_p10", 1e3 * percentile(trial.all, 0.1)},
               {"ms_p90", 1e3 * percentile(trial.all, 0.9)},
               {"bytes", trial.bytes()},
               {"cache_bytes", trial.cache_bytes},
               {"bandwidth_gbs", trial.bandwidth},
               {"bandwidth_before_gbs", trial.bandwidth_before},
               {"mbu", figures.mbu},
               {"barriers", engine.barriers()},
               {"barrier_share", figures.barrier_share},
               {"passes_alone", engine.passes_alone()}};
  if (trial.leaves_keys_unread) line["cache_bytes_read"] = trial.cache_bytes_read();
  if (figures.depth_cost) line["depth_cost"] = *figures.depth_cost;
  if (const Trial* rival = figures.rival) {
    line.update({{"versus", rival->subject->facts(threads)},
                 {"versus_ms", 1e3 * middle(rival->medians)},
                 {"ratio", figures.ratio}});
    if (rival->leaves_keys_unread) line["versus"]["cache_bytes_read"] = rival->cache_bytes_read();
  }
  line.update(trial.subject->facts(threads));
  line.update(circumstances());
  return line;
}

int run_decode(const Options& options) {
  ThreadTeam team(static_cast<int>(options.subject.threads));
  const std::vector<size_t> depths = depths_of(options);
  const size_t width = positive("--width", options.width);
  const size_t tokens = positive("--tokens", options.tokens);
  const size_t blocks = positive("--blocks", options.subject.blocks);
  const std::vector<Subject> subjects = open_subjects(
      options.subject, engine_options(options), depths.back() + std::max(tokens, width) + 8, team);
  if (options.turns) return take_turns(*subjects.front().engine, team.size());

  std::vector<Trial> trials = trials_of(subjects, depths);
  for (Trial& trial : trials) trial.bandwidth_before = measure_read_bandwidth(trial.bytes(), team);
  for (size_t block = 0; block < blocks; ++block)
    for (Trial& trial : trials) trial.measure(width, tokens);
  for (Trial& trial : trials)
    trial.bandwidth = (trial.bandwidth_before + measure_read_bandwidth(trial.bytes(), team)) / 2;
  for (size_t i = 0; i < depths.size(); ++i) {
    const Trial* rival = subjects.size() > 1 ? &trials[depths.size() + i] : nullptr;
    const Figures figures = figures_of(trials[i], trials.front(), rival, tokens);
    if (options.subject.json)
      fmt::print("{}", json_line(json_of(trials[i], figures, width, team.size())));
    else
      print_row(trials[i], figures, width, team.size());
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  options->subject.declare(arguments);
  arguments.option("--depth",
                   "tokens that stand before (128); several, each with --depth, are measured in "
                   "turns",
                   options->depths);
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

}  // namespace

size_t cache_bytes_at(const ModelConfig& config, size_t depth, BlockType type) {
  return 2 * config.layers * config.kv_heads * depth * block_row_bytes(type, config.head_dim);
}

const Verb kBenchDecodeVerb{
    .name = "decode",
    .does = "Speed of generation, token by token, as a share of memory bandwidth",
    .example =
        "cairn bench decode --shape 135m --format q4_0\n"
        "cairn bench decode --model smollm2.gguf --depth 128 --depth 4096 --json\n"
        "cairn bench decode --shape 25m --mechanism path --depth 4096",
    .prepare = prepare};

}  // namespace cairn
