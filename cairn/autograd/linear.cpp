// Linear maps on the tape: several matrices side by side, or one added to the residual stream.
#include "cairn/autograd/operations.h"
#include "cairn/autograd/weight_products.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

std::byte* column(const AnyView2& view, size_t column) {
  return static_cast<std::byte*>(view.data) + column * dtype_size(view.dtype);
}

class Linear final : public Operation {
 public:
  Linear(Value x, Value y, const std::vector<WeightRef>& weights, Recorder& recorder)
      : x_(x), y_(y) {
    const Tape& tape = recorder.tape;
    size_t begin = 0;
    for (const WeightRef& weight : weights) {
      const WeightProducts::Layout layout{.y_stride = tape.cols(y),
                                          .dy_stride = tape.cols(y),
                                          .y_dtype = recorder.compute,
                                          .dx_dtype = tape.gradient_dtype(x),
                                          .tokens = tape.tokens()};
      parts_.push_back({begin, WeightProducts(weight, layout, recorder)});
      begin += weight.values.rows;
    }
  }

  std::string_view kind() const override { return "linear"; }
  Uses uses() const override {
    Uses uses{.inputs = {x_}, .outputs = {y_}, .unit_data = {x_}, .unit_gradients = {y_}};
    for (const Part& part : parts_) uses.weights.push_back(part.products.block());
    return uses;
  }
  void planned(const Tape& tape) override { adds_ = tape.adds_gradient(*this, x_); }

  void forward(Tape& tape, const Rows& rows) override {
    const AnyView2 x = tape.data(x_, rows), y = tape.data(y_, rows);
    for (const Part& part : parts_)
      part.products.forward(tape, rows, x.data, column(y, part.begin));
  }

  void backward(Tape& tape, const Rows& rows) override {
    const AnyView2 dy = tape.gradient(y_, rows), dx = tape.gradient(x_, rows);
    for (const Part& part : parts_)
      part.products.backward(tape, rows, column(dy, part.begin), dx.data, adds_ || part.begin != 0);
  }

  size_t gradient_units() const override {
    size_t total = 0;
    for (const Part& part : parts_) total += part.products.gradient_tiles();
    return total;
  }
  void gradient_unit(Tape& tape, size_t unit, int thread) override {
    auto part = parts_.begin();
    while (unit >= part->products.gradient_tiles()) unit -= (part++)->products.gradient_tiles();
    part->products.gradient_tile(unit, column(tape.all_gradient(y_), part->begin),
                                 tape.all_data(x_).data, thread);
  }

  size_t packing_units() const override { return parts_.size(); }
  void pack_unit(Tape& tape, size_t unit, int thread) override {
    parts_[unit].products.pack(tape, thread);
  }

 private:
  struct Part {
    size_t begin = 0;  // first column of y
    WeightProducts products;
  };
  Value x_, y_;
  bool adds_ = false;
  std::vector<Part> parts_;
};

class LinearResidual final : public Operation {
 public:
  LinearResidual(Value hidden, Value x, Value out, WeightRef weight, Scratch dy, Recorder& recorder)
      : hidden_(hidden),
        x_(x),
        out_(out),
        dy_(dy),
        products_(weight,
                  {.y_dtype = DType::f32,
                   .dx_dtype = recorder.compute,
                   .y_adds = true,
                   .tokens = recorder.tape.tokens()},
                  recorder) {}

  std::string_view kind() const override { return "linear"; }
  Uses uses() const override {
    return {.inputs = {hidden_, x_},
            .outputs = {out_},
            .unit_data = {x_},
            .residual = {hidden_, out_},
            .weights = {products_.block()}};
  }

  void forward(Tape& tape, const Rows& rows) override {
    const auto out = tape.data(out_, rows).as<float>();
    copy(tape.data(hidden_, rows).as<const float>(), out);
    products_.forward(tape, rows, tape.data(x_, rows).data, out.data);
  }

  // The gradient of the residual stream goes on changing below this operation, so what the weight's
  // gradient needs of it is kept apart, in the type of the products.
  void backward(Tape& tape, const Rows& rows) override {
    const auto dout = tape.gradient(out_, rows).as<const float>();
    const AnyView2 dy = kept(tape, rows);
    if (dy.dtype == DType::bf16)
      convert(dout, dy.as<bf16>());
    else
      copy(dout, dy.as<float>());
    products_.backward(tape, rows, dy.data, tape.gradient(x_, rows).data, false);
  }

  size_t gradient_units() const override { return products_.gradient_tiles(); }
  void gradient_unit(Tape& tape, size_t unit, int thread) override {
    products_.gradient_tile(unit, tape.memory(dy_).data(), tape.all_data(x_).data, thread);
  }

  size_t packing_units() const override { return 1; }
  void pack_unit(Tape& tape, size_t, int thread) override { products_.pack(tape, thread); }

 private:
  AnyView2 kept(Tape& tape, const Rows& rows) const {
    const size_t width = tape.cols(out_);
    const DType dtype = tape.dtype(x_);
    return {tape.memory(dy_).data() + rows.begin * width * dtype_size(dtype), dtype, rows.count,
            width, width};
  }

  Value hidden_, x_, out_;
  Scratch dy_;  // [tokens, hidden_size]
  WeightProducts products_;
};

}  // namespace

Value linear(Recorder& recorder, Value x, const std::vector<WeightRef>& weights) {
  size_t width = 0;
  for (const WeightRef& weight : weights) width += weight.values.rows;
  const Value y = recorder.tape.value(width, recorder.compute);
  auto operation = std::make_unique<Linear>(x, y, weights, recorder);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return y;
}

Value linear_residual(Recorder& recorder, Value hidden, Value x, WeightRef weight) {
  Tape& tape = recorder.tape;
  const size_t width = weight.values.rows;
  const Value out = tape.value(width, DType::f32);
  const Scratch dy =
      tape.scratch(tape.tokens() * width * dtype_size(recorder.compute), Lifetime::backward);
  auto operation = std::make_unique<LinearResidual>(hidden, x, out, weight, dy, recorder);
  operation->label = recorder.label;
  tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
