// SwiGLU and its like on the tape, and activations without a gate.
#include "cairn/autograd/operations.h"

namespace cairn {
namespace {

// out = the gated unit of [gate | up], or the activation of x where there is no gate.
class Unit final : public Operation {
 public:
  Unit(Gate gate, bool gated, Value x, Value out) : gate_(gate), gated_(gated), x_(x), out_(out) {}

  std::string_view kind() const override { return gated_ ? "gated unit" : "activation"; }
  Uses uses() const override {
    return {.inputs = {x_}, .outputs = {out_}, .backward_data = {x_}, .recompute = true};
  }

  void forward(Tape& tape, const Rows& rows) override {
    if (tape.dtype(out_) == DType::bf16)
      forward_as<bf16>(tape, rows);
    else
      forward_as<float>(tape, rows);
  }

  void backward(Tape& tape, const Rows& rows) override {
    if (tape.dtype(out_) == DType::bf16)
      backward_as<bf16>(tape, rows);
    else
      backward_as<float>(tape, rows);
  }

 private:
  template <class T>
  void forward_as(Tape& tape, const Rows& rows) {
    const auto x = tape.data(x_, rows).as<const T>();
    const auto out = tape.data(out_, rows).as<T>();
    gated_ ? gated_unit(gate_, x, out) : activation(gate_, x, out);
  }
  template <class T>
  void backward_as(Tape& tape, const Rows& rows) {
    const auto x = tape.data(x_, rows).as<const T>();
    const auto dout = tape.gradient(out_, rows).as<const T>();
    const auto dx = tape.gradient(x_, rows).as<T>();
    gated_ ? gated_unit_backward(gate_, x, dout, dx) : activation_backward(gate_, x, dout, dx);
  }

  Gate gate_;
  bool gated_;
  Value x_, out_;
};

Value record_unit(Recorder& recorder, Gate gate, bool gated, Value x) {
  const size_t cols = recorder.tape.cols(x) / (gated ? 2 : 1);
  const Value out = recorder.tape.value(cols, recorder.compute);
  auto operation = std::make_unique<Unit>(gate, gated, x, out);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

}  // namespace

Value activation(Recorder& recorder, Gate gate, Value x) {
  return record_unit(recorder, gate, false, x);
}

Value gated_unit(Recorder& recorder, Gate gate, Value gate_up) {
  return record_unit(recorder, gate, true, gate_up);
}

}  // namespace cairn
