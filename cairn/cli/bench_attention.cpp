// `cairn bench attention`: an attention mechanism by itself, in training, in decoding and on
// prompts, over lengths, head sizes and types: as a share of the multiply-add peak measured in the
// same run, and beside our softmax with rotary positions run in turn with it.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>

#include "cairn/attention/measure.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/mechanism_arguments.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  MechanismArguments mechanism;
  std::string phase = "train";
  int64_t heads = 8;
  int64_t kv_heads = 0;
  int64_t tokens = 0;
  int64_t chunk = 0;
  int64_t head_dim = 0;
  std::string precision;
  int64_t repetitions = 5;
  int64_t threads = 0;
  bool json = false;
};

constexpr size_t kTokensInAll = 4096;  // shorter training sequences fill a batch of that many

[[noreturn]] void refuse(std::string subject, std::string expected, std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing what to measure",
               .subject = std::move(subject),
               .expected = std::move(expected),
               .found = std::move(found)});
}

AttentionPhase phase_of(const Options& options) {
  if (options.phase == "train") return AttentionPhase::train;
  if (options.phase == "decode") return AttentionPhase::decode;
  if (options.phase == "prefill") return AttentionPhase::prefill;
  refuse("--phase", "train, decode or prefill", options.phase);
}

struct Case {
  size_t tokens, head_dim;
  DType dtype;
};

// One value that was asked for, or the usual ones.
std::vector<size_t> chosen(const char* name, int64_t value, int64_t most,
                           std::vector<size_t> usual) {
  if (value == 0) return usual;
  if (value < 0 || value > most)
    refuse(name, "1 to " + std::to_string(most), std::to_string(value));
  return {static_cast<size_t>(value)};
}

std::vector<Case> cases_of(const Options& options) {
  const AttentionPhase phase = phase_of(options);
  std::vector<size_t> lengths = {512, 2048, 8192, 32768};
  if (phase == AttentionPhase::decode) lengths = {4096, 16384, 32768};
  if (phase == AttentionPhase::prefill) lengths = {8192};
  lengths = chosen("--tokens", options.tokens, int64_t{1} << 20, lengths);
  std::vector<Case> cases;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const size_t head_dim : chosen("--head-dim", options.head_dim, 256, {64, 128}))
      for (const size_t tokens : lengths)
        if (options.precision.empty() || options.precision == dtype_name(dtype))
          cases.push_back({tokens, head_dim, dtype});
  if (cases.empty()) refuse("--precision", "f32 or bf16", options.precision);
  return cases;
}

struct Result {
  AttentionTiming timing;
  AttentionTiming softmax;  // of plain softmax with rotary positions
  bool compared = false;

  double ratio() const { return timing.both_seconds / softmax.both_seconds; }
};

AttentionWorkload workload_of(const Options& options, const Case& c) {
  AttentionWorkload workload;
  workload.phase = phase_of(options);
  workload.tokens = c.tokens;
  if (workload.phase == AttentionPhase::train)
    workload.sequences = std::max(size_t{1}, kTokensInAll / c.tokens);
  workload.chunk =
      chosen("--chunk", options.chunk, static_cast<int64_t>(c.tokens), {c.tokens}).front();
  workload.dtype = c.dtype;
  workload.repetitions =
      static_cast<int>(chosen("--repetitions", options.repetitions, 1000000, {size_t{5}}).front());
  return workload;
}

AttentionGeometry geometry_of(const Options& options, size_t head_dim) {
  const size_t heads = chosen("--heads", options.heads, 4096, {8}).front();
  return {.hidden_size = heads * head_dim,
          .heads = heads,
          .kv_heads = chosen("--kv-heads", options.kv_heads, 4096, {heads}).front(),
          .head_dim = head_dim,
          .value_dim = head_dim};
}

Result measure(const Options& options, const AttentionWorkload& workload, size_t head_dim,
               ThreadTeam& team) {
  const AttentionGeometry geometry = geometry_of(options, head_dim);
  const size_t context =
      workload.tokens + kDecodeSteps * (static_cast<size_t>(workload.repetitions) + 1);
  const AttentionOptions wanted = options.mechanism.parsed();
  const auto attention = make_attention(wanted, geometry, context);
  Result result;
  result.compared = wanted != AttentionOptions();
  std::vector<const AttentionMechanism*> mechanisms = {attention.get()};
  std::unique_ptr<AttentionMechanism> softmax;
  if (result.compared)
    mechanisms.push_back((softmax = make_attention({}, geometry, context)).get());
  const std::vector<AttentionTiming> timings = measure_attention(mechanisms, workload, team);
  result.timing = timings.front();
  result.softmax = timings.back();
  return result;
}

Json json_of(const Options& options, const AttentionWorkload& workload, size_t head_dim,
             const Result& result, int threads, double peak) {
  const AttentionTiming& t = result.timing;
  Json line = {{"bench", "attention"},
               {"mechanism", options.mechanism.name},
               {"options", options.mechanism.options},
               {"phase", options.phase},
               {"processor", processor_family()},
               {"threads", threads},
               {"heads", options.heads},
               {"kv_heads", geometry_of(options, head_dim).kv_heads},
               {"head_dim", head_dim},
               {"tokens", workload.tokens},
               {"sequences", workload.sequences},
               {"precision", dtype_name(workload.dtype)},
               {"forward_ms", 1e3 * t.forward_seconds},
               {"backward_ms", 1e3 * t.backward_seconds},
               {"both_ms", 1e3 * t.both_seconds},
               {"forward_gflops", t.forward_gflops},
               {"backward_gflops", t.backward_gflops},
               {"both_gflops", t.both_gflops},
               {"peak_gflops", peak},
               {"share_of_peak", peak > 0 ? t.both_gflops / peak : 0},
               {"saved_bytes", t.saved_bytes},
               {"workspace_bytes", t.workspace_bytes},
               {"cache_bytes", t.cache_bytes}};
  if (t.statistics && t.statistics->visible > 0)
    line["visited"] =
        static_cast<double>(t.statistics->visited) / static_cast<double>(t.statistics->visible);
  if (result.compared) {
    line["softmax_ms"] = 1e3 * result.softmax.both_seconds;
    line["ratio"] = result.ratio();
    line["speed_to_softmax"] = 1 / result.ratio();
    if (workload.phase == AttentionPhase::train) {
      line["forward_ratio"] = t.forward_seconds / result.softmax.forward_seconds;
      line["backward_ratio"] = t.backward_seconds / result.softmax.backward_seconds;
    }
  }
  return line;
}

void print_row(const AttentionWorkload& workload, size_t head_dim, const Result& result,
               double peak) {
  const AttentionTiming& t = result.timing;
  const std::string ratio =
      result.compared ? fmt::format("{:.2f} x softmax", result.ratio()) : std::string();
  fmt::print(
      "  {:<4} {:>5} x {:<5} d {:<3} {:8.2f} ms {:8.2f} ms {:8.2f} ms  {:5.0f} GFLOP/s = "
      "{:.2f} of peak  {}  {}\n",
      dtype_name(workload.dtype), workload.sequences, workload.tokens, head_dim,
      1e3 * t.forward_seconds, 1e3 * t.backward_seconds, 1e3 * t.both_seconds, t.both_gflops,
      peak > 0 ? t.both_gflops / peak : 0,
      format_bytes(t.saved_bytes + t.workspace_bytes + t.cache_bytes), ratio);
}

int run_attention(const Options& options) {
  const std::vector<Case> cases = cases_of(options);
  ThreadTeam team(static_cast<int>(options.threads));
  const double f32_peak = measure_peak(PeakKind::f32, team);
  const double bf16_peak = measure_peak(PeakKind::bf16, team);
  if (!options.json)
    fmt::print(
        "{}, {}, {} heads, {} threads\n  type sequences      dim   forward    backward        "
        "both\n",
        options.mechanism.name, options.phase, options.heads, team.size());
  for (const Case& c : cases) {
    const AttentionWorkload workload = workload_of(options, c);
    const Result result = measure(options, workload, c.head_dim, team);
    // Caches are fed f32.
    const bool bf16_products = c.dtype == DType::bf16 && workload.phase == AttentionPhase::train;
    const double peak = bf16_products ? bf16_peak : f32_peak;
    if (options.json)
      fmt::print("{}",
                 json_line(json_of(options, workload, c.head_dim, result, team.size(), peak)));
    else
      print_row(workload, c.head_dim, result, peak);
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  options->mechanism.declare(arguments);
  arguments.option("--phase",
                   "train (forward and backward), decode (one token against a filled cache) or "
                   "prefill (a prompt into a cache) (train)",
                   options->phase);
  arguments.option("--tokens", "only this length", options->tokens);
  arguments.option("--chunk", "prefill: tokens a call (the whole prompt)", options->chunk);
  arguments.option("--head-dim", "only heads of this size", options->head_dim);
  arguments.option("--precision", "only f32 or bf16", options->precision);
  arguments.option("--heads", "query heads (8)", options->heads);
  arguments.option("--kv-heads", "key heads (as many)", options->kv_heads);
  arguments.option("--repetitions", "to take the median of (5)", options->repetitions);
  arguments.option("--threads", "threads (default: all allowed)", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] { return run_attention(*options); };
}

}  // namespace

const Verb kBenchAttentionVerb{
    .name = "attention",
    .does = "Attention by itself, in training, decoding and on prompts",
    .example =
        "cairn bench attention --tokens 2048 --json\n"
        "  cairn bench attention --option position=none --phase decode --kv-heads 2",
    .prepare = prepare};

}  // namespace cairn
