// The attention nodes of the tape: a small encoder-decoder against a float64 composition of the
// definitions, whose gradient is taken by central differences.
#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <numeric>

#include "cairn/autograd/operations.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "tests/support/numbers.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using Rows = std::vector<double>;  // [tokens, cols]

struct Stream {
  Stream(const std::vector<int>& lengths, size_t vocabulary, std::string_view name)
      : random(3, name) {
    for (const int length : lengths) {
      offsets.push_back(offsets.back() + length);
      for (int i = 0; i < length; ++i) positions.push_back(i);
    }
    for (size_t t = 0; t < positions.size(); ++t)
      tokens.push_back(static_cast<int32_t>(random.below(vocabulary, t)));
  }
  TokenLayout layout() const {
    return {{offsets.data(), offsets.size()}, {positions.data(), positions.size()}};
  }
  RandomStream random;
  std::vector<int32_t> offsets{0}, positions, tokens;
};

// The encoder has a layer of attention. Each of the decoder's two has attention to its own tokens
// and to the encoder's output, which both read; both share one table of biases.
class EncoderDecoder {
 public:
  static constexpr size_t kVocabulary = 11, kWidth = 6, kHeads = 2, kDim = 3, kLayers = 2;

  EncoderDecoder(const std::vector<int>& source_lengths, const std::vector<int>& lengths)
      : source(source_lengths, kVocabulary, "source"), target(lengths, kVocabulary, "target") {
    add("embedding", kVocabulary, kWidth);
    for (const char* gain : {"norm", "encoder.norm"}) add(gain, 1, kWidth);
    for (const char* table : {"encoder.bias", "decoder.bias"}) add(table, 8, kHeads);
    std::vector<std::string> blocks{"encoder."};
    for (size_t i = 0; i < kLayers; ++i) {
      const std::string layer = "layer" + std::to_string(i);
      blocks.insert(blocks.end(), {layer + ".self.", layer + ".cross."});
    }
    for (const std::string& block : blocks)
      for (const char* matrix : {"q", "k", "v", "o"}) add(block + matrix, kWidth, kWidth);
    weights = random_floats(weights.size(), "weights", 0.6);
    gradients.assign(weights.size(), 0.0F);
    for (size_t t = 0; t < target.tokens.size(); ++t)
      targets.push_back(t % 4 == 3 ? -1
                                   : static_cast<int32_t>(target.random.below(kVocabulary, t, 1)));
    for (const auto& [mask, mechanism] :
         {std::pair("causal", &causal_), {"bidirectional", &both_}, {"cross", &cross_}}) {
      AttentionOptions options{"relative_bias", {{"mask", std::string(mask)}}};
      if (mechanism != &cross_)
        options.values.insert({{"buckets", int64_t{8}}, {"max_distance", int64_t{9}}});
      *mechanism = make_attention(options,
                                  {.hidden_size = kWidth,
                                   .heads = kHeads,
                                   .kv_heads = kHeads,
                                   .head_dim = kDim,
                                   .value_dim = kDim,
                                   .scale = 1},
                                  64);
    }
  }

  double train(int threads, DType compute, Tape::Gradients kept = Tape::Gradients::elsewhere) {
    ThreadTeam team(threads, true);
    MatmulCache products(threads);
    LossResult result;
    const auto planned = [&](float* into) {
      auto tape = std::make_unique<Tape>(target.tokens.size(), threads);
      record(*tape, products, compute, into, result);
      tape->plan(kept, kept == Tape::Gradients::elsewhere ? 0 : gradients.size() * sizeof(float));
      return tape;
    };
    auto tape = planned(gradients.data());
    if (kept == Tape::Gradients::elsewhere) {
      tape->allocate();
      run(*tape, team);
    } else {
      AlignedBuffer memory(tape->bytes());
      const std::span<float> block = memory.as<float>().first(gradients.size());
      tape = planned(block.data());
      tape->allocate(std::move(memory));
      run(*tape, team);
      gradients.assign(block.begin(), block.end());
    }
    return result.loss;
  }

  double reference_loss(const std::vector<double>& w) const {
    Rows encoded = embed(w, source);
    add_to(encoded,
           project(w, "encoder.o", self(w, "encoder.", "encoder.bias", *both_, source, encoded)));
    encoded = norm(w, "encoder.norm", encoded);
    Rows hidden = embed(w, target);
    for (size_t i = 0; i < kLayers; ++i) {
      const std::string layer = "layer" + std::to_string(i);
      add_to(hidden, project(w, layer + ".self.o",
                             self(w, layer + ".self.", "decoder.bias", *causal_, target, hidden)));
      TokenLayout layout = target.layout();
      layout.key_offsets = source.layout().offsets;
      const auto mixed =
          cross_->reference_forward({{},
                                     project(w, layer + ".cross.q", norm(w, "norm", hidden)),
                                     project(w, layer + ".cross.k", encoded),
                                     project(w, layer + ".cross.v", encoded),
                                     {}},
                                    layout);
      add_to(hidden, project(w, layer + ".cross.o", mixed));
    }
    return cross_entropy(w, norm(w, "norm", hidden));
  }

  std::vector<double> reference_gradient() const {
    std::vector<double> w(weights.begin(), weights.end());
    return central_differences(w, [&] { return reference_loss(w); });
  }
  // Of all weights, without what lies between them in memory.
  std::vector<double> all_gradients() const {
    std::vector<double> all;
    for (const auto& [name, matrix] : matrices_)
      for (const double value : gradient_of(name)) all.push_back(value);
    return all;
  }
  std::vector<double> gradient_of(const std::string& name) const {
    const Matrix& m = matrices_.at(name);
    return {gradients.begin() + static_cast<ptrdiff_t>(m.offset),
            gradients.begin() + static_cast<ptrdiff_t>(m.offset + m.rows * m.cols)};
  }

  Stream source, target;
  std::vector<int32_t> targets;
  std::vector<float> weights, gradients;

 private:
  struct Matrix {
    size_t offset, rows, cols;
  };

  void add(const std::string& name, size_t rows, size_t cols) {
    matrices_[name] = {weights.size(), rows, cols};
    weights.resize(weights.size() + align_up(rows * cols, 16));
  }

  // ---- on the tape ----
  static void run(Tape& tape, ThreadTeam& team) {
    tape.forward(team, Tape::Mode::training);
    tape.backward(team);
  }
  WeightRef ref(const std::string& name) {
    const Matrix& m = matrices_.at(name);
    return {{&weights[m.offset], m.rows, m.cols},
            {gradient_base_ + m.offset, m.rows, m.cols},
            {m.offset * sizeof(float), m.rows * m.cols * sizeof(float)}};
  }
  Value attend(Recorder& recorder, const std::string& block, const std::string& table,
               const AttentionMechanism& mechanism, const TokenInputs& of, Value hidden) {
    const Value x = rms_norm(recorder, hidden, ref("norm"), {1e-5F});
    const Value qkv = linear(recorder, x, {ref(block + "q"), ref(block + "k"), ref(block + "v")});
    const Value mixed = attention(recorder, mechanism, of, qkv, x, {ref(table)});
    return linear_residual(recorder, hidden, mixed, ref(block + "o"));
  }
  void record(Tape& tape, MatmulCache& products, DType compute, float* into, LossResult& result) {
    gradient_base_ = into;
    read_ = {.tokens = {source.tokens.data(), source.tokens.size()},
             .targets = {},
             .layout = source.layout()};
    written_ = {.tokens = {target.tokens.data(), target.tokens.size()},
                .targets = {targets.data(), targets.size()},
                .layout = target.layout()};
    Recorder recorder{tape, products, compute, target.tokens.size(), "test"};
    Value encoded = embedding(recorder, read_, ref("embedding"));
    encoded = attend(recorder, "encoder.", "encoder.bias", *both_, read_, encoded);
    encoded = rms_norm(recorder, encoded, ref("encoder.norm"), {1e-5F});
    Value hidden = embedding(recorder, written_, ref("embedding"));
    for (size_t i = 0; i < kLayers; ++i) {
      const std::string layer = "layer" + std::to_string(i), block = layer + ".cross.";
      hidden = attend(recorder, layer + ".self.", "decoder.bias", *causal_, written_, hidden);
      const Value x = rms_norm(recorder, hidden, ref("norm"), {1e-5F});
      const Value q = linear(recorder, x, {ref(block + "q")});
      const Value kv = linear(recorder, encoded, {ref(block + "k"), ref(block + "v")});
      const Value mixed = cross_attention(recorder, *cross_, written_, read_, q, kv, {});
      hidden = linear_residual(recorder, hidden, mixed, ref(block + "o"));
    }
    cross_entropy_head(recorder, written_, rms_norm(recorder, hidden, ref("norm"), {1e-5F}),
                       ref("embedding"), result);
  }

  // ---- in float64 ----
  const double* at(const std::vector<double>& w, const std::string& name) const {
    return w.data() + matrices_.at(name).offset;
  }
  Rows embed(const std::vector<double>& w, const Stream& stream) const {
    Rows rows;
    for (const int32_t token : stream.tokens)
      rows.insert(rows.end(), at(w, "embedding") + static_cast<size_t>(token) * kWidth,
                  at(w, "embedding") + static_cast<size_t>(token + 1) * kWidth);
    return rows;
  }
  static void add_to(Rows& rows, const Rows& more) {
    for (size_t i = 0; i < rows.size(); ++i) rows[i] += more[i];
  }
  Rows project(const std::vector<double>& w, const std::string& name, const Rows& x) const {
    Rows y;
    for (size_t row = 0; row < x.size(); row += kWidth)
      for (size_t out = 0; out < kWidth; ++out)
        y.push_back(std::inner_product(&x[row], &x[row] + kWidth, at(w, name) + out * kWidth, 0.0));
    return y;
  }
  Rows norm(const std::vector<double>& w, const std::string& gain, Rows x) const {
    for (size_t row = 0; row < x.size(); row += kWidth) {
      const double squares = std::inner_product(&x[row], &x[row] + kWidth, &x[row], 0.0);
      const double r = 1 / std::sqrt(squares / kWidth + 1e-5);
      for (size_t i = 0; i < kWidth; ++i) x[row + i] *= r * at(w, gain)[i];
    }
    return x;
  }
  Rows self(const std::vector<double>& w, const std::string& block, const std::string& table,
            const AttentionMechanism& mechanism, const Stream& stream, const Rows& hidden) const {
    const Rows x = norm(w, "norm", hidden);
    return mechanism.reference_forward(
        {{},
         project(w, block + "q", x),
         project(w, block + "k", x),
         project(w, block + "v", x),
         {{at(w, table), at(w, table) + matrices_.at(table).rows * kHeads}}},
        stream.layout());
  }
  double cross_entropy(const std::vector<double>& w, const Rows& x) const {
    double loss = 0;
    for (size_t t = 0; t < targets.size(); ++t) {
      if (targets[t] < 0) continue;
      const auto logit = [&](size_t token) {
        return std::inner_product(&x[t * kWidth], &x[t * kWidth] + kWidth,
                                  at(w, "embedding") + token * kWidth, 0.0);
      };
      double total = 0;
      for (size_t v = 0; v < kVocabulary; ++v) total += std::exp(logit(v));
      loss += std::log(total) - logit(static_cast<size_t>(targets[t]));
    }
    return loss;
  }

  std::map<std::string, Matrix> matrices_;
  std::unique_ptr<AttentionMechanism> causal_, both_, cross_;
  float* gradient_base_ = nullptr;
  TokenInputs read_, written_;
};

// The rows that the shorter stream has left are a sequence of their own, which the other lacks.
TEST(CrossAttention, LossAndGradientsOfBothStreamsMatchFloat64) {
  EncoderDecoder network({6, 4, 0}, {3, 5, 2});
  const std::vector<double> w(network.weights.begin(), network.weights.end());
  EXPECT_NEAR(network.train(1, DType::f32), network.reference_loss(w), 1e-5);
  EXPECT_LE(norm_error(network.gradients, network.reference_gradient()), 5e-6);
  for (const char* name : {"encoder.q", "encoder.bias", "decoder.bias", "layer0.cross.k"})
    EXPECT_GT(norm_error(network.gradient_of(name), std::vector<double>(1)), 1e-3) << name;
}

TEST(CrossAttention, GivesTheSameBitsWith1And3ThreadsAndWhereverGradientsAreKept) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    if (compute == DType::bf16 && usable_isa() < Isa::avx512_bf16) continue;
    const std::vector<int> source{300, 0, 250, 90}, target{100, 140, 400, 0};
    EncoderDecoder one(source, target), three(source, target), kept(source, target);
    const double loss = one.train(1, compute);
    EXPECT_EQ(loss, three.train(3, compute));
    EXPECT_EQ(one.all_gradients(), three.all_gradients());
    EXPECT_EQ(loss, kept.train(2, compute, Tape::Gradients::replaced));
    EXPECT_EQ(one.all_gradients(), kept.all_gradients());
  }
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CrossAttention, IsKeptApartFromAttentionWithinAStream) {
  const AttentionGeometry geometry{
      .hidden_size = 8, .heads = 1, .kv_heads = 1, .head_dim = 8, .value_dim = 8};
  const auto softmax = make_attention({}, geometry, 16);
  const auto cross =
      make_attention({"relative_bias", {{"mask", std::string("cross")}}}, geometry, 16);
  Tape tape(16, 1);
  MatmulCache products(1);
  Recorder recorder{tape, products, DType::f32, 16, "decoder layer 2"};
  const TokenInputs inputs, source;
  const Value q = tape.value(8, DType::f32), kv = tape.value(16, DType::f32);
  const Value qkv = tape.value(24, DType::f32);
  const std::string apart =
      refusal([&] { cross_attention(recorder, *softmax, inputs, source, q, kv, {}); });
  EXPECT_THAT(apart, HasSubstr("decoder layer 2"));
  EXPECT_THAT(apart, HasSubstr("attention softmax"));
  const std::string within = refusal([&] { attention(recorder, *cross, inputs, qkv, {}, {}); });
  EXPECT_THAT(within, HasSubstr("attention relative_bias"));
}

}  // namespace
}  // namespace cairn
