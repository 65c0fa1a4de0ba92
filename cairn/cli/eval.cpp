// `cairn eval`: how good a model is. Today one suite: perplexity and bits per byte of a text.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/progress.h"
#include "cairn/base/suggest.h"
#include "cairn/cli/verbs.h"
#include "cairn/data/dataset.h"
#include "cairn/eval/compressors.h"
#include "cairn/eval/perplexity.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"
#include "cairn/nn/language_model.h"

namespace cairn {
namespace {

// Windows are no longer than this unless asked for: memory grows with them.
constexpr size_t kUsualLength = 1024;
// Tokens that go through the model together.
constexpr size_t kBatchTokens = 4096;

struct Options {
  std::string model;
  std::string suite;
  std::string file;
  std::string data;
  std::string precision = "f32";
  int64_t length = 0;
  int64_t stride = 0;
  int64_t windows = 0;
  int64_t threads = 0;
  bool compare = false;
  bool json = false;
};

[[noreturn]] void wrong_use(const std::string& expected, const std::string& found,
                            const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = "evaluating a model",
               .expected = expected,
               .found = found,
               .hint = hint});
}

size_t not_negative(int64_t value, const std::string& option) {
  if (value < 0) wrong_use(option + " of at least 0", std::to_string(value));
  return static_cast<size_t>(value);
}

// What is scored: a file, or the held-out part of a dataset.
struct Text {
  std::string name;
  TokenSource tokens;
  std::unique_ptr<TokenStream> stream;  // behind `tokens`, for a dataset
};

Text open_file(const std::string& path, const Tokenizer& tokenizer) {
  const MappedFile file(path);
  std::vector<int32_t> tokens;
  // What stands before every document in training, so that the first token has a context too.
  const int32_t start = tokenizer.eos_id() >= 0 ? tokenizer.eos_id() : tokenizer.bos_id();
  if (start >= 0) tokens.push_back(start);
  EncodeScratch scratch;
  tokenizer.encode(file.text(), tokens, scratch);
  return {.name = path, .tokens = token_source(std::move(tokens))};
}

Text open_dataset(const std::string& folder, const Tokenizer& tokenizer) {
  auto stream = std::make_unique<TokenStream>(folder, Split::held_out);
  if (stream->dataset().tokenizer != tokenizer.fingerprint())
    throw Error({.kind = ErrorKind::data,
                 .doing = "evaluating on " + folder,
                 .subject = "tokenizer",
                 .expected = "the model's, " + hex64(tokenizer.fingerprint()),
                 .found = hex64(stream->dataset().tokenizer),
                 .hint = "pack the text with the model's tokenizer, or give the text as a file"});
  const TokenStream& tokens = *stream;
  return {
      .name = folder + " (held-out)", .tokens = token_source(tokens), .stream = std::move(stream)};
}

Text open_text(const Options& options, const Tokenizer& tokenizer) {
  if (options.file.empty() == options.data.empty())
    wrong_use("either a text FILE or --data FOLDER", options.file.empty() ? "neither" : "both",
              "cairn eval --help shows an example");
  return options.file.empty() ? open_dataset(options.data, tokenizer)
                              : open_file(options.file, tokenizer);
}

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

Report score(const Options& options, Model& model, const Tokenizer& tokenizer, const Text& text) {
  const size_t context = model.config().context_length;
  Report report;
  report.length = not_negative(options.length, "--length");
  if (report.length == 0) report.length = std::min(context, kUsualLength);
  // A text shorter than a window needs no longer one.
  report.length = std::min<uint64_t>(report.length, std::max<uint64_t>(text.tokens.size, 2) - 1);
  report.stride = not_negative(options.stride, "--stride");
  if (report.stride == 0) report.stride = report.length;

  const EvaluationWindows windows(text.tokens, {.length = report.length, .stride = report.stride});
  const uint64_t limit = not_negative(options.windows, "--windows");
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

std::vector<Comparison> compare(const Text& text, const Tokenizer& tokenizer) {
  const std::string bytes = decode(text.tokens, tokenizer);
  std::vector<Comparison> comparisons;
  for (const Compressor& compressor : reference_compressors())
    comparisons.push_back({compressor.name, compressed_bytes(compressor, bytes), bytes.size()});
  return comparisons;
}

Json to_json(const Options& options, const Text& text, const Report& report,
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

void print(const Text& text, const Report& report, const std::vector<Comparison>& comparisons) {
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

int run_perplexity(const Options& options) {
  const Tokenizer tokenizer = open_tokenizer(options.model);
  const Text text = open_text(options, tokenizer);
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
  auto options = std::make_shared<Options>();
  arguments.positional("MODEL", "a GGUF file, or a model folder with its tokenizer",
                       options->model);
  arguments.positional("SUITE", "perplexity", options->suite);
  arguments.positional("FILE", "a text file (or give --data)", options->file, false);
  arguments.option("--data", "a dataset: its held-out part is scored", options->data);
  arguments.option("--length", "tokens a window (the model's context, at most 1024)",
                   options->length);
  arguments.option("--stride", "tokens from window to window (--length); less gives more context",
                   options->stride);
  arguments.option("--windows", "score only so many (all)", options->windows);
  arguments.option("--precision", "f32 or bf16", options->precision);
  arguments.option("--threads", "threads (all allowed)", options->threads);
  arguments.flag("--compare", "also say what gzip -9 and xz -9e need for the whole text",
                 options->compare);
  arguments.flag("--json", "print JSON", options->json);
  return [options] {
    if (options->suite != "perplexity")
      wrong_use("the suite \"perplexity\"", "\"" + options->suite + "\"",
                did_you_mean(options->suite, std::vector<std::string>{"perplexity"}));
    return run_perplexity(*options);
  };
}

}  // namespace

const Verb kEvalVerb{.name = "eval",
                     .does = "Measure how well a model predicts text",
                     .example =
                         "cairn eval model perplexity notes.txt --compare\n"
                         "cairn eval model perplexity --data dataset --stride 128 --json",
                     .prepare = prepare};

}  // namespace cairn
