#include "cairn/autograd/tape.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

#include "cairn/autograd/tape_planner.h"
#include "cairn/base/error.h"
#include "cairn/base/seconds_since.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

bool rows_finite(const AnyView2& view) {
  for (size_t row = 0; row < view.rows; ++row) {
    if (view.dtype == DType::f32 && !all_finite(view.as<const float>()[row])) return false;
    if (view.dtype == DType::bf16 && !all_finite(view.as<const bf16>()[row])) return false;
  }
  return true;
}

}  // namespace

size_t Rows::chunk() const {
  return begin / Tape::kChunkTokens;
}

Value Tape::value(size_t cols, DType dtype, DType gradient_dtype) {
  const auto id = static_cast<int32_t>(values_.size());
  values_.push_back({.cols = cols,
                     .dtype = dtype,
                     .gradient_dtype = gradient_dtype,
                     .gradient_of = id,
                     .forward_data = {},
                     .backward_data = {},
                     .gradient = {}});
  return {id};
}

Scratch Tape::scratch(size_t bytes, Lifetime lifetime) {
  scratches_.push_back({.bytes = bytes, .lifetime = lifetime, .operation = steps_.size()});
  return {static_cast<int32_t>(scratches_.size()) - 1};
}

void Tape::record(std::unique_ptr<Operation> operation) {
  Step& step = steps_.emplace_back();
  step.uses = operation->uses();
  step.operation = std::move(operation);
}

void Tape::plan(Gradients gradients, size_t gradient_bytes) {
  gradients_ = gradients;
  gradient_bytes_ = gradients == Gradients::elsewhere ? 0 : gradient_bytes;
  Planner(*this).plan();
  for (Run& run : runs_) {
    for (size_t op = run.first; op < run.first + run.count; ++op) {
      const Operation& operation = *steps_[op].operation;
      for (size_t unit = 0; unit < operation.packing_units(); ++unit)
        run.packing.emplace_back(op, unit);
      for (size_t unit = 0; unit < operation.gradient_units(); ++unit)
        run.gradients.emplace_back(op, unit);
    }
  }
  for (const Step& step : steps_) step.operation->planned(*this);
  thread_seconds_.assign(threads_, std::vector<double>(steps_.size()));
}

size_t Tape::bytes() const {
  return full_bytes_ + chunked_bytes_ * static_cast<size_t>(threads_);
}

AnyView2 Tape::view(const Location& location, size_t cols, DType dtype, const Rows& rows) const {
  auto* base = const_cast<std::byte*>(memory_.data());
  if (location.per_chunk) {
    base += full_bytes_ + chunked_bytes_ * static_cast<size_t>(rows.thread) +
            chunked_offsets_[location.interval];
  } else {
    base += full_offsets_[location.interval] + rows.begin * cols * dtype_size(dtype);
  }
  return {base, dtype, rows.count, cols, cols};
}

AnyView2 Tape::data(Value value, const Rows& rows) const {
  const ValueInfo& info = values_[value.id];
  return view(in_backward_ ? info.backward_data : info.forward_data, info.cols, info.dtype, rows);
}

AnyView2 Tape::gradient(Value value, const Rows& rows) const {
  const ValueInfo& info = values_[value.id];
  return view(info.gradient, info.cols, info.gradient_dtype, rows);
}

AnyView2 Tape::all_data(Value value) const {
  return data(value, {.begin = 0, .count = active_, .thread = 0});
}

AnyView2 Tape::all_gradient(Value value) const {
  return gradient(value, {.begin = 0, .count = active_, .thread = 0});
}

std::span<std::byte> Tape::memory(Scratch scratch) const {
  const ScratchInfo& info = scratches_[scratch.id];
  return {const_cast<std::byte*>(memory_.data()) + full_offsets_[info.interval], info.bytes};
}

bool Tape::adds_gradient(const Operation& operation, Value value) const {
  for (const Step& step : steps_) {
    if (step.operation.get() != &operation) continue;
    for (const auto& [id, adds] : step.adds)
      if (id == value.id) return adds;
  }
  return false;
}

// Runs `work` over chunks and spreads the region's wall time over the run's operations, in
// proportion to the time that threads spent in each; waiting for the last chunk is thereby shared
// out.
template <class Work>
void Tape::timed_region(const Run& run, double Step::*seconds, ThreadTeam& team, size_t chunks,
                        const Work& work) {
  for (auto& mine : thread_seconds_)
    std::fill_n(mine.begin() + static_cast<std::ptrdiff_t>(run.first), run.count, 0.0);
  const auto start = Clock::now();
  team.run(chunks, work);
  const double wall = seconds_since(start);
  double total = 0;
  for (const auto& mine : thread_seconds_)
    for (size_t op = run.first; op < run.first + run.count; ++op) total += mine[op];
  if (total <= 0) return;
  for (const auto& mine : thread_seconds_)
    for (size_t op = run.first; op < run.first + run.count; ++op)
      steps_[op].*seconds += wall * mine[op] / total;
}

void Tape::forward(ThreadTeam& team, Mode mode) {
  mode_ = mode;
  in_backward_ = false;
  for (const Run& run : runs_) forward_run(run, team);
}

void Tape::forward_run(const Run& run, ThreadTeam& team) {
  pack_weights(run, team);
  if (!run.row_wise) {
    Step& step = steps_[run.first];
    const auto start = Clock::now();
    step.operation->forward_all(*this, team);
    step.forward_seconds += seconds_since(start);
    if (checking_) check_outputs(step, {.begin = 0, .count = active_, .thread = 0});
    return;
  }
  timed_region(run, &Step::forward_seconds, team, chunk_count(active_, kChunkTokens),
               [&](size_t chunk, int thread) {
                 const size_t begin = chunk * kChunkTokens;
                 const Rows rows{begin, std::min(kChunkTokens, active_ - begin), thread};
                 for (size_t op = run.first; op < run.first + run.count; ++op) {
                   const auto start = Clock::now();
                   steps_[op].operation->forward(*this, rows);
                   thread_seconds_[thread][op] += seconds_since(start);
                   if (checking_) check_outputs(steps_[op], rows);
                 }
               });
}

void Tape::backward(ThreadTeam& team) {
  in_backward_ = true;
  for (size_t r = runs_.size(); r-- > 0;) backward_run(runs_[r], team);
  in_backward_ = false;
}

void Tape::backward_run(const Run& run, ThreadTeam& team) {
  pack_weights(run, team);
  if (!run.row_wise) {
    clear_gradients(run, team);
    Step& step = steps_[run.first];
    const auto start = Clock::now();
    step.operation->backward_all(*this, team);
    step.backward_seconds += seconds_since(start);
  } else {
    timed_region(run, &Step::backward_seconds, team, chunk_count(active_, kChunkTokens),
                 [&](size_t chunk, int thread) {
                   const size_t begin = chunk * kChunkTokens;
                   const Rows rows{begin, std::min(kChunkTokens, active_ - begin), thread};
                   for (size_t op = run.first; op < run.first + run.count; ++op) {
                     if (!steps_[op].recomputed) continue;
                     const auto start = Clock::now();
                     steps_[op].operation->forward(*this, rows);
                     thread_seconds_[thread][op] += seconds_since(start);
                   }
                   for (size_t op = run.first + run.count; op-- > run.first;) {
                     const auto start = Clock::now();
                     steps_[op].operation->backward(*this, rows);
                     thread_seconds_[thread][op] += seconds_since(start);
                   }
                 });
    clear_gradients(run, team);
  }
  gradient_units(run, team);
}

void Tape::pack_weights(const Run& run, ThreadTeam& team) {
  if (run.packing.empty()) return;
  timed_region(run, &Step::packing_seconds, team, run.packing.size(),
               [&](size_t index, int thread) {
                 const auto [op, unit] = run.packing[index];
                 const auto start = Clock::now();
                 steps_[op].operation->pack_unit(*this, unit, thread);
                 thread_seconds_[thread][op] += seconds_since(start);
               });
}

// As late as possible: what was just cleared is still in cache when sums are added to it.
void Tape::clear_gradients(const Run& run, ThreadTeam& team) {
  if (run.clears.empty()) return;
  timed_region(run, &Step::unit_seconds, team, run.clears.size(), [&](size_t index, int thread) {
    const auto& [op, range] = run.clears[index];
    const auto start = Clock::now();
    std::memset(memory_.data() + range.begin, 0, range.size);
    thread_seconds_[thread][op] += seconds_since(start);
  });
}

void Tape::gradient_units(const Run& run, ThreadTeam& team) {
  if (run.gradients.empty()) return;
  timed_region(run, &Step::unit_seconds, team, run.gradients.size(), [&](size_t index, int thread) {
    const auto [op, unit] = run.gradients[index];
    const auto start = Clock::now();
    steps_[op].operation->gradient_unit(*this, unit, thread);
    thread_seconds_[thread][op] += seconds_since(start);
  });
}

void Tape::check_outputs(const Step& step, const Rows& rows) {
  for (const Value value : step.uses.outputs) {
    if (rows_finite(data(value, rows)) || !found_.empty()) continue;
    found_ = step.operation->label + " " + std::string(step.operation->kind());
  }
}

std::string Tape::first_non_finite(ThreadTeam& team) {
  checking_ = true;
  found_.clear();
  // One run at a time, alone, so that the first finding is the first in the model.
  mode_ = Mode::evaluation;
  ThreadTeam alone(1);
  for (const Run& run : runs_) {
    forward_run(run, run.row_wise ? alone : team);
    if (!found_.empty()) break;
  }
  checking_ = false;
  return found_;
}

std::vector<std::pair<std::string, double>> Tape::take_timings() {
  std::map<std::string, double> sums;
  for (Step& step : steps_) {
    const std::string kind(step.operation->kind());
    sums[kind + " forward"] += std::exchange(step.forward_seconds, 0);
    sums[kind + " backward"] += std::exchange(step.backward_seconds, 0);
    if (!step.uses.weights.empty() || step.operation->gradient_units() != 0)
      sums[kind + " gradient"] += std::exchange(step.unit_seconds, 0);
    if (step.operation->packing_units() != 0)
      sums[kind + " packing"] += std::exchange(step.packing_seconds, 0);
  }
  return {sums.begin(), sums.end()};
}

}  // namespace cairn
