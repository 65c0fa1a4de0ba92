// The operations of the tape against a float64 composition of their definitions, whose gradient is
// taken by central differences.
#include "cairn/autograd/operations.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cairn/base/cpu.h"
#include "tests/support/numbers.h"

namespace cairn {
namespace {

struct Sizes {
  size_t tokens = 9, vocabulary = 11, width = 6, inner = 5;
  // With biases, scaled and normalised branches, gains stored less one, and GELU.
  bool varied = false;
};

// embedding -> norm -> [gate, up] -> gated unit -> + residual -> norm -> head, all weights in one
// vector.
class SmallNetwork {
 public:
  explicit SmallNetwork(const Sizes& sizes) : s(sizes) {
    const size_t sizes_of[] = {s.vocabulary * s.width,
                               s.width,
                               s.inner * s.width,
                               s.inner * s.width,
                               s.width * s.inner,
                               s.width,
                               s.vocabulary * s.width,
                               s.inner,
                               s.inner,
                               s.width};
    const size_t cols_of[] = {s.width, s.width, s.width, s.width, s.inner,
                              s.width, s.width, s.inner, s.inner, s.width};
    size_t offset = 0;
    for (size_t i = 0; i < (s.varied ? 10 : 7); ++i) {
      offsets.push_back(offset);
      rows.push_back(sizes_of[i] / cols_of[i]);
      cols.push_back(cols_of[i]);
      offset += align_up(sizes_of[i], 16);
    }
    weights = random_floats(offset, "weights", 0.6);
    gradients.assign(offset, 0.0F);
    const RandomStream random(3, "tokens");
    for (size_t t = 0; t < s.tokens; ++t) {
      tokens.push_back(static_cast<int32_t>(random.below(s.vocabulary, t)));
      targets.push_back(t % 4 == 3 ? -1 : static_cast<int32_t>(random.below(s.vocabulary, t, 1)));
    }
  }

  double train(int threads, DType compute, bool evaluate_only = false) {
    ThreadTeam team(threads, true);
    MatmulCache products(threads);
    Tape tape(s.tokens, threads);
    TokenInputs inputs;
    inputs.tokens = {tokens.data(), tokens.size()};
    inputs.targets = {targets.data(), targets.size()};
    LossResult result;
    Recorder recorder{tape, products, compute, s.tokens, "test"};
    const Value hidden = embedding(recorder, inputs, ref(0), s.varied ? kEmbeddingFactor : 1);
    const Value sum = s.varied ? varied_block(recorder, hidden) : block(recorder, hidden);
    cross_entropy_head(recorder, inputs, rms_norm(recorder, sum, ref(5), {1e-5F}), ref(6), result);
    tape.plan();
    tape.allocate();
    tape.forward(team, evaluate_only ? Tape::Mode::evaluation : Tape::Mode::training);
    if (!evaluate_only) tape.backward(team);
    counted = result.targets;
    return result.loss;
  }

  double reference_loss(const std::vector<double>& w) const {
    double loss = 0;
    for (size_t t = 0; t < s.tokens; ++t) {
      std::vector<double> h(s.width);
      for (size_t i = 0; i < s.width; ++i)
        h[i] = (s.varied ? kEmbeddingFactor : 1) *
               w[offsets[0] + static_cast<size_t>(tokens[t]) * s.width + i];
      const auto x = norm(h, w, 1, s.varied ? kVaried : NormOptions());
      std::vector<double> inner(s.inner), branch(s.width);
      for (size_t j = 0; j < s.inner; ++j) {
        const double g = dot(w, 2, j, x) + (s.varied ? w[offsets[7] + j] : 0);
        const double u = dot(w, 3, j, x) + (s.varied ? w[offsets[8] + j] : 0);
        inner[j] = (s.varied ? gelu(g) : g / (1 + std::exp(-g))) * u;
      }
      for (size_t i = 0; i < s.width; ++i) branch[i] = dot(w, 4, i, inner);
      if (s.varied) branch = norm(branch, w, 9);
      for (size_t i = 0; i < s.width; ++i) h[i] += (s.varied ? kBranchFactor : 1) * branch[i];
      const auto y = norm(h, w, 5);
      if (targets[t] < 0) continue;
      double total = 0;
      for (size_t v = 0; v < s.vocabulary; ++v) total += std::exp(dot(w, 6, v, y));
      loss += std::log(total) - dot(w, 6, static_cast<size_t>(targets[t]), y);
    }
    return loss;
  }

  std::vector<double> reference_gradient() const {
    std::vector<double> w(weights.begin(), weights.end());
    return central_differences(w, [&] { return reference_loss(w); });
  }

  Sizes s;
  std::vector<float> weights, gradients;
  std::vector<int32_t> tokens, targets;
  size_t counted = 0;

 private:
  static constexpr float kEmbeddingFactor = 1.5F, kBranchFactor = 0.6F;
  static constexpr NormOptions kVaried{1e-5F, 1.0F, 0.75F};

  Value block(Recorder& recorder, Value hidden) {
    const Value x = rms_norm(recorder, hidden, ref(1), {1e-5F});
    const Value gate_up = linear(recorder, x, {ref(2), ref(3)});
    return linear_residual(recorder, hidden, gated_unit(recorder, Gate::silu, gate_up), ref(4));
  }
  Value varied_block(Recorder& recorder, Value hidden) {
    const Value x = rms_norm(recorder, hidden, ref(1), kVaried);
    const Value gate_up = bias(recorder, linear(recorder, x, {ref(2), ref(3)}), {ref(7), ref(8)});
    const Value branch = linear(recorder, gated_unit(recorder, Gate::gelu_tanh, gate_up), {ref(4)});
    const Value normed = rms_norm(recorder, widen(recorder, branch), ref(9), {1e-5F});
    return residual(recorder, hidden, normed, kBranchFactor);
  }
  static double gelu(double g) {
    return 0.5 * g * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (g + 0.044715 * g * g * g)));
  }

  WeightRef ref(size_t i) {
    return {{&weights[offsets[i]], rows[i], cols[i]}, {&gradients[offsets[i]], rows[i], cols[i]}};
  }
  double dot(const std::vector<double>& w, size_t matrix, size_t row,
             const std::vector<double>& x) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += w[offsets[matrix] + row * x.size() + i] * x[i];
    return sum;
  }
  std::vector<double> norm(const std::vector<double>& x, const std::vector<double>& w, size_t gain,
                           const NormOptions& options = {}) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double r = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    std::vector<double> y;
    for (size_t i = 0; i < x.size(); ++i)
      y.push_back(x[i] * r * options.factor * (options.offset + w[offsets[gain] + i]));
    return y;
  }
  std::vector<size_t> offsets, rows, cols;
};

TEST(Operations, LossAndGradientsMatchFloat64AndCentralDifferences) {
  for (const bool varied : {false, true}) {
    SmallNetwork network({.varied = varied});
    const std::vector<double> w(network.weights.begin(), network.weights.end());
    EXPECT_NEAR(network.train(1, DType::f32), network.reference_loss(w), 1e-5);
    EXPECT_EQ(network.counted, 7U);
    EXPECT_LE(norm_error(network.gradients, network.reference_gradient()), 2e-6);
  }
}

TEST(Operations, EvaluationGivesTheLossOfTraining) {
  SmallNetwork network({.tokens = 300, .vocabulary = 1500, .width = 24, .inner = 40});
  EXPECT_EQ(network.train(2, DType::f32), network.train(2, DType::f32, true));
}

TEST(Operations, GradientsAddUpOverCalls) {
  SmallNetwork network({});
  network.train(1, DType::f32);
  const auto once = network.gradients;
  network.train(1, DType::f32);
  for (size_t i = 0; i < once.size(); ++i)
    EXPECT_NEAR(network.gradients[i], 2 * once[i], 1e-5 * std::max(1.0F, std::abs(once[i])));
}

TEST(Operations, GiveTheSameBitsWith1And3Threads) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    if (compute == DType::bf16 && usable_isa() < Isa::avx512_bf16) continue;
    for (const bool varied : {false, true}) {
      const Sizes sizes{
          .tokens = 700, .vocabulary = 1100, .width = 64, .inner = 96, .varied = varied};
      SmallNetwork one(sizes), three(sizes);
      EXPECT_EQ(one.train(1, compute), three.train(3, compute));
      EXPECT_EQ(one.gradients, three.gradients);
    }
  }
}

TEST(Operations, Bf16StaysCloseToF32) {
  if (usable_isa() < Isa::avx512_bf16) GTEST_SKIP() << "no bf16 products on this processor";
  for (const bool varied : {false, true}) {
    const Sizes sizes{
        .tokens = 256, .vocabulary = 2100, .width = 64, .inner = 96, .varied = varied};
    SmallNetwork exact(sizes), rounded(sizes);
    const double loss = exact.train(2, DType::f32);
    EXPECT_NEAR(rounded.train(2, DType::bf16), loss, 5e-3 * loss);
    EXPECT_LE(norm_error(rounded.gradients, exact.gradients), 3e-2);
  }
}

TEST(Tape, CountsTheMemoryThatItTakes) {
  Tape tape(256, 2);
  MatmulCache products(2);
  TokenInputs inputs;
  LossResult result;
  Recorder recorder{tape, products, DType::f32, 256, "test"};
  const WeightRef matrix{{nullptr, 40, 24}, {nullptr, 40, 24}};
  const WeightRef gain{{nullptr, 1, 24}, {nullptr, 1, 24}};
  cross_entropy_head(recorder, inputs,
                     rms_norm(recorder, embedding(recorder, inputs, matrix), gain, {1e-5F}), matrix,
                     result);
  tape.plan();
  // Hidden state, normed state and their gradients, the logits of a block: at least that.
  EXPECT_GE(tape.bytes(), 256 * (24 * 4 * 2 + 40 * 4));
  EXPECT_LE(tape.bytes(), 4 * 256 * (24 * 4 * 4 + 40 * 4) + 65536);
}

}  // namespace
}  // namespace cairn
