// A run that takes a moment: a model of a few thousand weights on tokens that are a pure function
// of the sample's number, and a folder that disappears with the test.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "cairn/base/hash.h"
#include "cairn/base/random.h"
#include "cairn/runs/run_folder.h"
#include "cairn/train/trainer.h"
#include "tests/support/temporary_folder.h"

namespace cairn {

// Counting with a step that each sequence chooses: learnable in a few dozen updates.
class CountingSource final : public BatchSource {
 public:
  static constexpr size_t kVocabulary = 32;

  CountingSource(size_t sequences, size_t length, bool random_masks = false)
      : sequences_(sequences), length_(length), random_masks_(random_masks) {}

  uint64_t samples() const override { return 1000; }
  uint64_t fingerprint() const override { return fingerprint_; }
  void set_fingerprint(uint64_t value) { fingerprint_ = value; }
  uint64_t position() const { return next_; }
  void seek(uint64_t first) override { next_ = first; }
  // Sends `signal` to this process when the batch with sample `at` is asked for.
  void raise_signal(int signal, uint64_t at) {
    signal_ = signal;
    signal_at_ = at;
  }
  // Targets of samples [first, end) make no sense: a loss spike once the model has learnt to count.
  void poison(uint64_t first, uint64_t end) {
    poison_first_ = first;
    poison_end_ = end;
  }
  // The first sample of each batch that was handed out.
  const std::vector<uint64_t>& handed_out() const { return handed_out_; }
  Batch next() override {
    handed_out_.push_back(next_);
    if (signal_ != 0 && next_ == signal_at_) ::raise(signal_);
    Batch batch = make(next_, sequences_);
    next_ += sequences_;
    return batch;
  }
  std::vector<std::string> files(uint64_t first, uint64_t count) const override {
    return {"samples " + std::to_string(first) + " to " + std::to_string(first + count - 1)};
  }
  uint64_t held_out_windows() const override { return 10; }
  Batch held_out(uint64_t first, uint64_t count) const override {
    return make(1'000'000 + first, count);
  }
  double bytes_per_token() const override { return 1; }

  Batch make(uint64_t first, size_t count) const {
    Batch batch;
    batch.sequences = count;
    batch.length = length_;
    for (uint64_t s = 0; s < count; ++s) {
      const uint64_t start = random_.below(kVocabulary, first + s, 0);
      const uint64_t stride = 1 + random_.below(3, first + s, 1);
      batch.offsets.push_back(static_cast<int32_t>(s * length_));
      for (uint64_t i = 0; i < length_; ++i) {
        const bool masked = random_masks_ && random_.below(3, first + s, 2 + i) == 0;
        const bool poisoned = first + s >= poison_first_ && first + s < poison_end_;
        const uint64_t shift = poisoned ? 7 + 5 * (i % 4) : 1;
        batch.tokens.push_back(static_cast<int32_t>((start + stride * i) % kVocabulary));
        batch.targets.push_back(
            masked ? kIgnoredTarget
                   : static_cast<int32_t>((start + stride * (i + shift)) % kVocabulary));
        batch.positions.push_back(static_cast<int32_t>(i));
      }
    }
    batch.offsets.push_back(static_cast<int32_t>(count * length_));
    return batch;
  }

 private:
  RandomStream random_{11, "counting source"};
  size_t sequences_, length_;
  bool random_masks_;
  uint64_t next_ = 0;
  uint64_t poison_first_ = 0, poison_end_ = 0;
  std::vector<uint64_t> handed_out_;
  uint64_t fingerprint_ = 77;
  int signal_ = 0;
  uint64_t signal_at_ = 0;
};

inline TrainConfig tiny_config(const std::vector<std::string>& overrides = {}) {
  return parse_config(
      "[model]\nhidden_size = 16\nlayers = 2\nheads = 2\nkv_heads = 1\nintermediate_size = "
      "32\ninit_std = 0.02\n"
      "[batch]\ntokens_per_step = 64\nmicro_batch = 2\nseq_len = 16\n"
      "[optim]\nlr = 0.01\n[run]\nsteps = 12\nprecision = \"f32\"\n"
      "[checkpoint]\nevery = 4\n[eval]\nevery = 6\nwindows = 5\n[log]\ntensorboard = false\n",
      "tiny.toml", overrides);
}

// Everything that a Trainer borrows.
class TinyRun {
 public:
  explicit TinyRun(const Path& folder, const std::vector<std::string>& overrides = {},
                   int threads = 1)
      : config_(tiny_config(overrides)),
        team_(threads, true),
        source_(config_.batch.micro_batch, config_.batch.seq_len),
        trainer_(std::make_unique<Trainer>(
            TrainerInputs{.config = config_,
                          .data = source_,
                          .team = team_,
                          .model = config_.model_config(CountingSource::kVocabulary),
                          .folder = {folder}})) {}

  Trainer& trainer() { return *trainer_; }
  CountingSource& source() { return source_; }
  uint64_t run() {
    trainer_->run();
    return trainer_->model().weights_hash();
  }

 private:
  TrainConfig config_;
  ThreadTeam team_;
  CountingSource source_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace cairn
