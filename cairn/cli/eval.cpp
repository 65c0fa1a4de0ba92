// `cairn eval`: how good a model is; here the verb and its first suite, perplexity and bits per
// byte of a text.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/base/suggest.h"
#include "cairn/cli/eval.h"
#include "cairn/cli/verbs.h"
#include "cairn/eval/compressors.h"
#include "cairn/eval/perplexity.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"
#include "cairn/nn/language_model.h"

namespace cairn {
namespace {

// Tokens that go through the model together.
constexpr size_t kBatchTokens = 4096;

Precision precision_of(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  wrong_use("--precision f32 or bf16", name);
}

// The text behind the tokens; tokens that stand for no text are left out.
std::string decode(const TokenSource& source, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens(source.size);
  source.read(0, tokens);
  return tokenizer.decode(tokens, true);
}

struct Report {
  TextScore score;
  uint64_t windows = 0;
  size_t length = 0;
  size_t stride = 0;
  double seconds = 0;
};

Report score(const EvalOptions& options, Model& model, const Tokenizer& tokenizer,
             const EvalText& text) {
  const WindowOptions cut = eval_windows(options, text, model.config().context_length);
  const EvaluationWindows windows(text.tokens, cut);
  const uint64_t limit = not_negative(options.windows, "--windows");
  Report report;
  report.length = cut.length;
  report.stride = cut.stride;
  report.windows = limit == 0 ? windows.size() : std::min<uint64_t>(limit, windows.size());
  const size_t sequences =
      std::min<uint64_t>(report.windows, std::max<size_t>(kBatchTokens / report.length, 1));

  ThreadTeam team(static_cast<int>(options.threads));
  LanguageModel program(model, {sequences, report.length, precision_of(options.precision)}, team);
  ProgressCount progress(
      "evaluating", std::min<uint64_t>(report.windows * report.stride, text.tokens.size - 1),
      "tokens", options.json ? ProgressLine::Style::quiet : ProgressLine::Style::automatic);
  const auto start = std::chrono::steady_clock::now();
  report.score = score_windows(
      windows, limit, sequences, token_byte_counts(tokenizer),
      [&](const Batch& batch) { return program.forward(batch); },
      [&](uint64_t tokens) { progress.advance(tokens); });
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  progress.finish();
  return report;
}

struct Comparison {
  std::string name;
  std::optional<uint64_t> bytes;
  uint64_t of = 0;
  double bits_per_byte() const {
    return 8.0 * static_cast<double>(bytes.value_or(0)) /
           static_cast<double>(std::max<uint64_t>(of, 1));
  }
};

std::vector<Comparison> compare(const EvalText& text, const Tokenizer& tokenizer) {
  const std::string bytes = decode(text.tokens, tokenizer);
  std::vector<Comparison> comparisons;
  for (const Compressor& compressor : reference_compressors())
    comparisons.push_back({compressor.name, compressed_bytes(compressor, bytes), bytes.size()});
  return comparisons;
}

Json to_json(const EvalOptions& options, const EvalText& text, const Report& report,
             const std::vector<Comparison>& comparisons) {
  Json line = {{"suite", "perplexity"},
               {"model", options.model},
               {"text", text.name},
               {"nats_per_token", report.score.nats_per_token()},
               {"perplexity", report.score.perplexity()},
               {"bits_per_byte", report.score.bits_per_byte()},
               {"tokens", report.score.tokens},
               {"bytes", report.score.bytes},
               {"windows", report.windows},
               {"length", report.length},
               {"stride", report.stride},
               {"precision", options.precision},
               {"seconds", report.seconds}};
  for (const Comparison& comparison : comparisons)
    if (comparison.bytes)
      line["compressors"][comparison.name] = {{"bytes", *comparison.bytes},
                                              {"bits_per_byte", comparison.bits_per_byte()}};
  return line;
}

void print(const EvalText& text, const Report& report, const std::vector<Comparison>& comparisons) {
  const TextScore& score = report.score;
  fmt::print("{}: {} tokens ({}) in {} windows of {}, {:.1f} s, {} tokens/s\n", text.name,
             score.tokens, format_bytes(score.bytes), report.windows, report.length, report.seconds,
             format_count(static_cast<double>(score.tokens) / std::max(report.seconds, 1e-9)));
  fmt::print("loss           {:.4f} nats a token\nperplexity     {:.2f}\nbits per byte  {:.4f}\n",
             score.nats_per_token(), score.perplexity(), score.bits_per_byte());
  for (const Comparison& comparison : comparisons) {
    if (comparison.bytes)
      fmt::print("  {:<12} {:.4f}\n", comparison.name, comparison.bits_per_byte());
    else
      fmt::print("  {:<12} not installed\n", comparison.name);
  }
}

int run_perplexity(const EvalOptions& options) {
  const Tokenizer tokenizer = open_tokenizer(options.model);
  const EvalText text = open_eval_text(options, tokenizer);
  Model model = load_model(options.model);
  const Report report = score(options, model, tokenizer, text);
  const std::vector<Comparison> comparisons =
      options.compare ? compare(text, tokenizer) : std::vector<Comparison>{};
  if (options.json)
    fmt::print("{}", json_line(to_json(options, text, report, comparisons)));
  else
    print(text, report, comparisons);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<EvalOptions>();
  arguments.positional("MODEL", "a GGUF file, or a model folder with its tokenizer",
                       options->model);
  arguments.positional("SUITE", "perplexity, or kl: how far from the predictions of --reference",
                       options->suite);
  arguments.positional("FILE", "a text file (or give --data)", options->file, false);
  arguments.option("--data", "a dataset: its held-out part is scored", options->data);
  arguments.option("--reference", "of kl: the model that is right, such as before quantising",
                   options->reference);
  arguments.option("--length", "tokens a window (the model's context, at most 1024)",
                   options->length);
  arguments.option("--stride", "tokens from window to window (--length); less gives more context",
                   options->stride);
  arguments.option("--windows", "score only so many (all)", options->windows);
  arguments.option("--cache-type", "of kl: of the model's keys and values (f16)",
                   options->cache_type);
  arguments.option("--precision", "of perplexity: f32 or bf16", options->precision);
  arguments.option("--threads", "threads (all allowed)", options->threads);
  arguments.flag("--compare", "also say what gzip -9 and xz -9e need for the whole text",
                 options->compare);
  arguments.flag("--json", "print JSON", options->json);
  return [options] {
    if (options->suite == "perplexity") return run_perplexity(*options);
    if (options->suite == "kl") return run_divergence(*options);
    wrong_use("the suite perplexity or kl", in_quotes(options->suite),
              did_you_mean(options->suite, std::vector<std::string>{"perplexity", "kl"}));
  };
}

}  // namespace

const Verb kEvalVerb{.name = "eval",
                     .does = "Measure how well a model predicts text",
                     .example =
                         "cairn eval model perplexity notes.txt --compare\n"
                         "cairn eval model perplexity --data dataset --stride 128 --json\n"
                         "cairn eval model-q4.gguf kl notes.txt --reference model",
                     .prepare = prepare};

}  // namespace cairn
