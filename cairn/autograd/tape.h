// The tape: a program of differentiable operations over [tokens, cols] values, recorded once for a
// number of tokens, planned, then run forward and backward as often as wanted without allocating.
//
// Operations that treat each token by itself (norms, products, activations) are row-wise; the tape
// fuses neighbours into runs and takes each chunk of kChunkTokens tokens through the whole run
// while it is in cache. Only then are the run's gradient units computed: sums over all tokens, such
// as the gradient of a weight, cut into tiles. Attention and the loss are runs of their own.
//
// Memory: a value that lives inside one run exists only as a chunk a thread. A value that backward
// reads is kept, unless its operation is cheap and says `recompute`. Everything else shares memory
// as its lifetime allows, so the exact need is known before anything is allocated. Weights are
// packed for the products of a run just before it and into memory that all runs share: from a
// thousand tokens on that costs under a hundredth of the products, and no copy can be out of date.
//
// Not thread-safe; uses the team it is given. Results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/base/thread_team.h"
#include "cairn/tensor/view.h"

namespace cairn {

// A value of the tape: [tokens, cols], by number.
struct Value {
  int32_t id = -1;
  bool valid() const { return id >= 0; }
};

// Memory of an operation's own, by number.
struct Scratch {
  int32_t id = -1;
};

// The tokens [begin, begin + count) that a call works on, and the thread it runs on.
struct Rows {
  size_t begin = 0;
  size_t count = 0;
  int thread = 0;
  size_t chunk() const;  // number of the chunk that starts at `begin`
};

enum class Lifetime {
  saved,     // from the operation's forward to its backward
  forward,   // during the forward of the operation's run
  backward,  // during the backward of the operation's run, gradient units included
};

class Tape;

// Part of the block that holds the gradients of all weights, in bytes.
struct GradientRange {
  size_t begin = 0, size = 0;
  bool operator==(const GradientRange&) const = default;
};

// What an operation reads and writes, from which the tape plans.
struct Uses {
  std::vector<Value> inputs;   // data read by forward; their gradients are written by backward
  std::vector<Value> outputs;  // data written by forward; their gradients are read by backward
  std::vector<Value> backward_data;   // data read by backward
  std::vector<Value> unit_data;       // data read by gradient units
  std::vector<Value> unit_gradients;  // gradients of values read by gradient units
  bool recompute = false;             // outputs may be computed again in backward instead of kept
  // second = first + something: the two share one gradient, which passes through untouched.
  std::pair<Value, Value> residual;
  std::vector<GradientRange> weights;  // gradients that backward adds to, in tapes that keep them
};

class Operation {
 public:
  virtual ~Operation() = default;
  // What timings are listed under ("linear") and what messages say ("layer 3 attention").
  virtual std::string_view kind() const = 0;
  virtual Uses uses() const = 0;
  virtual bool row_wise() const { return true; }
  // Called once after planning: the time to look up what cannot change any more.
  virtual void planned(const Tape&) {}

  // Row-wise operations: disjoint rows may be worked on at once.
  virtual void forward(Tape&, const Rows&) {}
  virtual void backward(Tape&, const Rows&) {}
  // Others take the whole team.
  virtual void forward_all(Tape&, ThreadTeam&) {}
  virtual void backward_all(Tape&, ThreadTeam&) {}
  // After backward of all rows: independent pieces, each run once by one thread.
  virtual size_t gradient_units() const { return 0; }
  virtual void gradient_unit(Tape&, size_t /*unit*/, int /*thread*/) {}
  // Before the rows of each pass, forward or backward (Tape::in_backward): copies of weights in the
  // form that the pass's products want, in independent pieces.
  virtual size_t packing_units() const { return 0; }
  virtual void pack_unit(Tape&, size_t /*unit*/, int /*thread*/) {}

  std::string label;  // where in the model it stands: "layer 3"
};

class Tape {
 public:
  static constexpr size_t kChunkTokens = 128;

  // For `tokens` tokens on a team of `threads`.
  Tape(size_t tokens, int threads) : tokens_(tokens), active_(tokens), threads_(threads) {}

  // What the tape does with the block of gradients of weights. When each step is one pass, they
  // need no memory before the first of their operations' backward, and activations no memory after
  // it.
  enum class Gradients {
    elsewhere,  // the operations point to memory outside
    kept,       // the first bytes of the tape's memory: every backward adds to them
    replaced,   // likewise, but they share memory with activations and each backward starts anew
  };

  // ---- recording ----
  Value value(size_t cols, DType dtype) { return value(cols, dtype, dtype); }
  Value value(size_t cols, DType dtype, DType gradient_dtype);
  Scratch scratch(size_t bytes, Lifetime lifetime);  // belongs to the next operation recorded
  void record(std::unique_ptr<Operation> operation);
  // Decides where everything lives. No recording after this. `gradient_bytes`: of the block that
  // operations name in Uses::weights, unless it is elsewhere.
  void plan(Gradients gradients = Gradients::elsewhere, size_t gradient_bytes = 0);
  // Bytes that the tape needs, the gradients that it keeps included.
  size_t bytes() const;
  void allocate() { allocate(AlignedBuffer(bytes())); }
  void allocate(AlignedBuffer memory) { memory_ = std::move(memory); }  // zeroed, of bytes()

  // ---- running ----
  enum class Mode { training, evaluation };
  // In training the loss operation leaves its work to backward, which does both at once.
  void forward(ThreadTeam& team, Mode mode);
  void backward(ThreadTeam& team);
  // Tokens that runs work on from now on: at most tokens(). Training needs all.
  void set_active_tokens(size_t tokens) { active_ = tokens; }
  // Runs forward again and returns the label and kind of the first operation with an output that is
  // not finite; empty if there is none.
  std::string first_non_finite(ThreadTeam& team);

  // ---- for operations ----
  size_t tokens() const { return tokens_; }
  size_t active_tokens() const { return active_; }
  int threads() const { return threads_; }
  Mode mode() const { return mode_; }
  bool in_backward() const { return in_backward_; }
  size_t chunks() const { return chunk_count(tokens_, kChunkTokens); }
  // The rows of a value's data or gradient. With `rows` of a chunk this works for every value;
  // whole values (all_*) only for those kept in full.
  AnyView2 data(Value value, const Rows& rows) const;
  AnyView2 gradient(Value value, const Rows& rows) const;
  AnyView2 all_data(Value value) const;
  AnyView2 all_gradient(Value value) const;
  std::span<std::byte> memory(Scratch scratch) const;
  size_t cols(Value value) const { return values_[value.id].cols; }
  DType dtype(Value value) const { return values_[value.id].dtype; }
  DType gradient_dtype(Value value) const { return values_[value.id].gradient_dtype; }
  // Whether `operation` must add to the gradient of `value` instead of overwriting it.
  bool adds_gradient(const Operation& operation, Value value) const;

  // Seconds by kind since the last call, summing to the wall time spent in forward and backward.
  std::vector<std::pair<std::string, double>> take_timings();

 private:
  struct Location {
    bool used = false;
    bool per_chunk = false;  // one chunk a thread instead of all tokens
    size_t interval = 0;     // index into full_ or chunked_
  };
  struct ValueInfo {
    size_t cols = 0;
    DType dtype = DType::f32;
    DType gradient_dtype = DType::f32;
    int gradient_of = -1;  // the value whose gradient memory this one shares (its own id at first)
    Location forward_data, backward_data, gradient;
  };
  struct ScratchInfo {
    size_t bytes = 0;
    Lifetime lifetime = Lifetime::saved;
    size_t operation = 0;
    size_t interval = 0;
  };
  struct Step {
    std::unique_ptr<Operation> operation;
    Uses uses;
    size_t run = 0;
    bool recomputed = false;                 // forward is run again in backward
    std::vector<std::pair<int, bool>> adds;  // value id, whether its gradient is added to
    double packing_seconds = 0, forward_seconds = 0, backward_seconds = 0, unit_seconds = 0;
  };
  struct Run {
    size_t first = 0, count = 0;
    bool row_wise = true;
    // What happens before its rows and after them: operation, unit.
    std::vector<std::pair<size_t, size_t>> packing, gradients;
    // Of gradients that are replaced: what to set to zero first. Operation, range.
    std::vector<std::pair<size_t, GradientRange>> clears;
  };
  struct Planner;
  friend struct Planner;

  AnyView2 view(const Location& location, size_t cols, DType dtype, const Rows& rows) const;
  void forward_run(const Run& run, ThreadTeam& team);
  void backward_run(const Run& run, ThreadTeam& team);
  void pack_weights(const Run& run, ThreadTeam& team);
  void clear_gradients(const Run& run, ThreadTeam& team);
  void gradient_units(const Run& run, ThreadTeam& team);
  void forward_rows(Step& step, const Rows& rows);
  void check_outputs(const Step& step, const Rows& rows);
  template <class Work>
  void timed_region(const Run& run, double Step::*seconds, ThreadTeam& team, size_t chunks,
                    const Work& work);

  size_t tokens_;
  size_t active_;
  int threads_;
  Gradients gradients_ = Gradients::elsewhere;
  size_t gradient_bytes_ = 0;
  Mode mode_ = Mode::training;
  bool in_backward_ = false;
  bool checking_ = false;
  std::string found_;  // by check_outputs
  std::vector<ValueInfo> values_;
  std::vector<ScratchInfo> scratches_;
  std::vector<Step> steps_;
  std::vector<Run> runs_;
  size_t full_bytes_ = 0;
  size_t chunked_bytes_ = 0;  // a thread
  std::vector<size_t> full_offsets_, chunked_offsets_;
  std::vector<std::vector<double>> thread_seconds_;  // [thread][step], within the current region
  AlignedBuffer memory_;
};

}  // namespace cairn
