// The embedding: a gather of rows forward, a scatter of their gradients backward.
#include <algorithm>
#include <cstring>

#include "cairn/autograd/operations.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

// Columns of the table that one gradient unit owns: units never write the same element.
constexpr size_t kUnitColumns = 32;

class Embedding final : public Operation {
 public:
  Embedding(const TokenInputs& inputs, WeightRef table, float factor, Value hidden)
      : inputs_(inputs), table_(table), factor_(factor), hidden_(hidden) {}

  std::string_view kind() const override { return "embedding"; }
  Uses uses() const override {
    return {.outputs = {hidden_}, .unit_gradients = {hidden_}, .weights = {table_.block}};
  }

  void forward(Tape& tape, const Rows& rows) override {
    const auto out = tape.data(hidden_, rows).as<float>();
    for (size_t row = 0; row < rows.count; ++row) {
      const auto token = static_cast<size_t>(inputs_.tokens[rows.begin + row]);
      if (factor_ == 1)
        std::memcpy(out[row].data, table_.values[token].data, out.cols * sizeof(float));
      else
        scale(table_.values.rows_slice(token, 1), factor_, out.rows_slice(row, 1));
    }
  }

  size_t gradient_units() const override { return chunk_count(table_.values.cols, kUnitColumns); }
  void gradient_unit(Tape& tape, size_t unit, int) override {
    const size_t begin = unit * kUnitColumns;
    const size_t count = std::min(kUnitColumns, table_.values.cols - begin);
    const auto from = tape.all_gradient(hidden_).as<const float>();
    for (size_t row = 0; row < from.rows; ++row) {
      const float* in = from[row].data + begin;
      float* to = table_.gradient[static_cast<size_t>(inputs_.tokens[row])].data + begin;
      for (size_t i = 0; i < count; ++i) to[i] += factor_ * in[i];
    }
  }

 private:
  const TokenInputs& inputs_;
  WeightRef table_;
  float factor_;
  Value hidden_;
};

}  // namespace

Value embedding(Recorder& recorder, const TokenInputs& inputs, WeightRef table, float factor) {
  const Value hidden = recorder.tape.value(table.values.cols, DType::f32);
  auto operation = std::make_unique<Embedding>(inputs, table, factor, hidden);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return hidden;
}

}  // namespace cairn
