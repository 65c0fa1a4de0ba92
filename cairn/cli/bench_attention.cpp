// `cairn bench attention`: forward and backward of an attention mechanism by itself, over lengths,
// head sizes and types, as a share of the multiply-add peak measured in the same run.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "cairn/attention/measure.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  std::string mechanism = "softmax";
  int64_t heads = 8;
  int64_t tokens = 0;
  int64_t head_dim = 0;
  std::string precision;
  int64_t repetitions = 5;
  int64_t threads = 0;
  bool json = false;
};

constexpr size_t kTokensInAll = 4096;  // shorter sequences fill a batch of that many

struct Case {
  size_t tokens, head_dim;
  DType dtype;
};

std::vector<Case> cases_of(const Options& options) {
  std::vector<Case> cases;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const size_t head_dim : {64, 128})
      for (const size_t tokens : {512, 2048, 8192, 32768}) {
        const bool wanted =
            (options.tokens == 0 || static_cast<size_t>(options.tokens) == tokens) &&
            (options.head_dim == 0 || static_cast<size_t>(options.head_dim) == head_dim) &&
            (options.precision.empty() || options.precision == dtype_name(dtype));
        if (wanted) cases.push_back({tokens, head_dim, dtype});
      }
  if (cases.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "choosing what to measure",
                 .expected = "--tokens 512, 2048, 8192 or 32768; --head-dim 64 or 128; "
                             "--precision f32 or bf16"});
  return cases;
}

void print_case(const Options& options, const Case& c, ThreadTeam& team, double peak) {
  const auto heads = static_cast<size_t>(options.heads);
  AttentionOptions mechanism;
  mechanism.mechanism = options.mechanism;
  const AttentionGeometry geometry{.hidden_size = heads * c.head_dim,
                                   .heads = heads,
                                   .kv_heads = heads,
                                   .head_dim = c.head_dim,
                                   .value_dim = c.head_dim};
  const auto attention = make_attention(mechanism, geometry, c.tokens);
  const size_t sequences = std::max(size_t{1}, kTokensInAll / c.tokens);
  const AttentionTiming timing = measure_attention(*attention, sequences, c.tokens, c.dtype, team,
                                                   static_cast<int>(options.repetitions));
  const double share = peak > 0 ? timing.both_gflops / peak : 0;
  if (options.json) {
    fmt::print("{}", json_line({{"bench", "attention"},
                                {"mechanism", options.mechanism},
                                {"processor", processor_family()},
                                {"threads", team.size()},
                                {"heads", heads},
                                {"head_dim", c.head_dim},
                                {"tokens", c.tokens},
                                {"sequences", sequences},
                                {"precision", dtype_name(c.dtype)},
                                {"forward_ms", 1e3 * timing.forward_seconds},
                                {"backward_ms", 1e3 * timing.backward_seconds},
                                {"both_ms", 1e3 * timing.both_seconds},
                                {"forward_gflops", timing.forward_gflops},
                                {"backward_gflops", timing.backward_gflops},
                                {"both_gflops", timing.both_gflops},
                                {"peak_gflops", peak},
                                {"share_of_peak", share},
                                {"saved_bytes", timing.saved_bytes},
                                {"workspace_bytes", timing.workspace_bytes}}));
    return;
  }
  fmt::print(
      "  {:<4} {:>5} x {:<5} d {:<3} {:8.2f} ms {:8.2f} ms {:8.2f} ms  {:5.0f} GFLOP/s = "
      "{:.2f} of peak  {}\n",
      dtype_name(c.dtype), sequences, c.tokens, c.head_dim, 1e3 * timing.forward_seconds,
      1e3 * timing.backward_seconds, 1e3 * timing.both_seconds, timing.both_gflops, share,
      format_bytes(timing.saved_bytes + timing.workspace_bytes));
}

int run_attention(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  const double f32_peak = measure_peak(PeakKind::f32, team);
  const double bf16_peak = measure_peak(PeakKind::bf16, team);
  if (!options.json)
    fmt::print(
        "{}, {} heads, {} threads\n  type sequences      dim   forward    backward        "
        "both\n",
        options.mechanism, options.heads, team.size());
  for (const Case& c : cases_of(options))
    print_case(options, c, team, c.dtype == DType::bf16 ? bf16_peak : f32_peak);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--mechanism", "which attention (softmax)", options->mechanism);
  arguments.option("--tokens", "only sequences of this length", options->tokens);
  arguments.option("--head-dim", "only heads of this size", options->head_dim);
  arguments.option("--precision", "only f32 or bf16", options->precision);
  arguments.option("--heads", "query and key heads (8)", options->heads);
  arguments.option("--repetitions", "to take the median of (5)", options->repetitions);
  arguments.option("--threads", "threads (default: all allowed)", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] { return run_attention(*options); };
}

}  // namespace

const Verb kBenchAttentionVerb{.name = "attention",
                               .does = "Attention by itself, forward and backward",
                               .example = "cairn bench attention --tokens 2048 --json",
                               .prepare = prepare};

}  // namespace cairn
