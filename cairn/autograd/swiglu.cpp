// SwiGLU on the tape.
#include "cairn/autograd/operations.h"
#include "cairn/kernels/activations.h"

namespace cairn {
namespace {

class SwiGlu final : public Operation {
 public:
  SwiGlu(Value gate_up, Value out) : gate_up_(gate_up), out_(out) {}

  std::string_view kind() const override { return "swiglu"; }
  Uses uses() const override {
    return {
        .inputs = {gate_up_}, .outputs = {out_}, .backward_data = {gate_up_}, .recompute = true};
  }

  void forward(Tape& tape, const Rows& rows) override {
    if (tape.dtype(out_) == DType::bf16)
      swiglu(tape.data(gate_up_, rows).as<const bf16>(), tape.data(out_, rows).as<bf16>());
    else
      swiglu(tape.data(gate_up_, rows).as<const float>(), tape.data(out_, rows).as<float>());
  }

  void backward(Tape& tape, const Rows& rows) override {
    if (tape.dtype(out_) == DType::bf16)
      swiglu_backward(tape.data(gate_up_, rows).as<const bf16>(),
                      tape.gradient(out_, rows).as<const bf16>(),
                      tape.gradient(gate_up_, rows).as<bf16>());
    else
      swiglu_backward(tape.data(gate_up_, rows).as<const float>(),
                      tape.gradient(out_, rows).as<const float>(),
                      tape.gradient(gate_up_, rows).as<float>());
  }

 private:
  Value gate_up_, out_;
};

}  // namespace

Value swiglu(Recorder& recorder, Value gate_up) {
  const Value out = recorder.tape.value(recorder.tape.cols(gate_up) / 2, recorder.compute);
  auto operation = std::make_unique<SwiGlu>(gate_up, out);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
