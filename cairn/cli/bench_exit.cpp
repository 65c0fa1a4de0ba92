// `cairn bench exit`: what a trained model gains when its attention stops looking back once nothing
// is left to give (option exit_threshold of stick-breaking), and what that costs: the same model
// with and without, in turns, on the same text.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/seconds_since.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/eval.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"
#include "cairn/nn/language_model.h"

namespace cairn {
namespace {

struct Options {
  EvalOptions text;
  int64_t tokens = 4096, repetitions = 5, windows = 4;
};

constexpr size_t kDecoded = 64;  // tokens generated behind the context, a sample of decoding

size_t at_least(const char* name, int64_t value, size_t least) {
  return at_least_argument("cairn bench exit", name, value, least);
}

// The model that may read texts of `tokens` and kDecoded more, with or without exit.
Model variant_of(const Model& model, size_t tokens, bool exit) {
  ModelConfig config = model.config();
  config.context_length = std::max(config.context_length, tokens + kDecoded);
  if (!exit) config.attention.values["exit_threshold"] = 0.0;
  return rebuild_model(config, model);
}

// One of the two, with what was measured of it. Times in seconds, a value a repetition.
class Subject {
 public:
  Subject(const Model& model, size_t tokens, bool exit, ThreadTeam& team)
      : model_(variant_of(model, tokens, exit)),
        program_(model_, {1, tokens, Precision::f32, true}, team),
        engine_(model_, team, {.context = tokens + kDecoded}) {}

  void score(const EvaluationWindows& windows, uint64_t count) {
    program_.observe_attention([&](const AttentionSeen& seen) {
      const auto statistics = seen.mechanism.statistics(seen.layout, seen.saved);
      if (!statistics) return;
      visible_ += statistics->visible;
      visited_ += statistics->visited;
    });
    LossSum sum;
    for (uint64_t i = 0; i < std::min(count, windows.size()); ++i) {
      const LossSum one = program_.forward(windows.batch(i, 1));
      sum.loss += one.loss;
      sum.targets += one.targets;
    }
    program_.observe_attention({});
    perplexity = std::exp(sum.loss / static_cast<double>(std::max<size_t>(sum.targets, 1)));
  }

  void train(const Batch& batch) {
    program_.take_timings();
    const auto start = std::chrono::steady_clock::now();
    program_.forward_backward(batch);
    step.push_back(seconds_since(start));
    double attention = 0;
    for (const auto& timing : program_.take_timings())
      if (timing.name.starts_with("attention")) attention += timing.seconds;
    step_attention.push_back(attention);
  }

  // Reads `text` but its last kDecoded tokens at once, then those one by one.
  void read(std::span<const int32_t> text) {
    Session session = engine_.start();
    session.reserve(text.size());
    const std::span<const int32_t> prompt = text.first(text.size() - kDecoded);
    auto start = std::chrono::steady_clock::now();
    session.append(prompt);
    prefill.push_back(seconds_since(start));
    start = std::chrono::steady_clock::now();
    for (const int32_t token : text.last(kDecoded)) session.append(token);
    decode.push_back(seconds_since(start) / kDecoded);
  }

  // Of the keys that the causal mask leaves, those whose scores were computed.
  double visited() const {
    return visible_ == 0 ? 1 : static_cast<double>(visited_) / static_cast<double>(visible_);
  }

  std::vector<double> step, step_attention, prefill, decode;
  double perplexity = 0;

 private:
  Model model_;
  LanguageModel program_;
  Engine engine_;
  uint64_t visible_ = 0, visited_ = 0;
};

struct Phase {
  const char* name;
  const char* key;
  std::vector<double> Subject::*seconds;
};
constexpr std::array kPhases = {
    Phase{"training step, attention", "train_attention", &Subject::step_attention},
    Phase{"training step, whole", "train", &Subject::step},
    Phase{"prefill, whole model", "prefill", &Subject::prefill},
    Phase{"decoding one token, whole model", "decode", &Subject::decode}};

void report(const Options& options, const ModelConfig& config, int threads, Subject& with,
            Subject& without) {
  const double change = with.perplexity / without.perplexity - 1;
  Json line = {{"bench", "exit"},
               {"model", options.text.model},
               {"mechanism", config.attention.mechanism},
               {"tokens", options.tokens},
               {"threads", threads},
               {"processor", processor_family()},
               {"visited", with.visited()},
               {"perplexity", with.perplexity},
               {"perplexity_without", without.perplexity},
               {"perplexity_change", change}};
  const bool json = options.text.json;
  if (!json)
    fmt::print("{}, {} tokens, {} threads{:>14}{:>12}{:>10}\n", config.attention.mechanism,
               options.tokens, threads, "exit", "no exit", "speed-up");
  for (const Phase& phase : kPhases) {
    const double fast = median(with.*phase.seconds), slow = median(without.*phase.seconds);
    line[phase.key] = {{"ms", 1e3 * fast}, {"ms_without", 1e3 * slow}, {"speed_up", slow / fast}};
    if (!json)
      fmt::print("  {:<34}{:9.2f} ms{:9.2f} ms{:8.2f} x\n", phase.name, 1e3 * fast, 1e3 * slow,
                 slow / fast);
  }
  if (json)
    fmt::print("{}", json_line(line));
  else
    fmt::print("  {:.1f} % of keys visited; perplexity {:.4f}, {:.4f} without exit: {:+.4f} %\n",
               100 * with.visited(), with.perplexity, without.perplexity, 100 * change);
}

int run_exit(const Options& options) {
  const size_t tokens = at_least("--tokens", options.tokens, 2);
  const size_t repetitions = at_least("--repetitions", options.repetitions, 1);
  const size_t scored = at_least("--windows", options.windows, 1);
  const Tokenizer tokenizer = open_tokenizer(options.text.model);
  const EvalText text = open_eval_text(options.text, tokenizer);
  if (text.tokens.size < tokens + kDecoded)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring early exit",
                 .subject = text.name,
                 .expected = fmt::format("at least {} tokens", tokens + kDecoded),
                 .found = std::to_string(text.tokens.size),
                 .hint = "give a longer text, or fewer --tokens"});
  const Model model = load_model(options.text.model);
  if (const std::string& found = model.config().attention.mechanism; found != "stick_breaking")
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring early exit",
                 .subject = options.text.model,
                 .expected = "a model with stick-breaking attention, which alone can stop early",
                 .found = found});
  ThreadTeam team(static_cast<int>(options.text.threads));
  Subject with(model, tokens, true, team), without(model, tokens, false, team);
  const EvaluationWindows windows(text.tokens, {.length = tokens, .stride = tokens});
  std::vector<int32_t> read(tokens + kDecoded);
  text.tokens.read(0, read);
  const Batch batch = windows.batch(0, 1);
  for (Subject* subject : {&with, &without}) subject->score(windows, scored);  // and warms up
  for (size_t i = 0; i < repetitions; ++i)
    for (Subject* subject : {&with, &without}) {
      subject->train(batch);
      subject->read(read);
    }
  report(options, model.config(), team.size(), with, without);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("MODEL", "a model folder with its tokenizer", options->text.model);
  arguments.positional("FILE", "a text file (or give --data)", options->text.file, false);
  arguments.option("--data", "a dataset: its held-out part is read", options->text.data);
  arguments.option("--tokens", "the context (4096)", options->tokens);
  arguments.option("--repetitions", "to take the median of (5)", options->repetitions);
  arguments.option("--windows", "windows of the text that perplexity is of (4)", options->windows);
  arguments.option("--threads", "threads (default: all allowed)", options->text.threads);
  arguments.flag("--json", "print one JSON line", options->text.json);
  return [options] { return run_exit(*options); };
}

}  // namespace

const Verb kBenchExitVerb{.name = "exit",
                          .does = "What early exit saves a trained model, and what it costs",
                          .example = "cairn bench exit model notes.txt --tokens 4096",
                          .prepare = prepare};

}  // namespace cairn
