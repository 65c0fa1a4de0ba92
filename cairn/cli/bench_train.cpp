// `cairn bench train`: the speed of whole training steps on fixed shapes, as a share of the
// multiply-add peak measured in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/base/random.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"
#include "cairn/nn/language_model.h"
#include "cairn/train/optimizer.h"

namespace cairn {
namespace {

struct Options {
  std::string shape = "d256-l8";
  std::string precision = "f32";
  int64_t steps = 7;
  int64_t threads = 0;
  bool products = false;
  bool json = false;
};

struct BenchShape {
  ModelConfig config;
  size_t sequences = 8;
  size_t length = 512;
};

BenchShape llama(size_t width, size_t layers, size_t heads, size_t kv_heads, size_t inner,
                 size_t vocabulary, size_t sequences, size_t length = 512) {
  BenchShape shape;
  shape.length = length;
  shape.config.vocab_size = vocabulary;
  shape.config.hidden_size = width;
  shape.config.intermediate_size = inner;
  shape.config.layers = layers;
  shape.config.heads = heads;
  shape.config.kv_heads = kv_heads;
  shape.config.head_dim = 64;
  shape.config.context_length = shape.length;
  shape.sequences = sequences;
  return shape;
}

BenchShape find_shape(const std::string& name) {
  const std::map<std::string, BenchShape> shapes = {
      {"d128-l3", llama(128, 3, 2, 2, 352, 4096, 8, 256)},
      {"d256-l8", llama(256, 8, 4, 4, 640, 4096, 8)},
      {"d512-l8", llama(512, 8, 8, 8, 1280, 4096, 8)},
      {"smollm2-135m", llama(576, 30, 9, 3, 1536, 49152, 2)}};
  if (const auto found = shapes.find(name); found != shapes.end()) return found->second;
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a shape to measure",
               .subject = "--shape",
               .expected = "d128-l3, d256-l8, d512-l8 or smollm2-135m",
               .found = name});
}

Precision find_precision(const std::string& name) {
  if (name == "f32") return Precision::f32;
  if (name == "bf16") return Precision::bf16;
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a precision to measure",
               .subject = "--precision",
               .expected = "f32 or bf16",
               .found = name});
}

Batch random_batch(const BenchShape& shape) {
  const RandomStream random(1, "bench tokens");
  Batch batch{.sequences = shape.sequences, .length = shape.length};
  for (size_t i = 0; i < shape.sequences * shape.length; ++i) {
    batch.tokens.push_back(static_cast<int32_t>(random.below(shape.config.vocab_size, i)));
    batch.targets.push_back(static_cast<int32_t>(random.below(shape.config.vocab_size, i + 1)));
    batch.positions.push_back(static_cast<int32_t>(i % shape.length));
    if (i % shape.length == 0) batch.offsets.push_back(static_cast<int32_t>(i));
  }
  batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  return batch;
}

struct Measurement {
  double step_seconds = 0;
  double lowest = 0, highest = 0;
  // Seconds of the median step. Every moment belongs to one kind; "elsewhere" is what no kind
  // claims, so that they add up to the step.
  std::map<std::string, double> breakdown;
  uint64_t early_memory = 0, late_memory = 0;  // resident after the first steps and at the end
};

struct TimedStep {
  double seconds = 0;
  std::map<std::string, double> kinds;
};

constexpr int64_t kEarlySteps = 50;  // memory has settled after them

Measurement measure(const BenchShape& shape, Precision precision, int64_t steps, ThreadTeam& team) {
  Model model(shape.config);
  model.initialize(1);
  LanguageModel program(model, {shape.sequences, shape.length, precision, true}, team);
  Optimizer optimizer(model.parameters(), model.weights().size(), {}, team);
  const Batch batch = random_batch(shape);
  std::vector<TimedStep> timed;
  Measurement result;
  for (int64_t step = -1; step < steps; ++step) {  // the first warms up
    const auto start = std::chrono::steady_clock::now();
    const LossSum loss = program.forward_backward(batch);
    const auto middle = std::chrono::steady_clock::now();
    const auto gradient = optimizer.measure(program.gradients(), loss.targets);
    optimizer.step(model.weights(), program.gradients(), loss.targets, gradient, 1e-4);
    const auto end = std::chrono::steady_clock::now();
    TimedStep one{.seconds = std::chrono::duration<double>(end - start).count()};
    one.kinds["optimizer"] = std::chrono::duration<double>(end - middle).count();
    for (const auto& timing : program.take_timings()) one.kinds[timing.name] = timing.seconds;
    double claimed = 0;
    for (const auto& [name, seconds] : one.kinds) claimed += seconds;
    one.kinds["elsewhere"] = one.seconds - claimed;
    if (step >= 0) timed.push_back(std::move(one));
    if (step < kEarlySteps) result.early_memory = resident_memory();
  }
  result.late_memory = resident_memory();
  std::sort(timed.begin(), timed.end(),
            [](const TimedStep& a, const TimedStep& b) { return a.seconds < b.seconds; });
  result.lowest = timed.front().seconds;
  result.highest = timed.back().seconds;
  result.step_seconds = timed[timed.size() / 2].seconds;
  result.breakdown = timed[timed.size() / 2].kinds;
  return result;
}

int run_train(const Options& options) {
  const BenchShape shape = find_shape(options.shape);
  const Precision precision = find_precision(options.precision);
  if (options.steps < 1)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring training steps",
                 .subject = "--steps",
                 .expected = "at least 1",
                 .found = std::to_string(options.steps)});
  ThreadTeam team(static_cast<int>(options.threads));
  if (options.products)
    return run_products(precision == Precision::bf16 ? DType::bf16 : DType::f32, options.steps,
                        team, options.json);
  const double peak =
      measure_peak(precision == Precision::bf16 ? PeakKind::bf16 : PeakKind::f32, team);
  const Measurement measured = measure(shape, precision, options.steps, team);
  const auto tokens = static_cast<double>(shape.sequences * shape.length);
  const double gflops =
      training_flops_per_token(shape.config, shape.length) * tokens / measured.step_seconds / 1e9;
  const double share = peak > 0 ? gflops / peak : 0;
  if (options.json) {
    Json breakdown = Json::object();
    for (const auto& [name, seconds] : measured.breakdown) breakdown[name] = 1e3 * seconds;
    fmt::print("{}", json_line({{"bench", "train"},
                                {"shape", options.shape},
                                {"precision", options.precision},
                                {"threads", team.size()},
                                {"processor", processor_family()},
                                {"parameters", parameter_count(shape.config)},
                                {"tokens_per_second", tokens / measured.step_seconds},
                                {"step_ms", 1e3 * measured.step_seconds},
                                {"gflops", gflops},
                                {"peak_gflops", peak},
                                {"mfu", share},
                                {"peak_memory_bytes", peak_resident_memory()},
                                {"memory_early_bytes", measured.early_memory},
                                {"memory_late_bytes", measured.late_memory},
                                {"breakdown_ms", breakdown}}));
    return 0;
  }
  fmt::print("training step, {} parameters, {} x {} tokens, {}, {} thread{}, {} steps\n",
             format_count(static_cast<double>(parameter_count(shape.config))), shape.sequences,
             shape.length, options.precision, team.size(), team.size() == 1 ? "" : "s",
             options.steps);
  fmt::print("  {:.1f} ms ({:.1f}-{:.1f})  {} tokens/s  {:.0f} GFLOP/s = {:.3f} of peak {:.0f}\n",
             1e3 * measured.step_seconds, 1e3 * measured.lowest, 1e3 * measured.highest,
             format_count(tokens / measured.step_seconds), gflops, share, peak);
  for (const auto& [name, seconds] : measured.breakdown)
    fmt::print("  {:<20} {:9.2f} ms  {:5.1f} %\n", name, 1e3 * seconds,
               100 * seconds / measured.step_seconds);
  fmt::print("  peak memory {}; resident at the end {:.3f} of what it was after {} steps\n",
             format_bytes(peak_resident_memory()),
             static_cast<double>(measured.late_memory) / static_cast<double>(measured.early_memory),
             std::min(options.steps, kEarlySteps));
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--shape", "d128-l3, d256-l8, d512-l8 or smollm2-135m", options->shape);
  arguments.option("--precision", "f32 or bf16", options->precision);
  arguments.option("--steps", "steps to take the median of (7)", options->steps);
  arguments.option("--threads", "threads (default: all allowed)", options->threads);
  arguments.flag("--products",
                 "instead: the matrix products of training against one call of oneDNN",
                 options->products);
  arguments.flag("--json", "print one JSON line", options->json);
  return [options] { return run_train(*options); };
}

}  // namespace

const Verb kBenchTrainVerb{.name = "train",
                           .does = "Whole training steps on fixed shapes",
                           .example = "cairn bench train --shape d512-l8 --precision bf16",
                           .prepare = prepare};

}  // namespace cairn
