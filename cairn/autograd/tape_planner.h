// The planning half of the tape: which values are kept, recomputed or live only as chunks, and
// where.
#pragma once

#include <vector>

#include "cairn/autograd/interval_planner.h"
#include "cairn/autograd/tape.h"

namespace cairn {

// Moments: the forward of operation i is i, its backward is 2N - 1 - i. A buffer kept in full lives
// for whole runs, because a run's chunks pass through its operations at different times.
struct Tape::Planner {
  explicit Planner(Tape& tape);
  void plan();

  void find_runs();
  void find_users();
  void share_residual_gradients();
  void place_data(size_t value);
  void place_gradients();
  void place_scratches();
  void place_weight_gradients();
  void mark_adding();

  size_t run_of(size_t operation) const { return tape.steps_[operation].run; }
  const Run& run(size_t operation) const { return tape.runs_[run_of(operation)]; }
  size_t forward_first(size_t op) const { return run(op).first; }
  size_t forward_last(size_t op) const { return run(op).first + run(op).count - 1; }
  size_t backward_first(size_t op) const { return 2 * operations - 1 - forward_last(op); }
  size_t backward_last(size_t op) const { return 2 * operations - 1 - forward_first(op); }
  bool all_in_run_of(size_t operation, const std::vector<size_t>& others) const;
  size_t row_bytes(size_t value, bool gradient) const;
  Location full(size_t bytes, size_t first, size_t last);
  Location chunked(size_t bytes_a_row, size_t first, size_t last);

  // Who touches a value, as operation numbers in the order of recording.
  struct Users {
    int producer = -1;
    std::vector<size_t> consumers, backward_readers, unit_readers, unit_gradient_readers;
  };

  Tape& tape;
  size_t operations;
  std::vector<Users> users;
  std::vector<BufferInterval> full_intervals, chunked_intervals;
};

}  // namespace cairn
