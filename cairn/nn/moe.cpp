#include "cairn/nn/moe.h"

#include <algorithm>
#include <utility>

#include "cairn/kernels/elementwise.h"
#include "cairn/nn/moe_products.h"
#include "cairn/nn/moe_router.h"

namespace cairn {
namespace moe {
namespace {

// In eight partial sums, which the compiler can keep in one register.
template <class T>
float dot(const float* a, const T* b, size_t n) {
  constexpr size_t kSums = 8;
  float sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= n; i += kSums)
    for (size_t k = 0; k < kSums; ++k) sums[k] += a[i + k] * widened(b[i + k]);
  for (; i < n; ++i) sums[0] += a[i] * widened(b[i]);
  float sum = 0;
  for (const float part : sums) sum += part;
  return sum;
}

class MixtureOfExperts final : public Operation {
 public:
  MixtureOfExperts(const MoeOptions& options, const TokenInputs& inputs,
                   std::shared_ptr<RouterCounts> counts, size_t layer, Value x, Value out,
                   const MoeWeights& weights, Recorder& recorder)
      : options_(options),
        x_(x),
        out_(out),
        hidden_(weights.router.values.cols),
        width_(weights.down.values.cols),
        router_(options, inputs, std::move(counts), layer, weights.router, recorder),
        gate_up_(weights.gate_up, options.experts, recorder),
        down_(weights.down, options.experts, recorder) {
    take_scratch(recorder);
  }

  std::string_view kind() const override { return "experts"; }
  bool row_wise() const override { return false; }
  Uses uses() const override {
    return {.inputs = {x_},
            .outputs = {out_},
            .backward_data = {x_},
            .unit_data = {x_},
            .weights = {router_.block(), gate_up_.block(), down_.block()}};
  }
  void planned(const Tape& tape) override { adds_ = tape.adds_gradient(*this, x_); }

  size_t packing_units() const override { return 2 * options_.experts; }
  void pack_unit(Tape& tape, size_t unit, int thread) override {
    const size_t expert = unit / 2;
    if (unit % 2 == 0)
      gate_up_.pack(tape, expert, false, thread);
    else
      down_.pack(tape, expert, true, thread);
  }

  void forward_all(Tape& tape, ThreadTeam& team) override {
    const AnyView2 x = tape.all_data(x_), out = tape.all_data(out_);
    const TokenRoutes routes = router_.routes(tape);
    team.run(chunk_count(x.rows, kTokenGrain), [&](size_t chunk, int thread) {
      const size_t begin = chunk * kTokenGrain;
      router_.choose(tape, routes, slice(x, begin, std::min(kTokenGrain, x.rows - begin)), begin,
                     thread);
    });
    router_.lay_out(routes, x.rows);
    const AnyView2 y = rows_of(tape.memory(results_), DType::f32, hidden_);
    const AnyView2 gates = rows_of(tape.memory(gates_), compute_, 2 * width_);
    team.run(routes.blocks(), [&](size_t block, int thread) {
      const size_t expert = routes.expert_of(block);
      const AnyView2 rows =
          block_of(rows_of(tape.memory(forward_rows_), compute_, hidden_), thread);
      const AnyView2 act = block_of(rows_of(tape.memory(forward_act_), compute_, width_), thread);
      routes.gather(block, x, rows);
      gate_up_.forward(tape, expert, false, rows, block_of(gates, block), thread);
      activate(block_of(gates, block), act);
      down_.forward(tape, expert, true, act, block_of(y, block), thread);
    });
    team.run(chunk_count(x.rows, kTokenGrain), [&](size_t chunk, int) {
      for (size_t t = chunk * kTokenGrain; t < std::min(x.rows, (chunk + 1) * kTokenGrain); ++t)
        combine(routes, y.as<float>(), t, out);
    });
  }

  void backward_all(Tape& tape, ThreadTeam& team) override {
    const AnyView2 x = tape.all_data(x_), dout = tape.all_gradient(out_);
    const TokenRoutes routes = router_.routes(tape);
    const AnyView2 dx_rows = rows_of(tape.memory(dx_rows_), DType::f32, hidden_);
    team.run(routes.blocks(), [&](size_t block, int thread) {
      backward_block(tape, routes, block, x, dout, block_of(dx_rows, block), thread);
    });
    const View2<float> dx = tape.all_gradient(x_).as<float>();
    const double balance = router_.balance_factor();
    team.run(chunk_count(x.rows, kTokenGrain), [&](size_t chunk, int) {
      for (size_t t = chunk * kTokenGrain; t < std::min(x.rows, (chunk + 1) * kTokenGrain); ++t) {
        if (!adds_) std::fill_n(dx[t].data, hidden_, 0.0F);
        for (size_t i = 0; i < options_.experts_per_token; ++i)
          add(dx_rows.as<const float>().rows_slice(routes.place[routes.slot(t, i)], 1),
              dx.rows_slice(t, 1));
        router_.backward(tape, routes, balance, t, dx);
      }
    });
  }

  // Those of both stacks, expert by expert, then of the router's columns.
  size_t gradient_units() const override {
    return options_.experts * (gate_up_.tiles() + down_.tiles()) + router_.gradient_units();
  }
  void gradient_unit(Tape& tape, size_t unit, int thread) override {
    const size_t tiles = gate_up_.tiles() + down_.tiles();
    if (unit >= options_.experts * tiles)
      return router_.gradient_unit(tape, tape.all_data(x_), unit - options_.experts * tiles);
    const size_t expert = unit / tiles, tile = unit % tiles;
    const TokenRoutes routes = router_.routes(tape);
    const AnyView2 x = rows_of(tape.memory(x_rows_), compute_, hidden_);
    const AnyView2 act = rows_of(tape.memory(act_), compute_, width_);
    const AnyView2 dgates = rows_of(tape.memory(dgates_), compute_, 2 * width_);
    const AnyView2 dy = rows_of(tape.memory(dy_), compute_, hidden_);
    for (int32_t block = routes.first_block[expert]; block < routes.first_block[expert + 1];
         ++block)
      if (tile < gate_up_.tiles())
        gate_up_.gradient(expert, tile, block_of(dgates, block), block_of(x, block), thread);
      else
        down_.gradient(expert, tile - gate_up_.tiles(), block_of(dy, block), block_of(act, block),
                       thread);
  }

 private:
  void take_scratch(Recorder& recorder) {
    Tape& tape = recorder.tape;
    compute_ = recorder.compute;
    const size_t rows =
        TokenRoutes::most_rows(tape.tokens(), options_.experts, options_.experts_per_token);
    const auto threads = static_cast<size_t>(tape.threads());
    const size_t element = dtype_size(compute_);
    gates_ = tape.scratch(rows * 2 * width_ * element, Lifetime::saved);
    forward_rows_ = tape.scratch(threads * kBlock * hidden_ * element, Lifetime::forward);
    forward_act_ = tape.scratch(threads * kBlock * width_ * element, Lifetime::forward);
    results_ = tape.scratch(rows * hidden_ * sizeof(float), Lifetime::forward);
    x_rows_ = tape.scratch(rows * hidden_ * element, Lifetime::backward);
    act_ = tape.scratch(rows * width_ * element, Lifetime::backward);
    dy_ = tape.scratch(rows * hidden_ * element, Lifetime::backward);
    dgates_ = tape.scratch(rows * 2 * width_ * element, Lifetime::backward);
    dx_rows_ = tape.scratch(rows * hidden_ * sizeof(float), Lifetime::backward);
    dact_ = tape.scratch(threads * kBlock * width_ * sizeof(float), Lifetime::backward);
    dact_narrow_ = tape.scratch(threads * kBlock * width_ * element, Lifetime::backward);
  }

  void activate(const AnyView2& gates, const AnyView2& act) const {
    if (compute_ == DType::bf16)
      gated_unit(options_.gate, gates.as<const bf16>(), act.as<bf16>());
    else
      gated_unit(options_.gate, gates.as<const float>(), act.as<float>());
  }

  // Sums a token's rows of y in the first of them.
  void combine(const TokenRoutes& routes, View2<float> y, size_t token, const AnyView2& out) const {
    const auto row = [&](size_t i) { return y.rows_slice(routes.place[routes.slot(token, i)], 1); };
    const View2<float> sum = row(0);
    scale(sum, routes.weight[routes.slot(token, 0)], sum);
    for (size_t i = 1; i < options_.experts_per_token; ++i)
      add_scaled(row(i), routes.weight[routes.slot(token, i)], sum);
    if (out.dtype == DType::bf16)
      convert(sum, out.as<bf16>().rows_slice(token, 1));
    else
      copy(sum, out.as<float>().rows_slice(token, 1));
  }

  // Through one block: with a = act, dp = a . (dout Wdown) and da = p dout Wdown.
  void backward_block(const Tape& tape, const TokenRoutes& routes, size_t block, const AnyView2& x,
                      const AnyView2& dout, const AnyView2& dx, int thread) const {
    const size_t expert = routes.expert_of(block);
    const auto whole = [&](Scratch scratch, size_t cols) {
      return block_of(rows_of(tape.memory(scratch), compute_, cols), block);
    };
    const AnyView2 rows = whole(x_rows_, hidden_), act = whole(act_, width_);
    const AnyView2 dy = whole(dy_, hidden_), gates = whole(gates_, 2 * width_);
    const AnyView2 dact = block_of(rows_of(tape.memory(dact_), DType::f32, width_), thread);
    const AnyView2 narrow = block_of(rows_of(tape.memory(dact_narrow_), compute_, width_), thread);
    routes.gather(block, x, rows);
    routes.gather(block, dout, dy);
    activate(gates, act);
    down_.backward(tape, expert, dy, dact, thread);
    float* dweight = router_.weight_gradients(tape);
    for (size_t i = 0; i < kBlock; ++i) {
      const int32_t slot = routes.row_slot[block * kBlock + i];
      const float weight = slot < 0 ? 0 : routes.weight[slot];
      const View1<float> row = dact.as<float>()[i];
      if (slot >= 0)
        dweight[slot] = compute_ == DType::bf16
                            ? dot(row.data, act.as<const bf16>()[i].data, width_)
                            : dot(row.data, act.as<const float>()[i].data, width_);
      for (float& value : row) value *= weight;
      scale_row(dy, i, weight);
    }
    if (compute_ == DType::bf16) {
      convert(dact.as<const float>(), narrow.as<bf16>());
      gated_unit_backward(options_.gate, gates.as<const bf16>(), narrow.as<const bf16>(),
                          whole(dgates_, 2 * width_).as<bf16>());
    } else {
      gated_unit_backward(options_.gate, gates.as<const float>(), dact.as<const float>(),
                          whole(dgates_, 2 * width_).as<float>());
    }
    gate_up_.backward(tape, expert, whole(dgates_, 2 * width_), dx, thread);
  }

  static void scale_row(const AnyView2& view, size_t row, float factor) {
    if (view.dtype == DType::f32)
      for (float& value : view.as<float>()[row]) value *= factor;
    else
      for (bf16& value : view.as<bf16>()[row]) value = bf16::from_float(value.to_float() * factor);
  }

  MoeOptions options_;
  Value x_, out_;
  size_t hidden_, width_;
  bool adds_ = false;
  DType compute_ = DType::f32;
  Router router_;
  StackProducts gate_up_, down_;
  Scratch gates_;
  Scratch forward_rows_, forward_act_, results_;
  Scratch x_rows_, act_, dy_, dgates_, dx_rows_, dact_, dact_narrow_;
};

}  // namespace
}  // namespace moe

Value mixture_of_experts(Recorder& recorder, const MoeOptions& options, const TokenInputs& inputs,
                         const std::shared_ptr<RouterCounts>& counts, size_t layer, Value x,
                         const MoeWeights& weights) {
  const Value out = recorder.tape.value(weights.router.values.cols, recorder.compute);
  auto operation = std::make_unique<moe::MixtureOfExperts>(options, inputs, counts, layer, x, out,
                                                           weights, recorder);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
