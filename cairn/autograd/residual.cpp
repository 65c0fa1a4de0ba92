// The residual stream on the tape: a branch added to it with a factor, for architectures that scale
// or normalise their branches. Where they do not, linear_residual does the same in one product.
#include "cairn/autograd/operations.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

class Residual final : public Operation {
 public:
  Residual(Value hidden, Value branch, Value out, float factor)
      : hidden_(hidden), branch_(branch), out_(out), factor_(factor) {}

  std::string_view kind() const override { return "residual"; }
  Uses uses() const override {
    return {.inputs = {hidden_, branch_}, .outputs = {out_}, .residual = {hidden_, out_}};
  }

  void forward(Tape& tape, const Rows& rows) override {
    const auto hidden = tape.data(hidden_, rows).as<const float>();
    const AnyView2 branch = tape.data(branch_, rows);
    const auto out = tape.data(out_, rows).as<float>();
    copy(hidden, out);
    if (branch.dtype == DType::bf16)
      add_scaled(branch.as<const bf16>(), factor_, out);
    else
      add_scaled(branch.as<const float>(), factor_, out);
  }

  void backward(Tape& tape, const Rows& rows) override {
    const auto dout = tape.gradient(out_, rows).as<const float>();
    const AnyView2 dbranch = tape.gradient(branch_, rows);
    if (dbranch.dtype == DType::bf16)
      scale(dout, factor_, dbranch.as<bf16>());
    else
      scale(dout, factor_, dbranch.as<float>());
  }

 private:
  Value hidden_, branch_, out_;
  float factor_;
};

class Widen final : public Operation {
 public:
  Widen(Value x, Value y) : x_(x), y_(y) {}

  std::string_view kind() const override { return "residual"; }
  Uses uses() const override {
    return {.inputs = {x_}, .outputs = {y_}, .backward_data = {x_}, .recompute = true};
  }

  void forward(Tape& tape, const Rows& rows) override {
    convert(tape.data(x_, rows).as<const bf16>(), tape.data(y_, rows).as<float>());
  }
  void backward(Tape& tape, const Rows& rows) override {
    convert(tape.gradient(y_, rows).as<const float>(), tape.gradient(x_, rows).as<bf16>());
  }

 private:
  Value x_, y_;
};

}  // namespace

Value residual(Recorder& recorder, Value hidden, Value branch, float factor) {
  Tape& tape = recorder.tape;
  const Value out = tape.value(tape.cols(hidden), DType::f32);
  auto operation = std::make_unique<Residual>(hidden, branch, out, factor);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return out;
}

Value widen(Recorder& recorder, Value x) {
  Tape& tape = recorder.tape;
  if (tape.dtype(x) == DType::f32) return x;
  const Value y = tape.value(tape.cols(x), DType::f32);
  auto operation = std::make_unique<Widen>(x, y);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return y;
}

}  // namespace cairn
