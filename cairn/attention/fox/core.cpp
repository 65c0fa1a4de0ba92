#include "cairn/attention/fox/core.h"

#include "cairn/attention/arena.h"
#include "cairn/attention/checks.h"
#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// Visits the tokens of each sequence, from its first on, or from its last back.
template <class Begin, class Visit>
void along_sequences(View1<const int32_t> offsets, bool back, Begin begin, Visit visit) {
  for (size_t s = 0; s + 1 < offsets.size; ++s) {
    const auto first = static_cast<size_t>(offsets[s]), end = static_cast<size_t>(offsets[s + 1]);
    begin();
    for (size_t i = first; i < end; ++i) visit(back ? first + end - 1 - i : i);
  }
}

// sums[t] of values[t] from the start of its sequence on, times `scale`.
template <class Value>
void cumulate(View1<const int32_t> offsets, double scale, Value value, double* sums) {
  double sum = 0;
  along_sequences(
      offsets, false, [&] { sum = 0; },
      [&](size_t t) {
        sum += static_cast<double>(value(t));
        sums[t] = scale * sum;
      });
}

// The transpose of it: from the end of the sequence on.
template <class Store>
void cumulate_back(View1<const int32_t> offsets, double scale, const double* values, Store store) {
  double sum = 0;
  along_sequences(
      offsets, true, [&] { sum = 0; },
      [&](size_t t) {
        sum += values[t];
        store(t, scale * sum);
      });
}

void check_gates(std::string_view doing, const FoxCore& core, const TokenLayout& layout,
                 size_t tokens, View2<const float> log_forget) {
  check_offsets(doing, layout.offsets, tokens);
  check_shape(doing, "log_forget", {tokens, core.softmax.geometry.heads},
              {log_forget.rows, log_forget.cols});
}

}  // namespace

void fox_potentials(double gate_scale, View2<const float> log_forget, View1<const int32_t> offsets,
                    double* potentials) {
  for (size_t head = 0; head < log_forget.cols; ++head)
    cumulate(
        offsets, gate_scale, [&](size_t t) { return log_forget[t][head]; },
        potentials + head * log_forget.rows);
}

std::vector<double> fox_reference_potentials(double gate_scale, std::span<const double> log_forget,
                                             size_t heads, View1<const int32_t> offsets) {
  const size_t tokens = log_forget.size() / heads;
  std::vector<double> potentials(log_forget.size());
  for (size_t head = 0; head < heads; ++head)
    cumulate(
        offsets, gate_scale, [&](size_t t) { return log_forget[t * heads + head]; },
        potentials.data() + head * tokens);
  return potentials;
}

AttentionMemory fox_memory(const FoxCore& core, size_t tokens, DType dtype, int threads) {
  Arena arena;
  arena.take<double>(2 * core.softmax.geometry.heads * tokens);
  AttentionMemory memory = softmax_memory(core.softmax, tokens, dtype, threads);
  memory.workspace += arena.used();
  return memory;
}

void fox_forward(std::string_view doing, const FoxCore& core, const AttentionInputs& inputs,
                 View2<const float> log_forget, const TokenLayout& layout, AnyView3 out,
                 std::span<std::byte> saved, std::span<std::byte> workspace, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, heads = core.softmax.geometry.heads;
  check_gates(doing, core, layout, tokens, log_forget);
  check_bytes(doing, "workspace", fox_memory(core, tokens, inputs.q.dtype, team.size()).workspace,
              workspace.size());
  Arena arena(workspace);
  auto* potentials = arena.take<double>(2 * heads * tokens);
  fox_potentials(core.gate_scale, log_forget, layout.offsets, potentials);
  softmax_forward(doing, core.softmax, inputs, potentials, layout, out, saved,
                  workspace.subspan(arena.used()), team);
}

void fox_backward(std::string_view doing, const FoxCore& core, const AttentionInputs& inputs,
                  View2<const float> log_forget, const TokenLayout& layout, AnyView3 out,
                  AnyView3 dout, std::span<const std::byte> saved,
                  const AttentionGradients& gradients, View2<float> dlog_forget,
                  std::span<std::byte> workspace, ThreadTeam& team) {
  const size_t tokens = inputs.q.tokens, heads = core.softmax.geometry.heads;
  check_gates(doing, core, layout, tokens, log_forget);
  check_shape(doing, "dlog_forget", {tokens, heads}, {dlog_forget.rows, dlog_forget.cols});
  check_bytes(doing, "workspace", fox_memory(core, tokens, inputs.q.dtype, team.size()).workspace,
              workspace.size());
  Arena arena(workspace);
  auto* potentials = arena.take<double>(2 * heads * tokens);
  double* dpotentials = potentials + heads * tokens;
  fox_potentials(core.gate_scale, log_forget, layout.offsets, potentials);
  softmax_backward(doing, core.softmax, inputs, potentials, layout, out, dout, saved, gradients,
                   dpotentials, workspace.subspan(arena.used()), team);
  for (size_t head = 0; head < heads; ++head)
    cumulate_back(layout.offsets, core.gate_scale, dpotentials + head * tokens,
                  [&](size_t t, double sum) { dlog_forget[t][head] = static_cast<float>(sum); });
}

std::vector<double> fox_reference_forward(const FoxCore& core,
                                          const AttentionMechanism::Reference& inputs,
                                          std::span<const double> log_forget,
                                          const TokenLayout& layout) {
  const auto potentials = fox_reference_potentials(core.gate_scale, log_forget,
                                                   core.softmax.geometry.heads, layout.offsets);
  return softmax_reference_forward(core.softmax, inputs, potentials.data(), layout);
}

AttentionMechanism::Reference fox_reference_backward(const FoxCore& core,
                                                     const AttentionMechanism::Reference& inputs,
                                                     std::span<const double> log_forget,
                                                     const TokenLayout& layout,
                                                     std::span<const double> dout,
                                                     std::span<double> dlog_forget) {
  const size_t heads = core.softmax.geometry.heads, tokens = log_forget.size() / heads;
  const auto potentials =
      fox_reference_potentials(core.gate_scale, log_forget, heads, layout.offsets);
  std::vector<double> dpotentials(potentials.size());
  auto gradients = softmax_reference_backward(core.softmax, inputs, potentials.data(), layout, dout,
                                              dpotentials.data());
  for (size_t head = 0; head < heads; ++head)
    cumulate_back(layout.offsets, core.gate_scale, dpotentials.data() + head * tokens,
                  [&](size_t t, double sum) { dlog_forget[t * heads + head] = sum; });
  return gradients;
}

}  // namespace cairn
