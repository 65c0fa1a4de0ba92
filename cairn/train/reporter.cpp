#include "cairn/train/reporter.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/log.h"
#include "cairn/base/memory.h"
#include "cairn/io/tensorboard.h"

namespace cairn {
namespace {

constexpr size_t kSpeedWindow = 100;

double milliseconds(double seconds) {
  return std::round(seconds * 1e6) / 1e3;
}

}  // namespace

Reporter::Reporter(const RunFolder& folder, const TrainConfig& config, const SpeedLimits& limits,
                   uint64_t first_step)
    : config_(config), limits_(limits), metrics_(folder.metrics()) {
  // Steps up to first_step are done and stay.
  if (config.log.tensorboard)
    board_ = std::make_unique<TensorBoardWriter>(
        folder.tensorboard(), first_step == 0 ? 0 : static_cast<int64_t>(first_step) + 1);
}

Reporter::~Reporter() = default;

double Reporter::tokens_per_second() const {
  if (step_seconds_.empty()) return 0;
  std::vector<double> sorted = step_seconds_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle > 0 ? static_cast<double>(config_.batch.tokens_per_step) / *middle : 0;
}

void Reporter::step(const TrainState& state, const StepReport& report, double total) {
  const auto begin = std::chrono::steady_clock::now();
  if (step_seconds_.size() == kSpeedWindow) step_seconds_.erase(step_seconds_.begin());
  step_seconds_.push_back(report.total);
  // A time budget needs every position to resume exactly.
  const bool wanted = config_.run.time.seconds > 0 || state.step % config_.log.every == 0;
  if (wanted) write_step(state, report);
  if (line_.due()) line_.show(progress_text(state, report, total));
  log_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void Reporter::write_step(const TrainState& state, const StepReport& report) {
  const double speed = static_cast<double>(config_.batch.tokens_per_step) / report.total;
  metrics_.write({{"step", state.step},
                  {"tokens", state.tokens},
                  {"epoch", report.epoch},
                  {"loss", report.loss},
                  {"loss_average", state.loss_average},
                  {"lr", report.lr},
                  {"grad_norm", report.grad_norm},
                  {"clip_factor", report.clip_factor},
                  {"spike_score", report.spike_score},
                  {"norm_score", report.norm_score},
                  {"skipped", state.skipped},
                  {"position", state.position},
                  {"elapsed_s", state.elapsed},
                  {"tokens_per_second", speed},
                  {"gflops", speed * limits_.flops_per_token * 1e-9},
                  {"step_ms", milliseconds(report.total)},
                  {"data_ms", milliseconds(report.data)},
                  {"compute_ms", milliseconds(report.compute)},
                  {"optimizer_ms", milliseconds(report.optimizer)},
                  {"log_ms", milliseconds(log_seconds_)},  // of the step before
                  {"rss_bytes", resident_memory()}});
  if (!board_) return;
  const auto step = static_cast<int64_t>(state.step);
  board_->scalar("train/loss", step, report.loss);
  board_->scalar("train/learning_rate", step, report.lr);
  board_->scalar("train/gradient_norm", step, report.grad_norm);
  board_->scalar("speed/tokens_per_second", step, speed);
}

void Reporter::evaluation(const TrainState& state, const EvalReport& report) {
  Json record = {{"step", state.step},
                 {"tokens", state.tokens},
                 {"elapsed_s", state.elapsed},
                 {"val_loss", report.loss},
                 {"val_accuracy", report.accuracy},
                 {"val_sequence_accuracy", report.sequence_accuracy},
                 {"val_windows", report.windows},
                 {"val_ms", milliseconds(report.seconds)},
                 {"perplexity", std::exp(report.loss)}};
  if (report.bits_per_byte > 0) record["bits_per_byte"] = report.bits_per_byte;
  metrics_.write(record);
  std::string text = fmt::format("step {}  held-out loss {:.4f}  {:.2f}% right", state.step,
                                 report.loss, 100 * report.accuracy);
  if (report.bits_per_byte > 0) text += fmt::format("  {:.4f} bits a byte", report.bits_per_byte);
  say(text);
  if (!board_) return;
  const auto step = static_cast<int64_t>(state.step);
  board_->scalar("held_out/loss", step, report.loss);
  board_->scalar("held_out/accuracy", step, report.accuracy);
  if (report.bits_per_byte > 0)
    board_->scalar("held_out/bits_per_byte", step, report.bits_per_byte);
  board_->flush();
}

// Noted at the step that is to be made again, so that going back further removes it.
void Reporter::rewound(const RewindReport& report) {
  metrics_.write({{"step", report.step + 1},
                  {"event", "rewind"},
                  {"spiked_at_step", report.spiked},
                  {"rewinds", report.rewinds},
                  {"passed_over_samples", {report.first_sample, report.next_sample}},
                  {"reason", report.what}});
  say(fmt::format("step {}: {}: back to step {}, past samples {} to {} (rewind {})", report.spiked,
                  report.what, report.step, report.first_sample, report.next_sample - 1,
                  report.rewinds));
}

void Reporter::say(const std::string& text) {
  line_.interrupt();
  log_info(text);
}

std::string Reporter::progress_text(const TrainState& state, const StepReport& report,
                                    double total) const {
  const double speed = tokens_per_second();
  const bool timed = config_.run.time.seconds > 0;
  const double left = timed       ? total - state.elapsed
                      : speed > 0 ? (total - static_cast<double>(state.tokens)) / speed
                                  : 0;
  std::string text = fmt::format("step {}", state.step);
  text += timed
              ? fmt::format("  {:.0f}%", 100 * std::min(1.0, state.elapsed / total))
              : fmt::format("/{:.0f}", total / static_cast<double>(config_.batch.tokens_per_step));
  text += fmt::format("  loss {:.3f}  lr {:.2e}  {} tok/s", state.loss_average, report.lr,
                      format_count(speed));
  if (limits_.peak_gflops > 0)
    text += fmt::format("  {:.2f} of peak",
                        speed * limits_.flops_per_token * 1e-9 / limits_.peak_gflops);
  return text + fmt::format("  {} left", format_duration(left));
}

}  // namespace cairn
