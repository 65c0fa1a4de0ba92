// The generic attention node: hands views of the projected queries, keys and values to a mechanism
// that it knows by its contract alone.
#include <cstring>

#include "cairn/autograd/operations.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

// What a node reads. Queries are the first columns of q; keys and values, side by side, are the
// last of kv, which may be the same value.
struct Streams {
  const TokenInputs& inputs;
  const TokenInputs* source = nullptr;  // of cross-attention
  Value q, kv;
  Value x;  // may be none

  bool apart() const { return source != nullptr; }
  TokenLayout layout() const {
    TokenLayout layout = inputs.layout;
    if (apart()) layout.key_offsets = source->layout.offsets;
    return layout;
  }
};

class Attention final : public Operation {
 public:
  Attention(const AttentionMechanism& mechanism, const Streams& streams, Value out,
            const std::vector<WeightRef>& parameters)
      : mechanism_(mechanism), streams_(streams), out_(out) {
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
    std::vector<Value> read{streams_.q};
    if (streams_.apart()) read.push_back(streams_.kv);
    if (streams_.x.valid()) read.push_back(streams_.x);
    Uses uses{.inputs = read, .outputs = {out_}, .backward_data = read, .weights = blocks_};
    uses.backward_data.push_back(out_);
    return uses;
  }

  void planned(const Tape& tape) override {
    adds_to_x_ = streams_.x.valid() && tape.adds_gradient(*this, streams_.x);
  }

  void forward_all(Tape& tape, ThreadTeam& team) override {
    const AttentionInputs read = data(tape);
    const TokenLayout layout = streams_.layout();
    mechanism_.forward(
        read, layout,
        heads(tape.all_data(out_), 0, mechanism_.geometry().heads, mechanism_.geometry().value_dim),
        tape.memory(saved_), tape.memory(forward_space_), team);
    const AttentionObserver& observer = streams_.inputs.observer;
    if (observer) observer({mechanism_, read, layout, tape.memory(saved_)});
  }

  void backward_all(Tape& tape, ThreadTeam& team) override {
    const AttentionGeometry& g = mechanism_.geometry();
    const AttentionInputs gradients =
        views(tape, tape.all_gradient(streams_.q), tape.all_gradient(streams_.kv));
    if (streams_.x.valid() && !adds_to_x_) {
      const AnyView2 dx = tape.all_gradient(streams_.x);
      std::memset(dx.data, 0, dx.rows * dx.stride * sizeof(float));
    }
    const AttentionGradients result{
        .dx = streams_.x.valid() ? tape.all_gradient(streams_.x).as<float>() : View2<float>(),
        .dq = gradients.q,
        .dk = gradients.k,
        .dv = gradients.v,
        .parameters = parameter_gradients_};
    mechanism_.backward(data(tape), streams_.layout(),
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

  AttentionInputs views(Tape& tape, const AnyView2& q, const AnyView2& kv) const {
    const AttentionGeometry& g = mechanism_.geometry();
    const size_t k_begin = streams_.apart() ? 0 : g.heads * g.head_dim;
    return {.x = streams_.x.valid() ? tape.all_data(streams_.x) : AnyView2(),
            .q = heads(q, 0, g.heads, g.head_dim),
            .k = heads(kv, k_begin, g.kv_heads, g.head_dim),
            .v = heads(kv, k_begin + g.kv_heads * g.head_dim, g.kv_heads, g.value_dim),
            .parameters = parameters_};
  }

  AttentionInputs data(Tape& tape) const {
    return views(tape, tape.all_data(streams_.q), tape.all_data(streams_.kv));
  }

  const AttentionMechanism& mechanism_;
  Streams streams_;
  Value out_;
  bool adds_to_x_ = false;
  std::vector<View1<const float>> parameters_;
  std::vector<View1<float>> parameter_gradients_;
  std::vector<GradientRange> blocks_;
  Scratch saved_, forward_space_, backward_space_;
};

Value record(Recorder& recorder, const AttentionMechanism& mechanism, const Streams& streams,
             const std::vector<WeightRef>& parameters) {
  Tape& tape = recorder.tape;
  const AttentionGeometry& g = mechanism.geometry();
  const Value out = tape.value(g.heads * g.value_dim, recorder.compute);
  auto operation = std::make_unique<Attention>(mechanism, streams, out, parameters);
  operation->place_scratch(tape, recorder.compute, recorder.longest_sequence);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return out;
}

void check_mask(const Recorder& recorder, const AttentionMechanism& mechanism, bool cross) {
  if ((mechanism.mask() == AttentionMask::cross) == cross) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "building " + recorder.label,
               .subject = "attention " + std::string(mechanism.name()),
               .expected = cross ? "one to another stream of tokens" : "one to its own tokens",
               .found = cross ? "one to its own tokens" : "one to another stream of tokens"});
}

}  // namespace

Value attention(Recorder& recorder, const AttentionMechanism& mechanism, const TokenInputs& inputs,
                Value qkv, Value x, const std::vector<WeightRef>& parameters) {
  check_mask(recorder, mechanism, false);
  if (!mechanism.uses_hidden_state()) x = {};
  return record(recorder, mechanism, {.inputs = inputs, .q = qkv, .kv = qkv, .x = x}, parameters);
}

Value cross_attention(Recorder& recorder, const AttentionMechanism& mechanism,
                      const TokenInputs& inputs, const TokenInputs& source, Value q, Value kv,
                      const std::vector<WeightRef>& parameters) {
  check_mask(recorder, mechanism, true);
  return record(recorder, mechanism, {.inputs = inputs, .source = &source, .q = q, .kv = kv},
                parameters);
}

}  // namespace cairn
