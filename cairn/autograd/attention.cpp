// The generic attention node: hands views of the projected queries, keys and values to a mechanism
// that it knows by its contract alone.
#include <cstring>

#include "cairn/autograd/operations.h"

namespace cairn {
namespace {

class Attention final : public Operation {
 public:
  Attention(const AttentionMechanism& mechanism, const TokenInputs& inputs, Value qkv, Value x,
            Value out, const std::vector<WeightRef>& parameters)
      : mechanism_(mechanism), inputs_(inputs), qkv_(qkv), x_(x), out_(out) {
    for (const WeightRef& parameter : parameters) {
      const size_t size = parameter.values.rows * parameter.values.cols;
      parameters_.emplace_back(View1<float>(parameter.values.data, size));
      parameter_gradients_.emplace_back(parameter.gradient.data, size);
      blocks_.push_back(parameter.block);
    }
  }

  void place_scratch(Tape& tape, DType dtype, size_t longest) {
    const AttentionMemory need = mechanism_.memory(tape.tokens(), longest, dtype, tape.threads());
    saved_ = tape.scratch(need.saved, Lifetime::saved);
    forward_space_ = tape.scratch(need.workspace, Lifetime::forward);
    backward_space_ = tape.scratch(need.workspace, Lifetime::backward);
  }

  std::string_view kind() const override { return "attention"; }
  bool row_wise() const override { return false; }
  Uses uses() const override {
    Uses uses{
        .inputs = {qkv_}, .outputs = {out_}, .backward_data = {qkv_, out_}, .weights = blocks_};
    if (x_.valid()) {
      uses.inputs.push_back(x_);
      uses.backward_data.push_back(x_);
    }
    return uses;
  }

  void planned(const Tape& tape) override {
    adds_to_x_ = x_.valid() && tape.adds_gradient(*this, x_);
  }

  void forward_all(Tape& tape, ThreadTeam& team) override {
    const AttentionInputs read = views(tape, tape.all_data(qkv_));
    mechanism_.forward(
        read, inputs_.layout,
        heads(tape.all_data(out_), 0, mechanism_.geometry().heads, mechanism_.geometry().value_dim),
        tape.memory(saved_), tape.memory(forward_space_), team);
    if (inputs_.observer) inputs_.observer({mechanism_, read, inputs_.layout, tape.memory(saved_)});
  }

  void backward_all(Tape& tape, ThreadTeam& team) override {
    const AttentionGeometry& g = mechanism_.geometry();
    const AttentionInputs gradients = views(tape, tape.all_gradient(qkv_));
    if (x_.valid() && !adds_to_x_) {
      const AnyView2 dx = tape.all_gradient(x_);
      std::memset(dx.data, 0, dx.rows * dx.stride * sizeof(float));
    }
    const AttentionGradients result{
        .dx = x_.valid() ? tape.all_gradient(x_).as<float>() : View2<float>(),
        .dq = gradients.q,
        .dk = gradients.k,
        .dv = gradients.v,
        .parameters = parameter_gradients_};
    mechanism_.backward(views(tape, tape.all_data(qkv_)), inputs_.layout,
                        heads(tape.all_data(out_), 0, g.heads, g.value_dim),
                        heads(tape.all_gradient(out_), 0, g.heads, g.value_dim),
                        tape.memory(saved_), result, tape.memory(backward_space_), team);
  }

 private:
  static AnyView3 heads(const AnyView2& view, size_t first_column, size_t count, size_t dim) {
    AnyView3 result;
    result.data = static_cast<std::byte*>(view.data) + first_column * dtype_size(view.dtype);
    result.dtype = view.dtype;
    result.tokens = view.rows;
    result.heads = count;
    result.dim = dim;
    result.token_stride = view.stride;
    result.head_stride = dim;
    return result;
  }

  AttentionInputs views(Tape& tape, const AnyView2& qkv) const {
    const AttentionGeometry& g = mechanism_.geometry();
    const size_t q_width = g.heads * g.head_dim, k_width = g.kv_heads * g.head_dim;
    return {.x = x_.valid() ? tape.all_data(x_) : AnyView2(),
            .q = heads(qkv, 0, g.heads, g.head_dim),
            .k = heads(qkv, q_width, g.kv_heads, g.head_dim),
            .v = heads(qkv, q_width + k_width, g.kv_heads, g.value_dim),
            .parameters = parameters_};
  }

  const AttentionMechanism& mechanism_;
  const TokenInputs& inputs_;
  Value qkv_, x_, out_;
  bool adds_to_x_ = false;
  std::vector<View1<const float>> parameters_;
  std::vector<View1<float>> parameter_gradients_;
  std::vector<GradientRange> blocks_;
  Scratch saved_, forward_space_, backward_space_;
};

}  // namespace

Value attention(Recorder& recorder, const AttentionMechanism& mechanism, const TokenInputs& inputs,
                Value qkv, Value x, const std::vector<WeightRef>& parameters) {
  Tape& tape = recorder.tape;
  const AttentionGeometry& g = mechanism.geometry();
  const Value out = tape.value(g.heads * g.value_dim, recorder.compute);
  if (!mechanism.uses_hidden_state()) x = {};
  auto operation = std::make_unique<Attention>(mechanism, inputs, qkv, x, out, parameters);
  operation->place_scratch(tape, recorder.compute, recorder.longest_sequence);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
