#include "cairn/autograd/tape_planner.h"

#include <algorithm>
#include <string>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr size_t kClearedAtOnce = size_t{1} << 18;  // bytes: a quarter of a core's L2

}  // namespace

Tape::Planner::Planner(Tape& t) : tape(t), operations(t.steps_.size()), users(t.values_.size()) {}

void Tape::Planner::plan() {
  find_runs();
  find_users();
  share_residual_gradients();
  for (size_t value = 0; value < users.size(); ++value) place_data(value);
  place_gradients();
  place_scratches();
  place_weight_gradients();
  mark_adding();
  tape.full_bytes_ = place_buffers(full_intervals);
  tape.chunked_bytes_ = place_buffers(chunked_intervals);
  for (const BufferInterval& interval : full_intervals)
    tape.full_offsets_.push_back(interval.offset);
  for (const BufferInterval& interval : chunked_intervals)
    tape.chunked_offsets_.push_back(interval.offset);
}

void Tape::Planner::find_runs() {
  for (size_t op = 0; op < operations; ++op) {
    const bool row_wise = tape.steps_[op].operation->row_wise();
    if (op == 0 || !row_wise || !tape.runs_.back().row_wise)
      tape.runs_.push_back({.first = op, .count = 0, .row_wise = row_wise});
    ++tape.runs_.back().count;
    tape.steps_[op].run = tape.runs_.size() - 1;
  }
}

void Tape::Planner::find_users() {
  for (size_t op = 0; op < operations; ++op) {
    const Uses& uses = tape.steps_[op].uses;
    for (const Value v : uses.outputs) users[v.id].producer = static_cast<int>(op);
    for (const Value v : uses.inputs) users[v.id].consumers.push_back(op);
    for (const Value v : uses.backward_data) users[v.id].backward_readers.push_back(op);
    for (const Value v : uses.unit_data) users[v.id].unit_readers.push_back(op);
    for (const Value v : uses.unit_gradients) users[v.id].unit_gradient_readers.push_back(op);
  }
  for (size_t value = 0; value < users.size(); ++value) {
    if (users[value].producer < 0)
      throw Error({.doing = "planning a tape",
                   .subject = "value " + std::to_string(value),
                   .expected = "an operation that computes it"});
  }
}

void Tape::Planner::share_residual_gradients() {
  for (size_t op = 0; op < operations; ++op) {
    const auto [first, second] = tape.steps_[op].uses.residual;
    if (!first.valid()) continue;
    // Backward meets the sum before any other user of `first`, so one memory can serve both.
    if (users[first.id].consumers.back() != op)
      throw Error({.doing = "planning a tape",
                   .subject = "residual sum of value " + std::to_string(first.id),
                   .expected = "no later use of the value that it adds to"});
    tape.values_[second.id].gradient_of = tape.values_[first.id].gradient_of;
  }
}

bool Tape::Planner::all_in_run_of(size_t operation, const std::vector<size_t>& others) const {
  return std::all_of(others.begin(), others.end(),
                     [&](size_t other) { return run_of(other) == run_of(operation); });
}

size_t Tape::Planner::row_bytes(size_t value, bool gradient) const {
  const ValueInfo& info = tape.values_[value];
  return info.cols * dtype_size(gradient ? info.gradient_dtype : info.dtype);
}

Tape::Location Tape::Planner::full(size_t bytes, size_t first, size_t last) {
  full_intervals.push_back({.bytes = bytes, .first = first, .last = last});
  return {.used = true, .per_chunk = false, .interval = full_intervals.size() - 1};
}

Tape::Location Tape::Planner::chunked(size_t bytes_a_row, size_t first, size_t last) {
  chunked_intervals.push_back(
      {.bytes = align_up(bytes_a_row * kChunkTokens, kAlignment), .first = first, .last = last});
  return {.used = true, .per_chunk = true, .interval = chunked_intervals.size() - 1};
}

void Tape::Planner::place_data(size_t value) {
  const Users& user = users[value];
  ValueInfo& info = tape.values_[value];
  const auto producer = static_cast<size_t>(user.producer);
  const size_t bytes = row_bytes(value, false);
  const bool fused = run(producer).row_wise && all_in_run_of(producer, user.consumers);

  std::vector<size_t> readers = user.backward_readers;
  readers.insert(readers.end(), user.unit_readers.begin(), user.unit_readers.end());
  const bool again = tape.steps_[producer].uses.recompute && run(producer).row_wise &&
                     all_in_run_of(producer, readers);
  if (!readers.empty() && !again) {
    size_t last = 0;
    for (const size_t reader : readers) last = std::max(last, backward_last(reader));
    info.forward_data = info.backward_data =
        full(bytes * tape.tokens_, forward_first(producer), last);
    return;
  }
  const size_t last_consumer = user.consumers.empty() ? producer : user.consumers.back();
  info.forward_data =
      fused ? chunked(bytes, producer, last_consumer)
            : full(bytes * tape.tokens_, forward_first(producer), forward_last(last_consumer));
  if (readers.empty()) return;
  // Computed again at the start of each chunk's backward.
  tape.steps_[producer].recomputed = true;
  const size_t first = backward_first(producer);
  if (!user.unit_readers.empty()) {
    info.backward_data = full(bytes * tape.tokens_, first, backward_last(producer));
  } else {
    const size_t earliest = *std::min_element(readers.begin(), readers.end());
    info.backward_data = chunked(bytes, first, 2 * operations - 1 - earliest);
  }
}

void Tape::Planner::place_gradients() {
  for (size_t root = 0; root < users.size(); ++root) {
    if (tape.values_[root].gradient_of != static_cast<int>(root)) continue;
    std::vector<size_t> touching;
    bool by_units = false;
    for (size_t value = root; value < users.size(); ++value) {
      if (tape.values_[value].gradient_of != static_cast<int>(root)) continue;
      const Users& user = users[value];
      touching.push_back(static_cast<size_t>(user.producer));
      touching.insert(touching.end(), user.consumers.begin(), user.consumers.end());
      by_units |= !user.unit_gradient_readers.empty();
    }
    const auto [earliest, latest] = std::minmax_element(touching.begin(), touching.end());
    const size_t bytes = row_bytes(root, true);
    const bool fused = run(*earliest).row_wise && all_in_run_of(*earliest, touching) && !by_units;
    Location& location = tape.values_[root].gradient;
    location = fused
                   ? chunked(bytes, 2 * operations - 1 - *latest, 2 * operations - 1 - *earliest)
                   : full(bytes * tape.tokens_, backward_first(*latest), backward_last(*earliest));
  }
  for (ValueInfo& info : tape.values_) {
    const ValueInfo& root = tape.values_[info.gradient_of];
    info.gradient = root.gradient;
    info.gradient_dtype = root.gradient_dtype;
  }
}

void Tape::Planner::place_scratches() {
  for (ScratchInfo& scratch : tape.scratches_) {
    const size_t op = scratch.operation;
    const size_t first =
        scratch.lifetime == Lifetime::backward ? backward_first(op) : forward_first(op);
    const size_t last =
        scratch.lifetime == Lifetime::forward ? forward_last(op) : backward_last(op);
    scratch.interval = full(scratch.bytes, first, last).interval;
  }
}

// Gradients lie where their block says. When they are replaced, each is born in the backward of its
// last operation, cleared there, and activations may use its place until then.
void Tape::Planner::place_weight_gradients() {
  const size_t end = 2 * operations - 1;
  if (tape.gradients_ == Gradients::kept)
    full_intervals.push_back(
        {.bytes = tape.gradient_bytes_, .first = 0, .last = end, .fixed = true});
  if (tape.gradients_ != Gradients::replaced) return;
  std::vector<GradientRange> born;
  size_t named = 0;
  for (size_t op = operations; op-- > 0;) {
    for (const GradientRange& range : tape.steps_[op].uses.weights) {
      if (std::find(born.begin(), born.end(), range) != born.end()) continue;  // a tied weight
      born.push_back(range);
      named += align_up(range.size, kAlignment);
      full_intervals.push_back({.bytes = range.size,
                                .first = backward_first(op),
                                .last = end,
                                .offset = range.begin,
                                .fixed = true});
      for (size_t begin = 0; begin < range.size; begin += kClearedAtOnce)
        tape.runs_[run_of(op)].clears.emplace_back(
            op, GradientRange{range.begin + begin, std::min(kClearedAtOnce, range.size - begin)});
    }
  }
  if (named != tape.gradient_bytes_)
    throw Error({.doing = "planning a tape that replaces gradients",
                 .expected = "operations that name the gradients of all weights, " +
                             std::to_string(tape.gradient_bytes_) + " bytes",
                 .found = std::to_string(named)});
}

void Tape::Planner::mark_adding() {
  std::vector<bool> written(users.size(), false);
  for (size_t op = operations; op-- > 0;) {
    Step& step = tape.steps_[op];
    for (const Value v : step.uses.inputs) {
      if (v.id == step.uses.residual.first.id) continue;
      const int root = tape.values_[v.id].gradient_of;
      step.adds.emplace_back(v.id, written[root]);
      written[root] = true;
    }
  }
}

}  // namespace cairn
