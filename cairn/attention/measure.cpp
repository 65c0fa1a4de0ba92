#include "cairn/attention/measure.h"

#include <algorithm>
#include <chrono>

#include "cairn/attention/checks.h"
#include "cairn/base/error.h"
#include "cairn/base/median.h"
#include "cairn/base/memory.h"
#include "cairn/base/random.h"

namespace cairn {
namespace {

// [tokens, heads, dim] of f32 or bf16.
class RandomRows {
 public:
  RandomRows(std::string_view name, size_t tokens, size_t heads, size_t dim, DType dtype)
      : memory_(tokens * heads * dim * dtype_size(dtype)) {
    view_.data = memory_.data();
    view_.dtype = dtype;
    view_.tokens = tokens;
    view_.heads = heads;
    view_.dim = dim;
    view_.token_stride = heads * dim;
    view_.head_stride = dim;
    // A pattern of one prime period: drawing every value would take longer than the measurement.
    constexpr size_t kPeriod = 65521;
    const RandomStream stream(1, name);
    std::vector<float> values(kPeriod);
    for (size_t i = 0; i < kPeriod; ++i) values[i] = static_cast<float>(stream.normal(i));
    for (size_t i = 0; i < tokens * heads * dim; ++i) {
      if (dtype == DType::bf16)
        memory_.as<bf16>()[i] = bf16::from_float(values[i % kPeriod]);
      else
        memory_.as<float>()[i] = values[i % kPeriod];
    }
  }
  const AnyView3& view() const { return view_; }
  AnyView3 tokens(size_t begin, size_t count) const {
    AnyView3 some = view_;
    some.data =
        static_cast<std::byte*>(view_.data) + begin * view_.token_stride * dtype_size(view_.dtype);
    some.tokens = count;
    return some;
  }

 private:
  AlignedBuffer memory_;
  AnyView3 view_;
};

// Parameters as they start, and their gradients, for rooms that have some.
struct RandomParameters {
  explicit RandomParameters(const std::vector<ParameterSpec>& specs) {
    for (const ParameterSpec& spec : specs) {
      const size_t size = element_count(spec.shape);
      const Initializer& start = spec.initializer;
      const RandomStream stream(1, spec.name);
      float* value = buffers.emplace_back(size * sizeof(float)).as<float>().data();
      for (size_t i = 0; i < size; ++i)
        value[i] = static_cast<float>(start.kind == Initializer::Kind::constant
                                          ? start.value
                                          : start.value * stream.normal(i));
      values.emplace_back(value, size);
      gradients.emplace_back(buffers.emplace_back(size * sizeof(float)).as<float>().data(), size);
    }
  }
  std::vector<AlignedBuffer> buffers;
  std::vector<View1<const float>> values;
  std::vector<View1<float>> gradients;
};

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

// What the mechanisms of one measurement share: tokens of their common geometry.
struct Tokens {
  Tokens(const AttentionGeometry& g, bool hidden, size_t tokens, DType dtype)
      : x("x", tokens, 1, hidden ? g.hidden_size : 0, dtype),
        q("q", tokens, g.heads, g.head_dim, dtype),
        k("k", tokens, g.kv_heads, g.head_dim, dtype),
        v("v", tokens, g.kv_heads, g.value_dim, dtype),
        out("out", tokens, g.heads, g.value_dim, dtype) {}

  AttentionInputs inputs(size_t begin, size_t count, const RandomParameters& parameters) const {
    const AnyView3 rows = x.tokens(begin, count);
    return {{rows.data, rows.dtype, count, rows.dim, rows.dim},
            q.tokens(begin, count),
            k.tokens(begin, count),
            v.tokens(begin, count),
            parameters.values};
  }
  size_t count() const { return q.view().tokens; }

  RandomRows x, q, k, v, out;
};

// What training needs beyond: gradients and the layout.
struct TrainingTokens {
  TrainingTokens(const AttentionGeometry& g, bool hidden, const AttentionWorkload& w)
      : tokens(g, hidden, w.sequences * w.tokens, w.dtype),
        dout("dout", tokens.count(), g.heads, g.value_dim, w.dtype),
        dq("dq", tokens.count(), g.heads, g.head_dim, w.dtype),
        dk("dk", tokens.count(), g.kv_heads, g.head_dim, w.dtype),
        dv("dv", tokens.count(), g.kv_heads, g.value_dim, w.dtype),
        dx(hidden ? tokens.count() * g.hidden_size * sizeof(float) : 0),
        dx_view(dx.as<float>().data(), hidden ? tokens.count() : 0, g.hidden_size) {
    for (size_t i = 0; i <= w.sequences; ++i) offsets.push_back(static_cast<int32_t>(i * w.tokens));
    for (size_t i = 0; i < tokens.count(); ++i)
      positions.push_back(static_cast<int32_t>(i % w.tokens));
  }
  TokenLayout layout(AttentionMask mask) const {
    const View1<const int32_t> own(offsets.data(), offsets.size());
    return {own,
            {positions.data(), positions.size()},
            mask == AttentionMask::cross ? own : View1<const int32_t>()};
  }

  Tokens tokens;
  RandomRows dout, dq, dk, dv;
  AlignedBuffer dx;
  View2<float> dx_view;
  std::vector<int32_t> offsets, positions;
};

// One mechanism at one workload: a sample at a time.
class Trial {
 public:
  virtual ~Trial() = default;
  virtual void sample(ThreadTeam& team) = 0;
  void forget_samples() { forward_.clear(), backward_.clear(), both_.clear(); }
  virtual AttentionTiming timing() const = 0;

 protected:
  std::vector<double> forward_, backward_, both_;
};

class TrainingTrial : public Trial {
 public:
  TrainingTrial(const AttentionMechanism& attention, const TrainingTokens& training,
                const AttentionWorkload& workload, int threads)
      : attention_(attention),
        training_(training),
        workload_(workload),
        layout_(training.layout(attention.mask())),
        parameters_(attention.parameters()) {
    const AttentionMemory memory =
        attention.memory(training.tokens.count(), workload.tokens, workload.dtype, threads);
    saved_ = AlignedBuffer(memory.saved);
    workspace_ = AlignedBuffer(memory.workspace);
  }

  void sample(ThreadTeam& team) override {
    const Tokens& tokens = training_.tokens;
    const std::span<std::byte> saved(saved_.data(), saved_.size());
    const std::span<std::byte> workspace(workspace_.data(), workspace_.size());
    const AttentionInputs inputs = tokens.inputs(0, tokens.count(), parameters_);
    const AttentionGradients gradients{training_.dx_view, training_.dq.view(), training_.dk.view(),
                                       training_.dv.view(), parameters_.gradients};
    const double start = now();
    attention_.forward(inputs, layout_, tokens.out.view(), saved, workspace, team);
    const double middle = now();
    attention_.backward(inputs, layout_, tokens.out.view(), training_.dout.view(), saved, gradients,
                        workspace, team);
    const double end = now();
    forward_.push_back(middle - start);
    backward_.push_back(end - middle);
    both_.push_back(end - start);
  }

  AttentionTiming timing() const override {
    const auto length = static_cast<double>(workload_.tokens);
    const double context = attention_.mask() == AttentionMask::causal ? (length + 1) / 2 : length;
    const double gflop =
        1e-9 * static_cast<double>(training_.tokens.count()) * attention_.forward_flops(context);
    AttentionTiming timing;
    timing.forward_seconds = median(forward_);
    timing.backward_seconds = median(backward_);
    timing.both_seconds = median(both_);
    timing.forward_gflops = gflop / timing.forward_seconds;
    timing.backward_gflops = 2.5 * gflop / timing.backward_seconds;
    timing.both_gflops = 3.5 * gflop / timing.both_seconds;
    timing.saved_bytes = saved_.size();
    timing.workspace_bytes = workspace_.size();
    timing.statistics = attention_.statistics(layout_, {saved_.data(), saved_.size()});
    return timing;
  }

 private:
  const AttentionMechanism& attention_;
  const TrainingTokens& training_;
  const AttentionWorkload& workload_;
  TokenLayout layout_;
  RandomParameters parameters_;
  AlignedBuffer saved_, workspace_;
};

// A cache that is fed; for decode it is filled first.
class CacheTrial : public Trial {
 public:
  CacheTrial(const AttentionMechanism& attention, const Tokens& tokens,
             const AttentionWorkload& workload)
      : attention_(attention),
        tokens_(tokens),
        workload_(workload),
        parameters_(attention.parameters()),
        cache_(attention.make_cache(tokens.count(), workload.dtype)) {}

  void sample(ThreadTeam& team) override {
    const bool decode = workload_.phase == AttentionPhase::decode;
    if (decode && cache_->length() == 0) append(workload_.tokens, workload_.tokens, team);
    if (!decode) cache_->truncate(0);
    const double start = now();
    if (decode)
      append(kDecodeSteps, 1, team);
    else
      append(workload_.tokens, workload_.chunk == 0 ? workload_.tokens : workload_.chunk, team);
    const double seconds = now() - start;
    forward_.push_back(decode ? seconds / kDecodeSteps : seconds);
  }

  AttentionTiming timing() const override {
    const auto tokens = static_cast<double>(workload_.tokens);
    const bool decode = workload_.phase == AttentionPhase::decode;
    const double flops = decode ? attention_.forward_flops(tokens)
                                : tokens * attention_.forward_flops((tokens + 1) / 2);
    AttentionTiming timing;
    timing.forward_seconds = timing.both_seconds = median(forward_);
    timing.forward_gflops = timing.both_gflops = 1e-9 * flops / timing.forward_seconds;
    timing.cache_bytes = cache_->bytes();
    timing.statistics = cache_->statistics();
    return timing;
  }

 private:
  // The next `count` tokens, `step` in a call.
  void append(size_t count, size_t step, ThreadTeam& team) {
    for (const size_t end = cache_->length() + count; cache_->length() < end;) {
      const size_t begin = cache_->length(), some = std::min(step, end - begin);
      cache_->append_and_attend(tokens_.inputs(begin, some, parameters_),
                                tokens_.out.tokens(begin, some), team);
    }
  }

  const AttentionMechanism& attention_;
  const Tokens& tokens_;
  const AttentionWorkload& workload_;
  RandomParameters parameters_;
  std::unique_ptr<AttentionCache> cache_;
};

using Trials = std::vector<std::unique_ptr<Trial>>;

std::vector<AttentionTiming> run(const Trials& trials, int repetitions, ThreadTeam& team) {
  for (const auto& trial : trials) {
    trial->sample(team);
    trial->forget_samples();
  }
  for (int i = 0; i < repetitions; ++i)
    for (const auto& trial : trials) trial->sample(team);
  std::vector<AttentionTiming> timings;
  for (const auto& trial : trials) timings.push_back(trial->timing());
  return timings;
}

void check_positive(const char* subject, int64_t value) {
  if (value >= 1) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "measuring attention",
               .subject = subject,
               .expected = "at least 1",
               .found = std::to_string(value)});
}

}  // namespace

std::vector<AttentionTiming> measure_attention(
    std::span<const AttentionMechanism* const> mechanisms, const AttentionWorkload& workload,
    ThreadTeam& team) {
  check_positive("repetitions", workload.repetitions);
  check_positive("tokens", static_cast<int64_t>(workload.tokens));
  check_positive("mechanisms", static_cast<int64_t>(mechanisms.size()));
  const AttentionGeometry& g = mechanisms.front()->geometry();
  const bool hidden = std::any_of(mechanisms.begin(), mechanisms.end(),
                                  [](const auto* m) { return m->uses_hidden_state(); });
  Trials trials;
  if (workload.phase == AttentionPhase::train) {
    const TrainingTokens training(g, hidden, workload);
    for (const AttentionMechanism* m : mechanisms)
      trials.push_back(std::make_unique<TrainingTrial>(*m, training, workload, team.size()));
    return run(trials, workload.repetitions, team);
  }
  const size_t steps = workload.phase == AttentionPhase::decode
                           ? kDecodeSteps * (static_cast<size_t>(workload.repetitions) + 1)
                           : 0;
  const Tokens tokens(g, hidden, workload.tokens + steps, DType::f32);
  for (const AttentionMechanism* m : mechanisms) {
    check_causal("measuring an attention cache", *m);
    trials.push_back(std::make_unique<CacheTrial>(*m, tokens, workload));
  }
  return run(trials, workload.repetitions, team);
}

}  // namespace cairn
