#include "cairn/nn/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "cairn/kernels/elementwise.h"
#include "cairn/kernels/routing.h"

namespace cairn {
namespace {

constexpr size_t kBlock = 64;          // rows of one expert that are multiplied at a time
constexpr size_t kGradientRows = 128;  // of a weight matrix that one gradient unit owns
constexpr size_t kTokenGrain = 128;    // tokens that one chunk of the team routes or combines
constexpr size_t kUnitColumns = 64;    // of the router's gradient that one unit owns

float widened(float value) {
  return value;
}
float widened(bf16 value) {
  return value.to_float();
}

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

// Memory of a scratch as rows.
AnyView2 rows_of(std::span<std::byte> memory, DType dtype, size_t cols) {
  return {memory.data(), dtype, memory.size() / (cols * dtype_size(dtype)), cols, cols};
}

std::byte* at(const AnyView2& view, size_t row, size_t col) {
  return static_cast<std::byte*>(view.data) + (row * view.stride + col) * dtype_size(view.dtype);
}

AnyView2 slice(const AnyView2& view, size_t begin, size_t count) {
  return {at(view, begin, 0), view.dtype, count, view.cols, view.stride};
}

AnyView2 block_of(const AnyView2& all, size_t block) {
  return slice(all, block * kBlock, kBlock);
}

// The products of a stack of matrices [experts * out, in], each packed for itself.
class StackProducts {
 public:
  StackProducts(const WeightRef& weight, size_t experts, Recorder& recorder)
      : weight_(weight), out_(weight.values.rows / experts), compute_(recorder.compute) {
    const size_t in = weight.values.cols;
    forward_ = &recorder.products.get({.n = out_,
                                       .k = in,
                                       .operands = compute_,
                                       .result = compute_,
                                       .transpose_b = true,
                                       .packed_b = true},
                                      kBlock);
    forward_f32_ = &recorder.products.get(
        {.n = out_, .k = in, .operands = compute_, .transpose_b = true, .packed_b = true}, kBlock);
    backward_ = &recorder.products.get({.n = in, .k = out_, .operands = compute_, .packed_b = true},
                                       kBlock);
    gradient_ = &recorder.products.get({.n = in,
                                        .k = kBlock,
                                        .operands = compute_,
                                        .transpose_a = true,
                                        .accumulate = true,
                                        .lda = out_});
    bytes_ = std::max(std::max(forward_->packed_bytes(), forward_f32_->packed_bytes()),
                      backward_->packed_bytes());
    packed_forward_ = recorder.tape.scratch(experts * bytes_, Lifetime::forward);
    packed_backward_ = recorder.tape.scratch(experts * bytes_, Lifetime::backward);
  }

  GradientRange block() const { return weight_.block; }
  void pack(const Tape& tape, size_t expert, bool wide, int thread) const {
    const Matmul& product = tape.in_backward() ? *backward_ : wide ? *forward_f32_ : *forward_;
    product.pack(weight_.values[expert * out_].data, packed(tape, expert), thread);
  }
  // y = x W_e^T in the compute type, or with `wide` in f32; as packed.
  void forward(const Tape& tape, size_t expert, bool wide, const AnyView2& x, const AnyView2& y,
               int thread) const {
    (wide ? forward_f32_ : forward_)->run(kBlock, x.data, packed(tape, expert), y.data, thread);
  }
  // dx = dy W_e in f32.
  void backward(const Tape& tape, size_t expert, const AnyView2& dy, const AnyView2& dx,
                int thread) const {
    backward_->run(kBlock, dy.data, packed(tape, expert), dx.data, thread);
  }
  size_t tiles() const { return chunk_count(out_, kGradientRows); }
  // dW_e += dy^T x for one tile of rows.
  void gradient(size_t expert, size_t tile, const AnyView2& dy, const AnyView2& x,
                int thread) const {
    const size_t begin = tile * kGradientRows;
    gradient_->run(std::min(kGradientRows, out_ - begin), at(dy, 0, begin), x.data,
                   weight_.gradient[expert * out_ + begin].data, thread);
  }

 private:
  std::byte* packed(const Tape& tape, size_t expert) const {
    return tape.memory(tape.in_backward() ? packed_backward_ : packed_forward_).data() +
           expert * bytes_;
  }

  WeightRef weight_;
  size_t out_, bytes_ = 0;
  DType compute_;
  const Matmul *forward_, *forward_f32_, *backward_, *gradient_;
  Scratch packed_forward_, packed_backward_;
};

class MixtureOfExperts final : public Operation {
 public:
  MixtureOfExperts(const MoeOptions& options, const TokenInputs& inputs,
                   std::shared_ptr<RouterCounts> counts, size_t layer, Value x, Value out,
                   const MoeWeights& weights, Recorder& recorder)
      : options_(options),
        inputs_(inputs),
        counts_(std::move(counts)),
        layer_(layer),
        x_(x),
        out_(out),
        hidden_(weights.router.values.cols),
        width_(weights.down.values.cols),
        router_(weights.router),
        gate_up_(weights.gate_up, options.experts, recorder),
        down_(weights.down, options.experts, recorder),
        router_product_(&recorder.products.get(
            {.n = options.experts, .k = hidden_, .transpose_b = true}, kTokenGrain)) {
    take_scratch(recorder);
  }

  std::string_view kind() const override { return "experts"; }
  bool row_wise() const override { return false; }
  Uses uses() const override {
    return {.inputs = {x_},
            .outputs = {out_},
            .backward_data = {x_},
            .unit_data = {x_},
            .weights = {router_.block, gate_up_.block(), down_.block()}};
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
    const Routes routes = routes_of(tape);
    team.run(chunk_count(x.rows, kTokenGrain), [&](size_t chunk, int thread) {
      const size_t begin = chunk * kTokenGrain;
      route(tape, routes, slice(x, begin, std::min(kTokenGrain, x.rows - begin)), begin, thread);
    });
    lay_out(routes, x.rows);
    const AnyView2 y = rows_of(tape.memory(results_), DType::f32, hidden_);
    const AnyView2 gates = rows_of(tape.memory(gates_), compute_, 2 * width_);
    team.run(static_cast<size_t>(routes.first_block[options_.experts]), [&](size_t block,
                                                                            int thread) {
      const size_t expert = expert_of(routes, block);
      const AnyView2 rows =
          block_of(rows_of(tape.memory(forward_rows_), compute_, hidden_), thread);
      const AnyView2 act = block_of(rows_of(tape.memory(forward_act_), compute_, width_), thread);
      gather(routes, block, x, rows);
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
    const Routes routes = routes_of(tape);
    const AnyView2 dx_rows = rows_of(tape.memory(dx_rows_), DType::f32, hidden_);
    team.run(static_cast<size_t>(routes.first_block[options_.experts]),
             [&](size_t block, int thread) {
               backward_block(tape, routes, block, x, dout, block_of(dx_rows, block), thread);
             });
    const View2<float> dx = tape.all_gradient(x_).as<float>();
    const double balance = balance_factor();
    team.run(chunk_count(x.rows, kTokenGrain), [&](size_t chunk, int) {
      for (size_t t = chunk * kTokenGrain; t < std::min(x.rows, (chunk + 1) * kTokenGrain); ++t) {
        if (!adds_) std::fill_n(dx[t].data, hidden_, 0.0F);
        for (size_t i = 0; i < options_.experts_per_token; ++i)
          add(dx_rows.as<const float>().rows_slice(routes.place[slot(t, i)], 1),
              dx.rows_slice(t, 1));
        router_backward(tape, routes, balance, t, dx);
      }
    });
  }

  // Those of both stacks, expert by expert, then of the router's columns.
  size_t gradient_units() const override {
    return options_.experts * (gate_up_.tiles() + down_.tiles()) +
           chunk_count(hidden_, kUnitColumns);
  }
  void gradient_unit(Tape& tape, size_t unit, int thread) override {
    const size_t tiles = gate_up_.tiles() + down_.tiles();
    if (unit >= options_.experts * tiles)
      return compute_ == DType::bf16 ? router_gradient(tape, tape.all_data(x_).as<const bf16>(),
                                                       unit - options_.experts * tiles)
                                     : router_gradient(tape, tape.all_data(x_).as<const float>(),
                                                       unit - options_.experts * tiles);
    const size_t expert = unit / tiles, tile = unit % tiles;
    const Routes routes = routes_of(tape);
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
  // Where tokens go. A slot is one choice of one token; its row lies at `place` among the rows that
  // are sorted by expert, each expert's beginning with a block of its own.
  struct Routes {
    float* logits;         // [tokens, experts]
    int32_t* chosen;       // [slots] expert
    float* weight;         // [slots]
    int32_t* place;        // [slots]
    int32_t* row_slot;     // [rows] slot, -1 for padding
    int32_t* first_block;  // [experts + 1]
  };

  size_t slots(const Tape& tape) const { return tape.tokens() * options_.experts_per_token; }
  size_t most_rows(const Tape& tape) const {
    return (chunk_count(slots(tape), kBlock) + options_.experts) * kBlock;
  }
  size_t slot(size_t token, size_t i) const { return token * options_.experts_per_token + i; }

  void take_scratch(Recorder& recorder) {
    Tape& tape = recorder.tape;
    compute_ = recorder.compute;
    const size_t rows = most_rows(tape), threads = static_cast<size_t>(tape.threads());
    const size_t element = dtype_size(compute_);
    routes_ = tape.scratch(sizeof(float) * (tape.tokens() * options_.experts + 3 * slots(tape) +
                                            rows + options_.experts + 1),
                           Lifetime::saved);
    gates_ = tape.scratch(rows * 2 * width_ * element, Lifetime::saved);
    forward_rows_ = tape.scratch(threads * kBlock * hidden_ * element, Lifetime::forward);
    forward_act_ = tape.scratch(threads * kBlock * width_ * element, Lifetime::forward);
    wide_x_ = tape.scratch(threads * kTokenGrain * hidden_ * sizeof(float), Lifetime::forward);
    results_ = tape.scratch(rows * hidden_ * sizeof(float), Lifetime::forward);
    x_rows_ = tape.scratch(rows * hidden_ * element, Lifetime::backward);
    act_ = tape.scratch(rows * width_ * element, Lifetime::backward);
    dy_ = tape.scratch(rows * hidden_ * element, Lifetime::backward);
    dgates_ = tape.scratch(rows * 2 * width_ * element, Lifetime::backward);
    dx_rows_ = tape.scratch(rows * hidden_ * sizeof(float), Lifetime::backward);
    dact_ = tape.scratch(threads * kBlock * width_ * sizeof(float), Lifetime::backward);
    dact_narrow_ = tape.scratch(threads * kBlock * width_ * element, Lifetime::backward);
    dweight_ = tape.scratch(slots(tape) * sizeof(float), Lifetime::backward);
    dlogits_ = tape.scratch(tape.tokens() * options_.experts * sizeof(float), Lifetime::backward);
  }

  Routes routes_of(const Tape& tape) const {
    Routes routes;
    auto* next = reinterpret_cast<float*>(tape.memory(routes_).data());
    routes.logits = next;
    routes.weight = next += tape.tokens() * options_.experts;
    routes.chosen = reinterpret_cast<int32_t*>(next += slots(tape));
    routes.place = reinterpret_cast<int32_t*>(next += slots(tape));
    routes.row_slot = reinterpret_cast<int32_t*>(next += slots(tape));
    routes.first_block = reinterpret_cast<int32_t*>(next + most_rows(tape));
    return routes;
  }

  // Logits in f32 and choices of the tokens from `begin` on, whose rows are `x`.
  void route(const Tape& tape, const Routes& routes, AnyView2 x, size_t begin, int thread) const {
    if (x.dtype == DType::bf16) {
      const AnyView2 wide = slice(rows_of(tape.memory(wide_x_), DType::f32, hidden_),
                                  static_cast<size_t>(thread) * kTokenGrain, x.rows);
      convert(x.as<const bf16>(), wide.as<float>());
      x = wide;
    }
    float* logits = routes.logits + begin * options_.experts;
    router_product_->run(x.rows, x.data, router_.values.data, logits, thread);
    for (size_t t = 0; t < x.rows; ++t)
      choose_experts({logits + t * options_.experts, options_.experts}, options_.experts_per_token,
                     routes.chosen + slot(begin + t, 0), routes.weight + slot(begin + t, 0));
  }

  // Gives each slot its place: those of an expert one after another, in the order of tokens.
  void lay_out(const Routes& routes, size_t tokens) const {
    size_t* chosen = counts_->chosen.data() + layer_ * options_.experts;
    std::fill_n(chosen, options_.experts, size_t{0});
    counts_->tokens = tokens;
    const size_t count = tokens * options_.experts_per_token;
    for (size_t i = 0; i < count; ++i) ++chosen[routes.chosen[i]];
    int32_t block = 0;
    for (size_t e = 0; e < options_.experts; ++e) {
      routes.first_block[e] = block;
      block += static_cast<int32_t>(chunk_count(chosen[e], kBlock));
    }
    routes.first_block[options_.experts] = block;
    std::fill_n(routes.row_slot, static_cast<size_t>(block) * kBlock, -1);
    for (size_t e = 0; e < options_.experts; ++e) {
      int32_t row = routes.first_block[e] * static_cast<int32_t>(kBlock);
      for (size_t i = 0; i < count; ++i) {
        if (routes.chosen[i] != static_cast<int32_t>(e)) continue;
        routes.place[i] = row;
        routes.row_slot[row++] = static_cast<int32_t>(i);
      }
    }
  }

  size_t expert_of(const Routes& routes, size_t block) const {
    const int32_t *first = routes.first_block, *end = first + options_.experts + 1;
    return static_cast<size_t>(std::upper_bound(first, end, static_cast<int32_t>(block)) - first -
                               1);
  }

  // The rows of a block's tokens, zeros for padding.
  void gather(const Routes& routes, size_t block, const AnyView2& from, const AnyView2& to) const {
    const size_t bytes = hidden_ * dtype_size(from.dtype);
    for (size_t i = 0; i < kBlock; ++i) {
      const int32_t slot = routes.row_slot[block * kBlock + i];
      if (slot < 0)
        std::memset(at(to, i, 0), 0, bytes);
      else
        std::memcpy(at(to, i, 0),
                    at(from, static_cast<size_t>(slot) / options_.experts_per_token, 0), bytes);
    }
  }

  void activate(const AnyView2& gates, const AnyView2& act) const {
    if (compute_ == DType::bf16)
      gated_unit(options_.gate, gates.as<const bf16>(), act.as<bf16>());
    else
      gated_unit(options_.gate, gates.as<const float>(), act.as<float>());
  }

  // Sums a token's rows of y in the first of them.
  void combine(const Routes& routes, View2<float> y, size_t token, const AnyView2& out) const {
    const auto row = [&](size_t i) { return y.rows_slice(routes.place[slot(token, i)], 1); };
    const View2<float> sum = row(0);
    scale(sum, routes.weight[slot(token, 0)], sum);
    for (size_t i = 1; i < options_.experts_per_token; ++i)
      add_scaled(row(i), routes.weight[slot(token, i)], sum);
    if (out.dtype == DType::bf16)
      convert(sum, out.as<bf16>().rows_slice(token, 1));
    else
      copy(sum, out.as<float>().rows_slice(token, 1));
  }

  // Through one block: with a = act, dp = a . (dout Wdown) and da = p dout Wdown.
  void backward_block(const Tape& tape, const Routes& routes, size_t block, const AnyView2& x,
                      const AnyView2& dout, const AnyView2& dx, int thread) const {
    const size_t expert = expert_of(routes, block);
    const auto whole = [&](Scratch scratch, size_t cols) {
      return block_of(rows_of(tape.memory(scratch), compute_, cols), block);
    };
    const AnyView2 rows = whole(x_rows_, hidden_), act = whole(act_, width_);
    const AnyView2 dy = whole(dy_, hidden_), gates = whole(gates_, 2 * width_);
    const AnyView2 dact = block_of(rows_of(tape.memory(dact_), DType::f32, width_), thread);
    const AnyView2 narrow = block_of(rows_of(tape.memory(dact_narrow_), compute_, width_), thread);
    gather(routes, block, x, rows);
    gather(routes, block, dout, dy);
    activate(gates, act);
    down_.backward(tape, expert, dy, dact, thread);
    auto* dweight = reinterpret_cast<float*>(tape.memory(dweight_).data());
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

  // What multiplies f_e in the gradient of the load-balancing loss: the cross-entropy is summed
  // over targets here, so a loss beside its mean counts once a target.
  double balance_factor() const {
    if (options_.router_loss == 0) return 0;
    size_t targets = 0;
    for (const int32_t target : inputs_.targets) targets += target >= 0 ? 1 : 0;
    return options_.router_loss * static_cast<double>(targets * options_.experts) /
           static_cast<double>(counts_->tokens * counts_->layers);
  }

  // dlogits of a token and what they add to dx.
  void router_backward(const Tape& tape, const Routes& routes, double balance, size_t token,
                       View2<float> dx) const {
    const size_t experts = options_.experts;
    const auto* dweight = reinterpret_cast<const float*>(tape.memory(dweight_).data());
    float* dlogits = reinterpret_cast<float*>(tape.memory(dlogits_).data()) + token * experts;
    std::fill_n(dlogits, experts, 0.0F);
    float mean = 0;
    for (size_t i = 0; i < options_.experts_per_token; ++i)
      mean += routes.weight[slot(token, i)] * dweight[slot(token, i)];
    for (size_t i = 0; i < options_.experts_per_token; ++i)
      dlogits[routes.chosen[slot(token, i)]] =
          routes.weight[slot(token, i)] * (dweight[slot(token, i)] - mean);
    if (balance != 0) add_balance(routes.logits + token * experts, balance, dlogits);
    for (size_t e = 0; e < experts; ++e) {
      if (dlogits[e] == 0) continue;
      const View1<const float> weight = router_.values[e];
      for (size_t i = 0; i < hidden_; ++i) dx[token][i] += dlogits[e] * weight[i];
    }
  }

  // The gradient of balance * sum_e f_e softmax_e(logits).
  void add_balance(const float* logits, double balance, float* dlogits) const {
    const size_t experts = options_.experts;
    const double highest = *std::max_element(logits, logits + experts);
    double sum = 0, mean = 0;
    for (size_t e = 0; e < experts; ++e) {
      const double weight = std::exp(logits[e] - highest);
      sum += weight;
      mean += weight * counts_->share(e);
    }
    for (size_t e = 0; e < experts; ++e)
      dlogits[e] += static_cast<float>(balance * std::exp(logits[e] - highest) / sum *
                                       (counts_->share(e) - mean / sum));
  }

  // drouter[e] += sum over tokens of dlogits[t, e] x[t], for the columns of one unit.
  template <class T>
  void router_gradient(const Tape& tape, View2<const T> x, size_t unit) const {
    const auto* dlogits = reinterpret_cast<const float*>(tape.memory(dlogits_).data());
    const size_t begin = unit * kUnitColumns, count = std::min(kUnitColumns, hidden_ - begin);
    for (size_t t = 0; t < x.rows; ++t) {
      float row[kUnitColumns];
      for (size_t i = 0; i < count; ++i) row[i] = widened(x[t][begin + i]);
      for (size_t e = 0; e < options_.experts; ++e) {
        const float dlogit = dlogits[t * options_.experts + e];
        if (dlogit == 0) continue;
        float* gradient = router_.gradient[e].data + begin;
        for (size_t i = 0; i < count; ++i) gradient[i] += dlogit * row[i];
      }
    }
  }

  MoeOptions options_;
  const TokenInputs& inputs_;
  std::shared_ptr<RouterCounts> counts_;
  size_t layer_;
  Value x_, out_;
  size_t hidden_, width_;
  bool adds_ = false;
  DType compute_ = DType::f32;
  WeightRef router_;
  StackProducts gate_up_, down_;
  const Matmul* router_product_;
  Scratch routes_, gates_;
  Scratch wide_x_, forward_rows_, forward_act_, results_;
  Scratch x_rows_, act_, dy_, dgates_, dx_rows_, dact_, dact_narrow_, dweight_, dlogits_;
};

}  // namespace

double RouterCounts::share(size_t expert) const {
  size_t sum = 0;
  for (size_t layer = 0; layer < layers; ++layer) sum += chosen[layer * experts + expert];
  return static_cast<double>(sum) / static_cast<double>(layers * tokens);
}

Value mixture_of_experts(Recorder& recorder, const MoeOptions& options, const TokenInputs& inputs,
                         const std::shared_ptr<RouterCounts>& counts, size_t layer, Value x,
                         const MoeWeights& weights) {
  const Value out = recorder.tape.value(weights.router.values.cols, recorder.compute);
  auto operation =
      std::make_unique<MixtureOfExperts>(options, inputs, counts, layer, x, out, weights, recorder);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
  return out;
}

}  // namespace cairn
