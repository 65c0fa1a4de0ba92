// The training loop: batches, gradients, updates, evaluation, checkpoints, until the end of the
// schedule or until it is asked to stop.
//
// Everything that decides a number is a pure function of (configuration, step): the order of the
// data, the learning rate, the start of the weights; so a run that was killed anywhere and resumed
// ends with the same bits as one that was not. With a time budget the learning rate depends on the
// clock; the positions that metrics.jsonl recorded are then followed again for the steps that a
// crash undid.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cairn/nn/language_model.h"
#include "cairn/runs/run_folder.h"
#include "cairn/train/batch_source.h"
#include "cairn/train/checkpoint.h"
#include "cairn/train/checkpoint_writer.h"
#include "cairn/train/config.h"
#include "cairn/train/health.h"
#include "cairn/train/reporter.h"
#include "cairn/train/stop_request.h"

namespace cairn {

// What a run begins from, when it is not from nothing.
struct StartingPoint {
  Path folder;                // a checkpoint, or a model folder for `weights_only`
  bool weights_only = false;  // else counters, moments and the place in the data too
};

// All borrowed; must outlive the trainer.
struct TrainerInputs {
  const TrainConfig& config;
  BatchSource& data;
  ThreadTeam& team;
  ModelConfig model;                // what to train
  RunFolder folder;                 // locked by the caller
  std::vector<Path> companions;     // files that belong beside the weights: the tokenizer
  double peak_gflops = 0;           // for the progress line; 0: not shown
  Deadline deadline = kNoDeadline;  // save and stop then
  std::optional<StartingPoint> start = {};
  bool accept_other_data = false;  // go on with data that the checkpoint was not trained on
};

// The schedule of a run in the unit of TrainState::position: seconds when the run has a time
// budget, else tokens.
Schedule make_schedule(const TrainConfig& config);

class Trainer {
 public:
  // Builds the model and, when the folder holds a checkpoint that is whole, continues from it; says
  // so. Else begins as `start` says. Throws Error (data) when the checkpoint was trained on other
  // data, or when the model of `start` is not the one to be trained.
  explicit Trainer(const TrainerInputs& inputs);

  enum class Outcome { finished, stopped };
  // Trains to the end, or until a signal or the STOP file asks to stop; then there is a checkpoint
  // of the last step, and so there is at the end; both have been written when it returns. On a
  // spike the run goes on as health.on_spike says. Throws Error (diverged) naming step, origin of
  // the samples and first bad operation when a loss or gradient is not finite and no rewind is
  // left, or on a spike if the configuration says stop; Error (checkpoint) when one cannot be
  // written, at the latest at the next one or at the end.
  Outcome run();

  const TrainState& state() const { return state_; }
  Model& model() { return model_; }
  // Why run() stopped early.
  const std::string& stop_reason() const { return stop_reason_; }
  const Path& last_checkpoint() const { return last_checkpoint_; }
  // Whether eval.patience ended the run, and the checkpoint of the best evaluation then.
  bool out_of_patience() const {
    return config_.eval.patience > 0 && state_.stale >= config_.eval.patience;
  }
  Path best_checkpoint() const { return store_.find(state_.best_step); }
  double last_held_out_loss() const { return held_out_.loss; }
  const EvalReport& last_evaluation() const { return held_out_; }

 private:
  // What a step met that it cannot be trained on.
  struct Trouble {
    std::string what;   // "a loss that is not finite"
    std::string where;  // the first bad operation or gradient; may be empty
    uint64_t first_sample = 0, samples = 0;
  };

  void begin();
  void take_weights(const Path& model_folder);
  void check_data(const CheckpointFacts& facts, const Path& checkpoint);
  CheckpointFacts restore(const Path& checkpoint);
  bool resume();
  void open_reporter(bool all_anew);
  bool finished() const { return state_.position >= schedule_.total || out_of_patience(); }
  uint64_t samples_per_step() const {
    return config_.batch.micro_batch * config_.batch.accumulation();
  }
  // One step, or what stands against it; then weights and counters are as before.
  std::optional<Trouble> train_step(StepReport& report);
  // Gradients of a whole step; `sum` becomes its losses summed over its targets.
  std::optional<Trouble> accumulate(StepReport& report, LossSum& sum);
  std::optional<Trouble> look_for_spike(StepReport& report, uint64_t first_sample);
  void update(const StepReport& report, const Optimizer::Gradient& gradient, size_t targets);
  // Back to the checkpoint before `trouble`, to go on behind the samples that led to it. Throws as
  // diverged() when the configuration does not want it, or not again.
  void rewind(const Trouble& trouble);
  double schedule_position();
  void evaluate();
  void checkpoint();
  bool checkpoint_due() const;
  Retention retention() const;
  double now() const;  // seconds of training, earlier sessions included
  void set_now(double elapsed);
  [[noreturn]] void diverged(const Trouble& trouble);
  std::string first_bad_gradient();

  TrainerInputs in_;
  const TrainConfig& config_;
  Schedule schedule_;
  Model model_;
  LanguageModel network_;
  Optimizer optimizer_;
  SpikeDetector spikes_;       // of losses
  SpikeDetector norm_spikes_;  // of gradient norms
  CheckpointStore store_;
  TrainState state_;
  CheckpointFacts facts_;
  // Of the steps after the checkpoint that an earlier session had made: position and elapsed time.
  struct Recorded {
    double position = 0, elapsed = 0;
  };
  std::map<uint64_t, Recorded> replay_;
  Batch batch_;
  EvalReport held_out_;
  double clock_offset_ = 0;
  double last_step_seconds_ = 0;
  double last_checkpoint_time_ = 0;
  Path last_checkpoint_;
  std::string stop_reason_;
  std::unique_ptr<Reporter> reporter_;
  std::unique_ptr<CheckpointWriter> writer_;
};

}  // namespace cairn
