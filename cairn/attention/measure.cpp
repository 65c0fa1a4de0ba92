#include "cairn/attention/measure.h"

#include <algorithm>
#include <chrono>

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

 private:
  AlignedBuffer memory_;
  AnyView3 view_;
};

// Parameters and their gradients, for rooms that have some.
struct RandomParameters {
  explicit RandomParameters(const std::vector<ParameterSpec>& specs) {
    for (const ParameterSpec& spec : specs) {
      const size_t size = element_count(spec.shape);
      const RandomStream stream(1, spec.name);
      float* value = buffers.emplace_back(size * sizeof(float)).as<float>().data();
      for (size_t i = 0; i < size; ++i) value[i] = 0.02F * static_cast<float>(stream.normal(i));
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

std::vector<int32_t> sequence_offsets(size_t sequences, size_t tokens) {
  std::vector<int32_t> offsets;
  for (size_t i = 0; i <= sequences; ++i) offsets.push_back(static_cast<int32_t>(i * tokens));
  return offsets;
}

}  // namespace

AttentionTiming measure_attention(const AttentionMechanism& attention, size_t sequences,
                                  size_t tokens, DType dtype, ThreadTeam& team, int repetitions) {
  if (repetitions < 1)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring attention",
                 .subject = "repetitions",
                 .expected = "at least 1",
                 .found = std::to_string(repetitions)});
  const AttentionGeometry& g = attention.geometry();
  const size_t total = sequences * tokens;
  const RandomRows x("x", total, 1, attention.uses_hidden_state() ? g.hidden_size : 0, dtype);
  const RandomRows q("q", total, g.heads, g.head_dim, dtype);
  const RandomRows k("k", total, g.kv_heads, g.head_dim, dtype);
  const RandomRows v("v", total, g.kv_heads, g.value_dim, dtype);
  const RandomRows out("out", total, g.heads, g.value_dim, dtype);
  const RandomRows dout("dout", total, g.heads, g.value_dim, dtype);
  const RandomRows dq("dq", total, g.heads, g.head_dim, dtype);
  const RandomRows dk("dk", total, g.kv_heads, g.head_dim, dtype);
  const RandomRows dv("dv", total, g.kv_heads, g.value_dim, dtype);

  const RandomParameters parameters(attention.parameters());
  AlignedBuffer dx(attention.uses_hidden_state() ? total * g.hidden_size * sizeof(float) : 0);

  const std::vector<int32_t> offsets = sequence_offsets(sequences, tokens);
  std::vector<int32_t> positions(total);
  for (size_t i = 0; i < total; ++i) positions[i] = static_cast<int32_t>(i % tokens);
  const TokenLayout layout{{offsets.data(), offsets.size()}, {positions.data(), total}};
  const AttentionMemory memory = attention.memory(total, tokens, dtype, team.size());
  AlignedBuffer saved(memory.saved), workspace(memory.workspace);
  const std::span<std::byte> saved_span(saved.data(), saved.size());
  const std::span<std::byte> workspace_span(workspace.data(), workspace.size());

  const AttentionInputs inputs{{x.view().data, dtype, total, x.view().dim, x.view().dim},
                               q.view(),
                               k.view(),
                               v.view(),
                               parameters.values};
  const AttentionGradients gradients{
      {dx.as<float>().data(), dx.size() == 0 ? 0 : total, g.hidden_size},
      dq.view(),
      dk.view(),
      dv.view(),
      parameters.gradients};
  std::vector<double> forward, backward, both;
  for (int i = -1; i < repetitions; ++i) {
    const double start = now();
    attention.forward(inputs, layout, out.view(), saved_span, workspace_span, team);
    const double middle = now();
    attention.backward(inputs, layout, out.view(), dout.view(), saved_span, gradients,
                       workspace_span, team);
    const double end = now();
    if (i < 0) continue;
    forward.push_back(middle - start);
    backward.push_back(end - middle);
    both.push_back(end - start);
  }

  const double context = (static_cast<double>(tokens) + 1) / 2;
  const double gflop = 1e-9 * static_cast<double>(total) * attention.forward_flops(context);
  AttentionTiming timing;
  timing.forward_seconds = median(forward);
  timing.backward_seconds = median(backward);
  timing.both_seconds = median(both);
  timing.forward_gflops = gflop / timing.forward_seconds;
  timing.backward_gflops = 2.5 * gflop / timing.backward_seconds;
  timing.both_gflops = 3.5 * gflop / timing.both_seconds;
  timing.saved_bytes = memory.saved;
  timing.workspace_bytes = memory.workspace;
  timing.statistics = attention.statistics(layout, saved_span);
  return timing;
}

}  // namespace cairn
