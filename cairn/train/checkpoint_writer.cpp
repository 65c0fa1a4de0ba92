#include "cairn/train/checkpoint_writer.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/log.h"

namespace cairn {

// A copy of everything that a checkpoint holds. Pages are touched at the first save.
struct CheckpointWriter::Staging {
  std::unique_ptr<Model> model;
  AlignedBuffer first_moments, second_moments;
  TrainState state;
  Retention retention;
};

CheckpointWriter::CheckpointWriter(CheckpointStore& store, CheckpointFacts facts,
                                   std::vector<Path> companions, bool background)
    : store_(store), facts_(std::move(facts)), companions_(std::move(companions)) {
  if (!background) return;
  staging_ = std::make_unique<Staging>();
  thread_ = std::thread([this] { work(); });
}

CheckpointWriter::~CheckpointWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  try {
    check();
  } catch (const std::exception& error) {
    log_error(error.what());
  }
}

void CheckpointWriter::save(const CheckpointParts& parts, const Retention& retention) {
  finish();
  store_.require_space(parts.state.step, checkpoint_bytes(parts.model));
  if (staging_ == nullptr) {
    write(parts, retention);
    return;
  }
  stage(parts);
  staging_->retention = retention;
  {
    const std::lock_guard lock(mutex_);
    busy_ = true;
  }
  changed_.notify_all();
}

void CheckpointWriter::stage(const CheckpointParts& parts) {
  Staging& to = *staging_;
  if (to.model == nullptr) {
    to.model = std::make_unique<Model>(parts.model.config());
    to.first_moments = AlignedBuffer(parts.first_moments.size_bytes());
    to.second_moments = AlignedBuffer(parts.second_moments.size_bytes());
  }
  const auto copy = [](std::span<const float> from, std::span<float> target) {
    std::copy(from.begin(), from.end(), target.begin());
  };
  copy(parts.model.weights(), to.model->weights());
  copy(parts.first_moments, to.first_moments.as<float>());
  copy(parts.second_moments, to.second_moments.as<float>());
  to.state = parts.state;
}

void CheckpointWriter::write(const CheckpointParts& parts, const Retention& retention) {
  const Path written = save_checkpoint(store_, parts, facts_, companions_);
  {
    const std::lock_guard lock(mutex_);
    last_ = written;
  }
  store_.retain(retention);
}

void CheckpointWriter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return busy_ || stopping_; });
    if (!busy_) return;  // what save() was given is always written, even when stopping
    lock.unlock();
    std::exception_ptr error;
    try {
      write({.model = *staging_->model,
             .first_moments = staging_->first_moments.as<float>(),
             .second_moments = staging_->second_moments.as<float>(),
             .state = staging_->state},
            staging_->retention);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    busy_ = false;
    error_ = error;
    changed_.notify_all();
  }
}

void CheckpointWriter::check() {
  std::exception_ptr error;
  {
    const std::lock_guard lock(mutex_);
    error = std::exchange(error_, nullptr);
  }
  if (error) std::rethrow_exception(error);
}

void CheckpointWriter::finish() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !busy_; });
  }
  check();
}

Path CheckpointWriter::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

}  // namespace cairn
