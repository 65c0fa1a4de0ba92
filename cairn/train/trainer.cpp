#include "cairn/train/trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/data/tasks/task.h"
#include "cairn/kernels/elementwise.h"
#include "cairn/runs/lineage.h"
#include "cairn/train/plan.h"

namespace cairn {
namespace {

constexpr uint64_t kMostSkipsInARow = 10;

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
      norm_spikes_(inputs.config.health.grad_threshold),
      store_(inputs.folder.checkpoints()) {
  facts_ = {.data_fingerprint = in_.data.fingerprint(), .config = print_config(config_)};
  const bool resumed = resume();
  if (!resumed) begin();
  network_.zero_gradients();
  open_reporter(!resumed);
  writer_ = std::make_unique<CheckpointWriter>(store_, facts_, in_.companions,
                                               config_.checkpoint.background);
}

// The state of a run that has not made a step of its own.
void Trainer::begin() {
  model_.initialize(config_.run.seed);
  for (const std::span<float> moments : {optimizer_.first_moments(), optimizer_.second_moments()})
    std::fill(moments.begin(), moments.end(), 0.0F);
  optimizer_.set_steps(0);
  state_ = {};
  spikes_.set_window({});
  norm_spikes_.set_window({});
  if (!in_.start) return;
  if (in_.start->weights_only) return take_weights(in_.start->folder);
  check_data(restore(in_.start->folder), in_.start->folder);
  // What the parent has reached and counted is not this run's.
  state_.best_step = state_.stale = state_.rewinds = 0;
  state_.position =
      config_.run.time.seconds > 0 ? state_.elapsed : static_cast<double>(state_.tokens);
}

void Trainer::take_weights(const Path& model_folder) {
  const Model from = load_model(model_folder);
  for (const Parameter& p : model_.parameters()) {
    const Parameter& other = from.find(p.spec.name);
    if (other.spec.shape != p.spec.shape)
      throw Error({.kind = ErrorKind::data,
                   .doing = "beginning from " + model_folder.string(),
                   .subject = "tensor " + p.spec.name,
                   .expected = to_string(p.spec.shape),
                   .found = to_string(other.spec.shape)});
    std::copy_n(from.values(other).data, p.size, model_.values(p).data);
  }
}

void Trainer::check_data(const CheckpointFacts& facts, const Path& checkpoint) {
  // Another number of sequences a step leaves a remainder; batches begin at its multiples.
  state_.sample = align_up(state_.sample, config_.batch.micro_batch);
  if (facts.data_fingerprint == facts_.data_fingerprint) return;
  if (!in_.accept_other_data)
    throw Error({.kind = ErrorKind::data,
                 .doing = "going on from " + checkpoint.string(),
                 .subject = "data.folder",
                 .expected = "the data that the run was trained on",
                 .found = "other data in " + config_.data.folder,
                 .hint = "give another run.folder to start a new run, or --allow data.folder to go "
                         "on with the first sample of these data"});
  state_.sample = 0;
}

// `all_anew`: nothing that the folder holds belongs to this run.
void Trainer::open_reporter(bool all_anew) {
  reporter_.reset();
  const std::vector<Json> undone = rewind_metrics(in_.folder.metrics(), state_.step, all_anew);
  if (config_.run.time.seconds > 0)
    for (const Json& line : undone)
      if (line.contains("position"))
        replay_[line.at("step").get<uint64_t>()] = {line.at("position").get<double>(),
                                                    line.at("elapsed_s").get<double>()};
  const SpeedLimits limits{
      .flops_per_token = training_flops_per_token(in_.model, config_.batch.seq_len),
      .peak_gflops = in_.peak_gflops};
  reporter_ = std::make_unique<Reporter>(in_.folder, config_, limits, state_.step);
}

CheckpointFacts Trainer::restore(const Path& checkpoint) {
  CheckpointFacts facts;
  restore_checkpoint(checkpoint, {model_, optimizer_, state_}, facts);
  spikes_.set_window(state_.window);
  norm_spikes_.set_window(state_.norm_window);
  return facts;
}

bool Trainer::resume() {
  const auto found = store_.newest();
  if (!found) return false;
  const CheckpointFacts facts = restore(found->folder);
  check_data(facts, found->folder);
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
  StopRequest stop(in_.folder.stop_file(), in_.deadline);
  set_now(state_.elapsed);
  last_checkpoint_time_ = now();
  in_.data.seek(state_.sample);
  if (state_.step == 0 && !state_.evaluated) evaluate();
  while (!finished()) {
    const double begin = clock_seconds();
    StepReport report;
    if (const auto trouble = train_step(report)) {
      rewind(*trouble);
      continue;
    }
    report.total = last_step_seconds_ = clock_seconds() - begin;
    const auto recorded = replay_.find(state_.step);
    if (recorded != replay_.end()) set_now(recorded->second.elapsed);
    state_.elapsed = now();
    reporter_->step(state_, report, schedule_.total);
    const bool due = config_.eval.every > 0 && state_.step % config_.eval.every == 0;
    if (due || finished()) evaluate();
    writer_->check();
    stop_reason_ = stop.reason();
    const bool ends = finished() || !stop_reason_.empty();
    if (ends || checkpoint_due()) checkpoint();
    if (ends) break;
  }
  writer_->finish();
  if (const Path last = writer_->last(); !last.empty()) last_checkpoint_ = last;
  return finished() ? Outcome::finished : Outcome::stopped;
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

std::optional<Trainer::Trouble> Trainer::train_step(StepReport& report) {
  const double position = schedule_position();
  report.lr = learning_rate(schedule_, position);
  const uint64_t first = state_.sample;
  LossSum sum;
  if (auto trouble = accumulate(report, sum)) return trouble;
  const double begin = clock_seconds();
  report.loss = sum.loss / static_cast<double>(std::max<size_t>(sum.targets, 1));
  const Optimizer::Gradient gradient = optimizer_.measure(network_.gradients(), sum.targets);
  report.grad_norm = gradient.norm;
  report.clip_factor = gradient.clip_factor;
  if (!std::isfinite(gradient.norm))
    return Trouble{"a gradient that is not finite", first_bad_gradient(), first,
                   samples_per_step()};
  if (auto trouble = look_for_spike(report, first)) return trouble;
  update(report, gradient, sum.targets);
  report.optimizer = clock_seconds() - begin;
  ++state_.step;
  state_.tokens += config_.batch.tokens_per_step;
  state_.sample += samples_per_step();
  state_.position = position;
  state_.evaluated = false;
  state_.remember(report.loss, report.lr);
  report.epoch = static_cast<double>(state_.sample) / static_cast<double>(in_.data.samples());
  return std::nullopt;
}

std::optional<Trainer::Trouble> Trainer::accumulate(StepReport& report, LossSum& sum) {
  const uint64_t sequences = config_.batch.micro_batch;
  for (uint64_t micro = 0; micro < config_.batch.accumulation(); ++micro) {
    const double begin = clock_seconds();
    in_.data.recycle(std::move(batch_));
    batch_ = in_.data.next();
    const double fetched = clock_seconds();
    const LossSum part = network_.forward_backward(batch_);
    report.data += fetched - begin;
    report.compute += clock_seconds() - fetched;
    if (!std::isfinite(part.loss))
      return Trouble{"a loss that is not finite", network_.first_non_finite(),
                     state_.sample + micro * sequences, sequences};
    sum.loss += part.loss;
    sum.targets += part.targets;
  }
  return std::nullopt;
}

// Scores loss and gradient norm, and says whether the step's update is to be dropped.
std::optional<Trainer::Trouble> Trainer::look_for_spike(StepReport& report, uint64_t first_sample) {
  report.spike_score = spikes_.see(report.loss);
  bool spike = spikes_.is_spike(report.spike_score);
  if (config_.health.grad_threshold > 0) {
    report.norm_score = norm_spikes_.see(report.grad_norm);
    spike = spike || norm_spikes_.is_spike(report.norm_score);
  }
  if (!spike) return std::nullopt;
  const std::string what = fmt::format(
      "a loss of {:.4g}, {:.1f} deviations above the last {}, at a gradient norm of {:.4g}",
      report.loss, report.spike_score, SpikeDetector::kWindow, report.grad_norm);
  if (config_.health.on_spike == "stop" || config_.health.on_spike == "rewind")
    return Trouble{what, "", first_sample, samples_per_step()};
  if (config_.health.on_spike != "skip") return std::nullopt;
  // Losses that stay high are no spike any more, and a run without updates would not end that.
  if (state_.skips_in_a_row >= kMostSkipsInARow)
    return Trouble{fmt::format("{}, after {} steps in a row whose updates were dropped", what,
                               kMostSkipsInARow),
                   "", first_sample, samples_per_step()};
  report.skipped = true;
  reporter_->say(fmt::format("step {}: {}: its update is dropped", state_.step + 1, what));
  return std::nullopt;
}

void Trainer::update(const StepReport& report, const Optimizer::Gradient& gradient,
                     size_t targets) {
  if (report.skipped) {
    ++state_.skipped;
    ++state_.skips_in_a_row;
    network_.zero_gradients();
    return;
  }
  state_.skips_in_a_row = 0;
  optimizer_.step(model_.weights(), network_.gradients(), targets, gradient, report.lr);
}

// Chowdhery et al. 2022 (PaLM), section 5.1: go back to before the spike, and past the data
// between. What happens is a function of the losses alone, so a run that is killed and resumed
// meets the same spike again and does the same.
void Trainer::rewind(const Trouble& trouble) {
  if (config_.health.on_spike != "rewind" || state_.rewinds >= config_.health.rewinds)
    diverged(trouble);
  const uint64_t spiked = state_.step + 1, rewinds = state_.rewinds + 1;
  const uint64_t sample = state_.sample + samples_per_step();
  const uint64_t target = state_.step / config_.checkpoint.every * config_.checkpoint.every;
  writer_->finish();
  store_.forget_after(target);
  begin();
  if (target > state_.step) restore(store_.find(target));
  const uint64_t from = std::exchange(state_.sample, sample);
  state_.rewinds = rewinds;
  network_.zero_gradients();
  in_.data.seek(sample);
  open_reporter(false);
  reporter_->rewound({.step = state_.step,
                      .spiked = spiked,
                      .rewinds = rewinds,
                      .first_sample = from,
                      .next_sample = sample,
                      .what = trouble.what});
}

std::string Trainer::first_bad_gradient() {
  const std::span<float> gradients = network_.gradients();
  for (const Parameter& p : model_.parameters())
    if (!all_finite({gradients.data() + p.offset, p.size})) return "gradient of " + p.spec.name;
  return "";
}

void Trainer::diverged(const Trouble& trouble) {
  const std::vector<std::string> names = in_.data.files(trouble.first_sample, trouble.samples);
  std::string files;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 4); ++i)
    files += (i == 0 ? "" : "; ") + names[i];
  if (names.size() > 4) files += fmt::format(" and {} more", names.size() - 4);
  writer_->finish();
  if (const Path last = writer_->last(); !last.empty()) last_checkpoint_ = last;
  const std::string last = last_checkpoint_.empty()
                               ? "no checkpoint had been written"
                               : "the last good checkpoint is " + last_checkpoint_.string();
  const std::string again =
      state_.rewinds == 0 ? "" : fmt::format(", after {} rewinds", state_.rewinds);
  throw Error({.kind = ErrorKind::diverged,
               .doing = fmt::format("training step {}", state_.step + 1),
               .subject = trouble.where.empty() ? "" : "first in " + trouble.where,
               .found = trouble.what + again + ", in a batch from " + files,
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
  TaskScore score;
  for (uint64_t g = 0; g < groups; ++g) {
    const uint64_t count = std::min(group, wanted - g * group);
    const uint64_t first = std::min(all * g / groups, all - count);
    const Batch batch = in_.data.held_out(first, count);
    score.loss += network_.forward(batch).loss;
    score.add(batch, network_.answers());
  }
  held_out_.windows = wanted;
  held_out_.loss = score.mean_loss();
  held_out_.accuracy = score.accuracy();
  held_out_.sequence_accuracy = score.sequence_accuracy();
  const double bytes = in_.data.bytes_per_token();
  held_out_.bits_per_byte = bytes > 0 ? held_out_.loss / std::log(2.0) / bytes : 0;
  held_out_.seconds = clock_seconds() - begin;
  if (state_.step > 0 && (state_.best_step == 0 || held_out_.loss < state_.best_held_out)) {
    state_.best_held_out = held_out_.loss;
    state_.best_step = state_.step;
    state_.stale = 0;
  } else if (state_.step > 0) {
    ++state_.stale;
  }
  reporter_->evaluation(state_, held_out_);
}

bool Trainer::checkpoint_due() const {
  const auto& c = config_.checkpoint;
  if (c.every > 0 && state_.step % c.every == 0) return true;
  if (c.keep_every > 0 && state_.step % c.keep_every == 0) return true;
  const bool wants_best = c.keep_best || config_.eval.patience > 0;
  if (wants_best && state_.best_step == state_.step) return true;
  return c.every_time.seconds > 0 && now() - last_checkpoint_time_ >= c.every_time.seconds;
}

Retention Trainer::retention() const {
  const auto& c = config_.checkpoint;
  Retention keep{.keep_last = c.keep_last, .keep_every = c.keep_every};
  if ((c.keep_best || config_.eval.patience > 0) && state_.best_step > 0)
    keep.steps.push_back(state_.best_step);
  if (c.keep_branch_points)
    for (const uint64_t step : branch_points(in_.folder)) keep.steps.push_back(step);
  if (config_.health.on_spike == "rewind") keep.steps.push_back(state_.step / c.every * c.every);
  return keep;
}

void Trainer::checkpoint() {
  state_.window = spikes_.window();
  state_.norm_window = norm_spikes_.window();
  writer_->save({.model = model_,
                 .first_moments = optimizer_.first_moments(),
                 .second_moments = optimizer_.second_moments(),
                 .state = state_},
                retention());
  last_checkpoint_time_ = now();
}

}  // namespace cairn
