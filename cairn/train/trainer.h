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
#include <string>
#include <vector>

#include "cairn/nn/language_model.h"
#include "cairn/runs/run_folder.h"
#include "cairn/train/batch_source.h"
#include "cairn/train/checkpoint.h"
#include "cairn/train/config.h"
#include "cairn/train/health.h"
#include "cairn/train/reporter.h"
#include "cairn/train/stop_request.h"

namespace cairn {

// All borrowed; must outlive the trainer.
struct TrainerInputs {
  const TrainConfig& config;
  BatchSource& data;
  ThreadTeam& team;
  ModelConfig model;             // what to train
  RunFolder folder;              // locked by the caller
  std::vector<Path> companions;  // files that belong beside the weights: the tokenizer
  double peak_gflops = 0;        // for the progress line; 0: not shown
};

// The schedule of a run in the unit of TrainState::position: seconds when the run has a time
// budget, else tokens.
Schedule make_schedule(const TrainConfig& config);

class Trainer {
 public:
  // Builds the model and, when the folder holds a checkpoint that is whole, continues from it; says
  // so. Throws Error (data) when the checkpoint was trained on other data.
  explicit Trainer(const TrainerInputs& inputs);

  enum class Outcome { finished, stopped };
  // Trains to the end, or until a signal or the STOP file asks to stop; then there is a checkpoint
  // of the last step. Throws Error (diverged) naming step, origin of the samples and first bad
  // operation when a loss or gradient is not finite, or on a spike if the configuration says stop.
  Outcome run();

  const TrainState& state() const { return state_; }
  Model& model() { return model_; }
  // Why run() stopped early.
  const std::string& stop_reason() const { return stop_reason_; }
  const Path& last_checkpoint() const { return last_checkpoint_; }
  double last_held_out_loss() const { return held_out_.loss; }
  const EvalReport& last_evaluation() const { return held_out_; }

 private:
  bool resume();
  bool finished() const { return state_.position >= schedule_.total; }
  StepReport train_step();
  // Gradients of a whole step; answers losses summed over its targets.
  LossSum accumulate(StepReport& report);
  double schedule_position();
  void evaluate();
  void checkpoint();
  bool checkpoint_due() const;
  double now() const;  // seconds of training, earlier sessions included
  void set_now(double elapsed);
  [[noreturn]] void diverged(const std::string& what, const std::string& where,
                             uint64_t first_sample, uint64_t samples);
  std::string first_bad_gradient();

  TrainerInputs in_;
  const TrainConfig& config_;
  Schedule schedule_;
  Model model_;
  LanguageModel network_;
  Optimizer optimizer_;
  SpikeDetector spikes_;
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
};

}  // namespace cairn
