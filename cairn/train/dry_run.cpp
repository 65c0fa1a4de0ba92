#include "cairn/train/dry_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cairn/base/median.h"
#include "cairn/base/progress.h"
#include "cairn/train/trainer.h"

namespace cairn {
namespace {

constexpr double kTimedSeconds = 1.5;  // a kind of work is timed for about so long,
constexpr size_t kLeastTimes = 3;      // but at least so often

// The median time of `work`, which has been warmed up by one call.
double median_seconds(FunctionRef<void()> work) {
  using Clock = std::chrono::steady_clock;
  work();
  std::vector<double> times;
  double all = 0;
  while (times.size() < kLeastTimes || all < kTimedSeconds) {
    const auto begin = Clock::now();
    work();
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    all += times.back();
  }
  return median(std::move(times));
}

void time_steps(const TrainConfig& config, BatchSource& data, ThreadTeam& team, DryRun& out) {
  Model model(out.model, config.model.init_std);
  model.initialize(config.run.seed);
  LanguageModel network(model, training_shape(config), team);
  Optimizer optimizer(model.parameters(), model.weights().size(), config.adamw(), team);
  network.zero_gradients();
  data.seek(0);
  const double micro =
      median_seconds([&] { static_cast<void>(network.forward_backward(data.next())); });
  const double update = median_seconds([&] {
    const auto gradient = optimizer.measure(network.gradients(), 1);
    optimizer.step(model.weights(), network.gradients(), 1, gradient, 0);
  });
  out.step_seconds = static_cast<double>(config.batch.accumulation()) * micro + update;
  out.tokens_per_second = static_cast<double>(config.batch.tokens_per_step) / out.step_seconds;
  const uint64_t all = data.held_out_windows();
  const uint64_t windows = config.eval.windows == 0 ? all : std::min(config.eval.windows, all);
  if (windows == 0) return;
  const uint64_t group = std::min<uint64_t>(config.batch.micro_batch, windows);
  const double forward =
      median_seconds([&] { static_cast<void>(network.forward(data.held_out(0, group))); });
  out.eval_seconds = forward * std::ceil(static_cast<double>(windows) / static_cast<double>(group));
}

void predict_length(const TrainConfig& config, DryRun& out) {
  const Schedule schedule = make_schedule(config);
  const auto tokens = static_cast<double>(config.batch.tokens_per_step);
  const auto evaluations = [&](double steps) {
    return 2 + (config.eval.every == 0 ? 0 : steps / static_cast<double>(config.eval.every));
  };
  const bool timed = config.run.time.seconds > 0;
  if (timed) {
    out.seconds = schedule.total;
    const double between =
        config.eval.every == 0 ? 0 : out.eval_seconds / static_cast<double>(config.eval.every);
    out.steps = static_cast<uint64_t>(
        std::max(1.0, (schedule.total - 2 * out.eval_seconds) / (out.step_seconds + between)));
  } else {
    out.steps = static_cast<uint64_t>(schedule.total / tokens);
    const auto steps = static_cast<double>(out.steps);
    out.seconds = steps * out.step_seconds + evaluations(steps) * out.eval_seconds;
  }
  out.first_lr = learning_rate(schedule, timed ? out.step_seconds : tokens);
  out.last_lr = learning_rate(schedule, schedule.total);
}

}  // namespace

double DryRun::epochs() const {
  if (data.training.tokens == 0) return 0;
  return static_cast<double>(steps) * static_cast<double>(tokens_per_step) /
         static_cast<double>(data.training.tokens);
}

DryRun dry_run(const TrainConfig& config) {
  const TrainingData data = open_data(config);
  ThreadTeam team(static_cast<int>(config.run.threads));
  DryRun out;
  out.data = data.info;
  out.model = planned_model(config, out.data);
  out.tokens_per_step = config.batch.tokens_per_step;
  out.parameters = parameter_count(out.model);
  out.samples = data.source->samples();
  out.memory = plan_memory(config, out.model, team.size());
  out.available_bytes = available_memory();
  require_memory(out.memory);
  out.flops_per_token = training_flops_per_token(out.model, config.batch.seq_len);
  out.peak_gflops = measured_peak(config, team);
  time_steps(config, *data.source, team, out);
  predict_length(config, out);
  return out;
}

std::string describe(const DryRun& run) {
  const auto count = [](uint64_t value) { return format_count(static_cast<double>(value)); };
  std::string out = "tensors\n";
  for (const ParameterSpec& spec : parameter_specs(run.model)) {
    const bool first_layer = spec.name.find("layers.0.") != std::string::npos;
    if (spec.name.find("layers.") != std::string::npos && !first_layer) continue;
    out += fmt::format("  {:<52} {:>16} {:>8}{}\n", spec.name, to_string(spec.shape),
                       count(element_count(spec.shape)),
                       first_layer ? fmt::format("  x {} layers", run.model.layers) : "");
  }
  out += fmt::format("parameters          {} ({})\n", count(run.parameters), run.parameters);
  out += run.data.training.tokens == 0
             ? std::string("data                a task: samples without end\n")
             : fmt::format(
                   "data                {} training tokens in {} documents, {} samples; {} "
                   "held-out tokens\n",
                   count(run.data.training.tokens), count(run.data.training.documents),
                   count(run.samples), count(run.data.held_out.tokens));
  out += fmt::format(
      "memory              {} of {} available\n"
      "  weights {}, gradients {}, moments {}, activations {}, copy for checkpoints {}, the rest "
      "{}\n",
      format_bytes(run.memory.total()), format_bytes(run.available_bytes),
      format_bytes(run.memory.network.weights), format_bytes(run.memory.network.gradients),
      format_bytes(run.memory.optimizer), format_bytes(run.memory.network.activations),
      format_bytes(run.memory.staging), format_bytes(run.memory.process));
  const double share = run.peak_gflops > 0
                           ? run.tokens_per_second * run.flops_per_token * 1e-9 / run.peak_gflops
                           : 0;
  out += fmt::format("work                {} FLOP a token\n", format_count(run.flops_per_token));
  out += fmt::format(
      "speed               {} tokens/s, {:.2f} of this machine's peak ({:.0f} GFLOP/s)\n",
      format_count(run.tokens_per_second), share, run.peak_gflops);
  out += fmt::format("length              {} steps of {} tokens, {}{}\n", run.steps,
                     run.tokens_per_step,
                     run.epochs() > 0 ? fmt::format("{:.2f} epochs, ", run.epochs()) : "",
                     format_duration(run.seconds));
  return out +
         fmt::format("learning rate       first {:.3e}, last {:.3e}\n", run.first_lr, run.last_lr);
}

}  // namespace cairn
