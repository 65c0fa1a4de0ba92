// SwiGLU and its like on the tape, and activations without a gate.
#include "cairn/autograd/operations.h"

namespace cairn {
namespace {

class GatedUnit final : public Operation {
 public:
  GatedUnit(Gate gate, Value gate_up, Value out) : gate_(gate), gate_up_(gate_up), out_(out) {}

  std::string_view kind() const override { return "gated unit"; }
  Uses uses() const override {
    return {
        .inputs = {gate_up_}, .outputs = {out_}, .backward_data = {gate_up_}, .recompute = true};
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
    gated_unit(gate_, tape.data(gate_up_, rows).as<const T>(), tape.data(out_, rows).as<T>());
  }
  template <class T>
  void backward_as(Tape& tape, const Rows& rows) {
    gated_unit_backward(gate_, tape.data(gate_up_, rows).as<const T>(),
                        tape.gradient(out_, rows).as<const T>(),
                        tape.gradient(gate_up_, rows).as<T>());
  }

  Gate gate_;
  Value gate_up_, out_;
};

class Activation final : public Operation {
 public:
  Activation(Gate gate, Value x, Value out) : gate_(gate), x_(x), out_(out) {}

  std::string_view kind() const override { return "activation"; }
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
    activation(gate_, tape.data(x_, rows).as<const T>(), tape.data(out_, rows).as<T>());
  }
  template <class T>
  void backward_as(Tape& tape, const Rows& rows) {
    activation_backward(gate_, tape.data(x_, rows).as<const T>(),
                        tape.gradient(out_, rows).as<const T>(), tape.gradient(x_, rows).as<T>());
  }

  Gate gate_;
  Value x_, out_;
};

}  // namespace

Value activation(Recorder& recorder, Gate gate, Value x) {
  const Value out = recorder.tape.value(recorder.tape.cols(x), recorder.compute);
  auto operation = std::make_unique<Activation>(gate, x, out);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

Value gated_unit(Recorder& recorder, Gate gate, Value gate_up) {
  const Value out = recorder.tape.value(recorder.tape.cols(gate_up) / 2, recorder.compute);
  auto operation = std::make_unique<GatedUnit>(gate, gate_up, out);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
