// Biases on the tape. Adding one changes no gradient but its own, so both sides share one.
#include <algorithm>
#include <cstring>

#include "cairn/autograd/operations.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

// Columns that one gradient unit sums over all tokens, in their order.
constexpr size_t kUnitColumns = 64;

float read(float value) {
  return value;
}
float read(bf16 value) {
  return value.to_float();
}
void write(float value, float& to) {
  to = value;
}
void write(float value, bf16& to) {
  to = bf16::from_float(value);
}

class Bias final : public Operation {
 public:
  Bias(Value x, Value y, std::vector<WeightRef> parts) : x_(x), y_(y), parts_(std::move(parts)) {}

  std::string_view kind() const override { return "bias"; }
  Uses uses() const override {
    Uses uses{.inputs = {x_}, .outputs = {y_}, .unit_gradients = {y_}, .residual = {x_, y_}};
    for (const WeightRef& part : parts_) uses.weights.push_back(part.block);
    return uses;
  }

  void forward(Tape& tape, const Rows& rows) override {
    const AnyView2 x = tape.data(x_, rows), y = tape.data(y_, rows);
    if (x.dtype == DType::bf16)
      add_to(x.as<const bf16>(), y.as<bf16>());
    else
      add_to(x.as<const float>(), y.as<float>());
  }

  size_t gradient_units() const override {
    size_t units = 0;
    for (const WeightRef& part : parts_) units += chunk_count(part.values.cols, kUnitColumns);
    return units;
  }
  void gradient_unit(Tape& tape, size_t unit, int) override {
    size_t first = 0;  // column of y
    auto part = parts_.begin();
    for (size_t units; unit >= (units = chunk_count(part->values.cols, kUnitColumns)); ++part) {
      unit -= units;
      first += part->values.cols;
    }
    const size_t begin = unit * kUnitColumns;
    const View1<float> sums{part->gradient.data + begin,
                            std::min(kUnitColumns, part->values.cols - begin)};
    const AnyView2 dy = tape.all_gradient(y_);
    if (dy.dtype == DType::bf16)
      sum_columns(dy.as<const bf16>(), first + begin, sums);
    else
      sum_columns(dy.as<const float>(), first + begin, sums);
  }

 private:
  template <class T>
  void add_to(View2<const T> x, View2<T> y) const {
    for (size_t row = 0; row < x.rows; ++row) {
      const T* in = x[row].data;
      T* out = y[row].data;
      for (const WeightRef& part : parts_)
        for (const float bias : part.values[0]) write(read(*in++) + bias, *out++);
    }
  }

  template <class T>
  static void sum_columns(View2<const T> dy, size_t first, View1<float> sums) {
    for (size_t row = 0; row < dy.rows; ++row)
      for (size_t i = 0; i < sums.size; ++i) sums[i] += read(dy[row][first + i]);
  }

  Value x_, y_;
  std::vector<WeightRef> parts_;  // side by side
};

}  // namespace

Value bias(Recorder& recorder, Value x, const std::vector<WeightRef>& parts) {
  const Value y = recorder.tape.value(recorder.tape.cols(x), recorder.compute);
  auto operation = std::make_unique<Bias>(x, y, parts);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return y;
}

}  // namespace cairn
