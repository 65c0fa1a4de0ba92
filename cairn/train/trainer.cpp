#include "cairn/train/trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/kernels/elementwise.h"
#include "cairn/train/plan.h"

namespace cairn {
namespace {

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A configured portion in the unit of the schedule.
double amount(const Portion& portion, double total, const TrainConfig& config) {
  switch (portion.unit) {
    case Portion::Unit::share:
      return portion.value * total;
    case Portion::Unit::tokens:
      return portion.value;
    case Portion::Unit::steps:
      return portion.value * static_cast<double>(config.batch.tokens_per_step);
  }
  return 0;
}

ScheduleKind schedule_kind(const std::string& word) {
  if (word == "wsd") return ScheduleKind::wsd;
  return word == "constant" ? ScheduleKind::constant : ScheduleKind::cosine;
}

DecayShape decay_shape(const std::string& word) {
  if (word == "linear") return DecayShape::linear;
  return word == "sqrt" ? DecayShape::sqrt : DecayShape::exponential;
}

}  // namespace

Schedule make_schedule(const TrainConfig& config) {
  const auto per_step = static_cast<double>(config.batch.tokens_per_step);
  Schedule s;
  s.kind = schedule_kind(config.schedule.kind);
  s.shape = decay_shape(config.schedule.shape);
  s.peak = config.optim.lr;
  s.end_ratio = config.schedule.end_ratio;
  // Whole steps only: a run of 1M tokens in steps of 300k trains 900k.
  s.total = config.run.time.seconds > 0 ? config.run.time.seconds
            : config.run.tokens > 0
                ? std::floor(static_cast<double>(config.run.tokens) / per_step) * per_step
                : static_cast<double>(config.run.steps) * per_step;
  s.warmup = std::min(amount(config.schedule.warmup, s.total, config), s.total);
  s.decay = std::min(amount(config.schedule.decay, s.total, config), s.total - s.warmup);
  return s;
}

Trainer::Trainer(const TrainerInputs& inputs)
    : in_(inputs),
      config_(inputs.config),
      schedule_(make_schedule(inputs.config)),
      model_(inputs.model, inputs.config.model.init_std),
      network_(model_, training_shape(inputs.config), inputs.team),
      optimizer_(model_.parameters(), model_.weights().size(), inputs.config.adamw(), inputs.team),
      spikes_(inputs.config.health.threshold),
      store_(inputs.folder.checkpoints()) {
  facts_ = {.data_fingerprint = in_.data.fingerprint(), .config = print_config(config_)};
  const bool resumed = resume();
  if (!resumed) model_.initialize(config_.run.seed);
  network_.zero_gradients();
  const std::vector<Json> undone = rewind_metrics(in_.folder.metrics(), state_.step, !resumed);
  for (const Json& line : undone)
    if (line.contains("position"))
      replay_[line.at("step").get<uint64_t>()] = {line.at("position").get<double>(),
                                                  line.at("elapsed_s").get<double>()};
  if (config_.run.time.seconds == 0) replay_.clear();
  const SpeedLimits limits{
      .flops_per_token = training_flops_per_token(in_.model, config_.batch.seq_len),
      .peak_gflops = in_.peak_gflops};
  reporter_ = std::make_unique<Reporter>(in_.folder, config_, limits, state_.step);
}

bool Trainer::resume() {
  const auto found = store_.newest();
  if (!found) return false;
  CheckpointFacts facts;
  restore_checkpoint(found->folder, {model_, optimizer_, state_}, facts);
  if (facts.data_fingerprint != facts_.data_fingerprint)
    throw Error({.kind = ErrorKind::data,
                 .doing = "resuming from " + found->folder.string(),
                 .subject = "data.folder",
                 .expected = "the data that the run was trained on",
                 .found = "other data in " + config_.data.folder,
                 .hint = "give another run.folder to start a new run"});
  spikes_.set_window(state_.window);
  last_checkpoint_ = found->folder;
  log_info(fmt::format("continuing {} from step {}", in_.folder.root.string(), state_.step));
  return true;
}

double Trainer::now() const {
  return clock_seconds() + clock_offset_;
}

void Trainer::set_now(double elapsed) {
  clock_offset_ = elapsed - clock_seconds();
}

Trainer::Outcome Trainer::run() {
  StopRequest stop(in_.folder.stop_file());
  set_now(state_.elapsed);
  last_checkpoint_time_ = now();
  in_.data.seek(state_.sample);
  if (state_.step == 0 && !state_.evaluated) evaluate();
  while (!finished()) {
    const double begin = clock_seconds();
    StepReport report = train_step();
    report.total = last_step_seconds_ = clock_seconds() - begin;
    const auto recorded = replay_.find(state_.step);
    if (recorded != replay_.end()) set_now(recorded->second.elapsed);
    state_.elapsed = now();
    reporter_->step(state_, report, schedule_.total);
    const bool due = config_.eval.every > 0 && state_.step % config_.eval.every == 0;
    if (due || finished()) evaluate();
    stop_reason_ = stop.reason();
    const bool ends = finished() || !stop_reason_.empty();
    if (ends || checkpoint_due()) checkpoint();
    if (ends && !finished()) return Outcome::stopped;
  }
  return Outcome::finished;
}

// After this step's tokens; with a time budget after its expected end, which is as long away as the
// last step took.
double Trainer::schedule_position() {
  if (config_.run.time.seconds == 0)
    return static_cast<double>(state_.tokens + config_.batch.tokens_per_step);
  const auto recorded = replay_.find(state_.step + 1);
  if (recorded != replay_.end()) return recorded->second.position;
  return now() + last_step_seconds_;
}

StepReport Trainer::train_step() {
  StepReport report;
  const double position = schedule_position();
  report.lr = learning_rate(schedule_, position);
  const uint64_t first = state_.sample;
  const LossSum sum = accumulate(report);
  const double begin = clock_seconds();
  report.loss = sum.loss / static_cast<double>(std::max<size_t>(sum.targets, 1));
  const Optimizer::Gradient gradient = optimizer_.measure(network_.gradients(), sum.targets);
  report.grad_norm = gradient.norm;
  report.clip_factor = gradient.clip_factor;
  if (!std::isfinite(gradient.norm))
    diverged("a gradient that is not finite", first_bad_gradient(), first, state_.sample - first);
  report.spike_score = spikes_.see(report.loss);
  if (spikes_.is_spike(report.spike_score) && config_.health.on_spike == "stop")
    diverged(fmt::format("a loss of {:.4g}, {:.1f} deviations above the last {}", report.loss,
                         report.spike_score, SpikeDetector::kWindow),
             "", first, state_.sample - first);
  optimizer_.step(model_.weights(), network_.gradients(), sum.targets, gradient, report.lr);
  report.optimizer = clock_seconds() - begin;
  ++state_.step;
  state_.tokens += config_.batch.tokens_per_step;
  state_.position = position;
  state_.evaluated = false;
  state_.remember(report.loss, report.lr);
  report.epoch = static_cast<double>(state_.sample) / static_cast<double>(in_.data.samples());
  return report;
}

LossSum Trainer::accumulate(StepReport& report) {
  LossSum sum;
  const uint64_t sequences = config_.batch.micro_batch;
  for (uint64_t micro = 0; micro < config_.batch.accumulation(); ++micro) {
    const double begin = clock_seconds();
    batch_ = in_.data.next();
    const double fetched = clock_seconds();
    const LossSum part = network_.forward_backward(batch_);
    report.data += fetched - begin;
    report.compute += clock_seconds() - fetched;
    if (!std::isfinite(part.loss))
      diverged("a loss that is not finite", network_.first_non_finite(), state_.sample, sequences);
    sum.loss += part.loss;
    sum.targets += part.targets;
    state_.sample += sequences;
  }
  return sum;
}

std::string Trainer::first_bad_gradient() {
  const std::span<float> gradients = network_.gradients();
  for (const Parameter& p : model_.parameters())
    if (!all_finite({gradients.data() + p.offset, p.size})) return "gradient of " + p.spec.name;
  return "";
}

void Trainer::diverged(const std::string& what, const std::string& where, uint64_t first_sample,
                       uint64_t samples) {
  const std::vector<std::string> names = in_.data.files(first_sample, samples);
  std::string files;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 4); ++i)
    files += (i == 0 ? "" : "; ") + names[i];
  if (names.size() > 4) files += fmt::format(" and {} more", names.size() - 4);
  const std::string last = last_checkpoint_.empty()
                               ? "no checkpoint had been written"
                               : "the last good checkpoint is " + last_checkpoint_.string();
  throw Error({.kind = ErrorKind::diverged,
               .doing = fmt::format("training step {}", state_.step + 1),
               .subject = where.empty() ? "" : "first in " + where,
               .found = what + ", in a batch from " + files,
               .hint = last + "; try a lower optim.lr, or look into those files"});
}

void Trainer::evaluate() {
  const uint64_t all = in_.data.held_out_windows();
  state_.evaluated = true;
  if (all == 0) return;
  const double begin = clock_seconds();
  const uint64_t wanted = config_.eval.windows == 0 ? all : std::min(config_.eval.windows, all);
  // Groups of neighbouring windows, spread evenly: the same ones every time.
  const uint64_t group = std::min<uint64_t>(config_.batch.micro_batch, wanted);
  const uint64_t groups = (wanted + group - 1) / group;
  LossSum sum;
  for (uint64_t g = 0; g < groups; ++g) {
    const uint64_t count = std::min(group, wanted - g * group);
    const uint64_t first = std::min(all * g / groups, all - count);
    const LossSum part = network_.forward(in_.data.held_out(first, count));
    sum.loss += part.loss;
    sum.targets += part.targets;
  }
  held_out_.windows = wanted;
  held_out_.loss = sum.loss / static_cast<double>(std::max<size_t>(sum.targets, 1));
  const double bytes = in_.data.bytes_per_token();
  held_out_.bits_per_byte = bytes > 0 ? held_out_.loss / std::log(2.0) / bytes : 0;
  held_out_.seconds = clock_seconds() - begin;
  if (state_.step > 0 && (state_.best_step == 0 || held_out_.loss < state_.best_held_out)) {
    state_.best_held_out = held_out_.loss;
    state_.best_step = state_.step;
  }
  reporter_->evaluation(state_, held_out_);
}

bool Trainer::checkpoint_due() const {
  const auto& c = config_.checkpoint;
  if (c.every > 0 && state_.step % c.every == 0) return true;
  if (c.keep_every > 0 && state_.step % c.keep_every == 0) return true;
  if (c.keep_best && state_.best_step == state_.step) return true;
  return c.every_time.seconds > 0 && now() - last_checkpoint_time_ >= c.every_time.seconds;
}

void Trainer::checkpoint() {
  state_.window = spikes_.window();
  last_checkpoint_ = save_checkpoint(store_, {model_, optimizer_, state_}, facts_, in_.companions);
  last_checkpoint_time_ = now();
  Retention retention{.keep_last = config_.checkpoint.keep_last,
                      .keep_every = config_.checkpoint.keep_every};
  if (config_.checkpoint.keep_best && state_.best_step > 0) retention.best = state_.best_step;
  store_.retain(retention);
}

}  // namespace cairn
