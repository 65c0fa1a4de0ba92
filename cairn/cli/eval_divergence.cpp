// `cairn eval MODEL kl`: what the predictions of a model have lost against a reference.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/eval.h"
#include "cairn/eval/divergence.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

// Windows must be the same tokens for both models.
void check_same_tokens(const EvalText& text, const EvalText& reference) {
  std::vector<int32_t> ours(text.tokens.size), theirs(reference.tokens.size);
  text.tokens.read(0, ours);
  reference.tokens.read(0, theirs);
  if (ours != theirs)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "comparing predictions",
                 .subject = "the tokenizers of model and reference",
                 .expected = "the same tokens of " + text.name,
                 .found = "others",
                 .hint = "only models with one vocabulary can be compared token by token"});
}

Json to_json(const EvalOptions& options, const EvalText& text, const WindowOptions& cut,
             const DivergenceScore& score, double seconds) {
  return {{"suite", "kl"},
          {"model", options.model},
          {"reference", options.reference},
          {"text", text.name},
          {"tokens", score.tokens},
          {"length", cut.length},
          {"stride", cut.stride},
          {"kl_mean", score.mean},
          {"kl_standard_error", score.standard_error},
          {"kl_median", score.median},
          {"kl_90", score.percentile_90},
          {"kl_99", score.percentile_99},
          {"kl_99_9", score.percentile_99_9},
          {"kl_max", score.max},
          {"same_top", score.same_top},
          {"rms_probability_change", score.rms_probability_change},
          {"perplexity", score.perplexity},
          {"reference_perplexity", score.reference_perplexity},
          {"seconds", seconds}};
}

void print(const EvalText& text, const WindowOptions& cut, const DivergenceScore& score,
           double seconds) {
  fmt::print("{}: {} tokens in windows of {}, {:.1f} s\n", text.name, score.tokens, cut.length,
             seconds);
  fmt::print("mean KL        {:.6f} nats a token, +- {:.6f}\n", score.mean, score.standard_error);
  fmt::print("  median       {:.6f}\n  90 %         {:.6f}\n  99 %         {:.6f}\n", score.median,
             score.percentile_90, score.percentile_99);
  fmt::print("  99.9 %       {:.6f}\n  max          {:.6f}\n", score.percentile_99_9, score.max);
  fmt::print("same top       {:.2f} %\n", 100 * score.same_top);
  fmt::print("RMS change     {:.3f} % in the probability of the next token\n",
             100 * score.rms_probability_change);
  fmt::print("perplexity     {:.4f}, of the reference {:.4f} (ratio {:.5f})\n", score.perplexity,
             score.reference_perplexity, score.perplexity / score.reference_perplexity);
}

}  // namespace

int run_divergence(const EvalOptions& options) {
  if (options.reference.empty()) wrong_use("--reference MODEL with kl", "none");
  ThreadTeam team(static_cast<int>(options.threads));
  const EngineOptions how{.cache = cache_type_argument(options.cache_type)};
  TextModel model(options.model, team, how), reference(options.reference, team);
  const EvalText text = open_eval_text(options, model.tokenizer());
  check_same_tokens(text, open_eval_text(options, reference.tokenizer()));

  const size_t context = std::min(model.engine().context(), reference.engine().context());
  const WindowOptions cut = eval_windows(options, text, context);
  const EvaluationWindows windows(text.tokens, cut);
  const uint64_t limit = not_negative(options.windows, "--windows");
  const uint64_t count = limit == 0 ? windows.size() : std::min<uint64_t>(limit, windows.size());
  ProgressCount progress(
      "comparing", std::min<uint64_t>(count * cut.stride, text.tokens.size - 1), "tokens",
      options.json ? ProgressLine::Style::quiet : ProgressLine::Style::automatic);
  Session session = model.engine().start(), reference_session = reference.engine().start();
  const auto start = std::chrono::steady_clock::now();
  const DivergenceScore score =
      score_divergence(windows, limit, reference_session, session, team,
                       [&](uint64_t tokens) { progress.advance(tokens); });
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (options.json)
    fmt::print("{}", json_line(to_json(options, text, cut, score, taken.count())));
  else
    print(text, cut, score, taken.count());
  return 0;
}

}  // namespace cairn
