// RMSNorm on the tape. Backward of the gain is summed over each chunk of tokens, then over chunks
// in their order, so the number of threads does not show.
#include <cstring>

#include "cairn/autograd/operations.h"
#include "cairn/kernels/elementwise.h"
#include "cairn/kernels/norms.h"

namespace cairn {
namespace {

class RmsNorm final : public Operation {
 public:
  RmsNorm(Value hidden, Value out, WeightRef weight, const NormOptions& options, Scratch partial)
      : hidden_(hidden), out_(out), weight_(weight), options_(options), partial_(partial) {}

  std::string_view kind() const override { return "norm"; }
  Uses uses() const override {
    return {.inputs = {hidden_},
            .outputs = {out_},
            .backward_data = {hidden_},
            .recompute = true,
            .weights = {weight_.block}};
  }
  void planned(const Tape& tape) override { adds_ = tape.adds_gradient(*this, hidden_); }

  void forward(Tape& tape, const Rows& rows) override {
    const auto in = tape.data(hidden_, rows).as<const float>();
    const AnyView2 out = tape.data(out_, rows);
    if (out.dtype == DType::bf16)
      rms_norm(in, weight(), options_, out.as<bf16>());
    else
      rms_norm(in, weight(), options_, out.as<float>());
  }

  void backward(Tape& tape, const Rows& rows) override {
    const View1<float> partial = partial_gain(tape, rows.chunk());
    std::memset(partial.data, 0, partial.size * sizeof(float));
    rms_norm_backward(tape.data(hidden_, rows).as<const float>(), weight(), options_,
                      tape.gradient(out_, rows).as<const float>(),
                      tape.gradient(hidden_, rows).as<float>(), partial, adds_);
  }

  size_t gradient_units() const override { return 1; }
  void gradient_unit(Tape& tape, size_t, int) override {
    for (size_t chunk = 0; chunk < tape.chunks(); ++chunk) {
      const View1<float> partial = partial_gain(tape, chunk);
      add(View2<const float>(partial.data, 1, partial.size), weight_.gradient);
    }
  }

 private:
  View1<const float> weight() const { return View1<float>(weight_.values[0]); }
  View1<float> partial_gain(Tape& tape, size_t chunk) const {
    const size_t width = weight_.values.cols;
    return {reinterpret_cast<float*>(tape.memory(partial_).data()) + chunk * width, width};
  }

  Value hidden_, out_;
  WeightRef weight_;
  NormOptions options_;
  Scratch partial_;  // [chunks, hidden_size]
  bool adds_ = false;
};

}  // namespace

Value rms_norm(Recorder& recorder, Value hidden, WeightRef weight, const NormOptions& options) {
  Tape& tape = recorder.tape;
  const size_t width = weight.values.cols;
  const Value out = tape.value(width, recorder.compute, DType::f32);
  const Scratch partial = tape.scratch(tape.chunks() * width * sizeof(float), Lifetime::backward);
  auto operation = std::make_unique<RmsNorm>(hidden, out, weight, options, partial);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
