// What PaTH attention is for particular maps, and tasks that it solves exactly with weights made by
// hand.
#include "cairn/attention/path/path.h"
#include "cairn/base/error.h"
#include "tests/attention/path_harness.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

// Softmax attention over logit(head, i, j) for one sequence, in float64.
template <class Logit>
std::vector<double> attend(const PathCase& c, Logit logit) {
  const auto v = c.v.values();
  const size_t group = c.problem.heads / c.problem.kv_heads, dim = c.problem.value_dim;
  std::vector<double> out(c.tokens * c.problem.heads * dim);
  for (size_t head = 0; head < c.problem.heads; ++head)
    for (size_t i = 0; i < c.tokens; ++i) {
      std::vector<double> weights;
      double sum = 0;
      for (size_t j = 0; j <= i; ++j) sum += weights.emplace_back(std::exp(logit(head, i, j)));
      for (size_t j = 0; j <= i; ++j)
        for (size_t n = 0; n < dim; ++n)
          out[(i * c.problem.heads + head) * dim + n] +=
              weights[j] / sum * v[(j * c.problem.kv_heads + head / group) * dim + n];
    }
  return out;
}

// scale * q_i m k_j for a matrix given by its action on k.
template <class Map>
double score(const PathCase& c, size_t head, size_t i, size_t j, Map map) {
  const size_t dim = c.problem.dim, group = c.problem.heads / c.problem.kv_heads;
  std::vector<double> key(dim);
  for (size_t n = 0; n < dim; ++n) key[n] = c.k.get(j, head / group * dim + n);
  map(key);
  double sum = 0;
  for (size_t n = 0; n < dim; ++n) sum += key[n] * c.q.get(i, head * dim + n);
  return sum / std::sqrt(static_cast<double>(dim));
}

constexpr auto kStay = [](std::vector<double>&) {};

TEST(PathIdentity, WithoutStrengthItIsSoftmaxWithoutPositions) {
  ThreadTeam team(1);
  PathCase c({.heads = 2, .kv_heads = 1, .lengths = {200}, .low = 0, .high = 0});
  Problem p{.options = {"softmax", {{"position", std::string("none")}}}, .lengths = {200}};
  Case softmax(p);
  for (size_t t = 0; t < 200; ++t)
    for (size_t i = 0; i < 32; ++i) {
      softmax.q.set(t, i, c.q.get(t, i));
      if (i >= 16) continue;
      softmax.k.set(t, i, c.k.get(t, i));
      softmax.v.set(t, i, c.v.get(t, i));
    }
  c.forward(team);
  softmax.forward(team);
  EXPECT_LT(relative_error(c.out.values(), softmax.out.values()), 1e-6);
}

TEST(PathIdentity, WithoutStrengthButGatesItIsTheForgettingTransformer) {
  ThreadTeam team(1);
  PathCase c({.heads = 2, .kv_heads = 1, .lengths = {200}, .gate = true, .low = 0, .high = 0});
  c.forward(team);
  const auto expected = attend(c, [&](size_t head, size_t i, size_t j) {
    double gate = 0;
    for (size_t t = j + 1; t <= i; ++t) gate += c.log_gate.get(t, head);
    return score(c, head, i, j, kStay) + gate;
  });
  EXPECT_LT(relative_error(c.out.values(), expected), 1e-6);
}

TEST(PathIdentity, OneReflectionForAllTokensCountsParity) {
  ThreadTeam team(1);
  PathCase c({.heads = 2, .kv_heads = 1, .dim = 8, .lengths = {150}, .low = 2, .high = 2});
  std::vector<double> w(8);
  for (size_t i = 0; i < 8; ++i) w[i] = c.w.get(0, i);
  for (size_t t = 0; t < 150; ++t)
    for (size_t i = 0; i < 8; ++i) c.w.set(t, i, w[i]);
  c.forward(team);
  const auto expected = attend(c, [&](size_t head, size_t i, size_t j) {
    return score(c, head, i, j, [&](std::vector<double>& key) {
      if ((i - j) % 2 == 0) return;
      const double along = std::inner_product(w.begin(), w.end(), key.begin(), 0.0);
      for (size_t n = 0; n < key.size(); ++n) key[n] -= 2 * along * w[n];
    });
  });
  EXPECT_LT(relative_error(c.out.values(), expected), 1e-6);
}

// Two reflections are a rotation in their plane by twice the angle between them.
TEST(PathIdentity, FourReflectionsATokenAreRotaryPositions) {
  ThreadTeam team(1);
  PathCase c(
      {.heads = 1, .kv_heads = 1, .dim = 4, .products = 4, .lengths = {180}, .low = 2, .high = 2});
  const double angles[] = {1.0, 0.7};
  for (size_t t = 0; t < 180; ++t)
    for (size_t m = 0; m < 4; ++m)
      for (size_t i = 0; i < 4; ++i) {
        const double half = m % 2 == 0 ? 0 : angles[m / 2] / 2;
        const bool plane = i / 2 == m / 2;
        c.w.set(t * 4 + m, i, !plane ? 0 : (i % 2 == 0 ? std::cos(half) : std::sin(half)));
      }
  c.forward(team);
  const auto expected = attend(c, [&](size_t head, size_t i, size_t j) {
    return score(c, head, i, j, [&](std::vector<double>& key) {
      for (size_t n = 0; n < 2; ++n) {
        const double angle = angles[n] * static_cast<double>(i - j);
        const double x = key[2 * n], y = key[2 * n + 1];
        key[2 * n] = x * std::cos(angle) - y * std::sin(angle);
        key[2 * n + 1] = x * std::sin(angle) + y * std::cos(angle);
      }
    });
  });
  EXPECT_LT(relative_error(c.out.values(), expected), 1e-5);
}

TEST(PathCore, RefusesValuesThatAreNoMaps) {
  const auto message = [](auto spoil) {
    PathCase c({.lengths = {20}, .gate = true});
    spoil(c);
    try {
      check_path_values(c.inputs());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([](PathCase&) {}), "no error");
  EXPECT_THAT(message([](PathCase& c) { c.beta.set(7, 0, 2.01); }), HasSubstr("beta of row 7"));
  EXPECT_THAT(message([](PathCase& c) { c.beta.set(7, 0, -0.1); }), HasSubstr("0 to 2"));
  EXPECT_THAT(message([](PathCase& c) { c.w.set(3, 0, 1.5); }), HasSubstr("length of w"));
  EXPECT_THAT(message([](PathCase& c) { c.log_gate.set(3, 1, 0.1); }), HasSubstr("log_gate"));
  EXPECT_THAT(message([](PathCase& c) { c.k.set(3, 1, std::nan("")); }), HasSubstr("k of row 3"));
}

TEST(PathCore, SaysWhichShapeIsWrong) {
  ThreadTeam team(1);
  const auto message = [&](auto spoil) {
    PathCase c({.lengths = {20}, .gate = true});
    PathInputs in = c.inputs();
    AlignedBuffer workspace(path_workspace(in, 1));
    spoil(in);
    try {
      path_attention(in, c.out.view(), nullptr, {workspace.data(), workspace.size()}, team);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message([](PathInputs&) {}), "no error");
  EXPECT_THAT(message([](PathInputs& in) { in.w.tokens = 19; }), HasSubstr("w"));
  EXPECT_THAT(message([](PathInputs& in) { in.beta.cols = 2; }), HasSubstr("beta"));
  EXPECT_THAT(message([](PathInputs& in) { in.log_gate.rows = 1; }), HasSubstr("log_gate"));
  EXPECT_THAT(message([](PathInputs& in) { in.products = 5; }), HasSubstr("1 to 4"));
  EXPECT_THAT(message([](PathInputs& in) {
                in.q.heads = 3;
                in.k.heads = 2;
              }),
              HasSubstr("heads"));
  EXPECT_THAT(message([](PathInputs& in) { in.offsets.size = 1; }), HasSubstr("offsets"));
}

// Flip-flop language modelling (Liu et al. 2023, arXiv:2306.00946): instructions w, r, i (0, 1, 2),
// each followed by a bit (3, 4); after r the bit that followed the last w.
struct FlipFlops {
  FlipFlops(size_t length, double ignored, uint64_t seed) {
    const RandomStream stream(seed, "flip-flops");
    int memory = 0;
    for (size_t t = 0; t < length; t += 2) {
      const double draw = stream.uniform(t), write = (1 - ignored) / 2;
      int instruction = draw < write ? 0 : draw < 2 * write ? 1 : 2;
      if (t == 0) instruction = 0;
      if (t + 2 == length) instruction = 1;
      int bit = static_cast<int>(stream.below(2, t, 1));
      if (instruction == 1) {
        bit = memory;
        reads.emplace_back(t, bit);
      }
      if (instruction == 0) memory = bit;
      tokens.insert(tokens.end(), {instruction, 3 + bit});
    }
  }
  std::vector<int> tokens;
  std::vector<std::pair<size_t, int>> reads;
};

// One layer and one head of size 4 that never errs. Axes of keys: fresh, stored, trash. An
// instruction swaps fresh with stored if the one before was w, else with trash; a bit projects out
// what was stored before, or the trash. Reads look along the stored axis.
class FlipFlopLayer {
 public:
  explicit FlipFlopLayer(const FlipFlops& data)
      : n(data.tokens.size()), x(n * 5), q(n * 4), k(n * 4), v(n), out(n) {
    for (size_t t = 0; t < n; ++t) {
      const int token = data.tokens[t];
      x[t * 5 + token] = 1;
      if (token >= 3) {
        k[t * 4 + 2] = 1;
        v[t] = token == 4 ? 1 : -1;
      }
      if (token == 1) q[t * 4] = -60;
    }
    values = {{1000, 0, 0, 0, 0, 0, 1000, 1000, 0, 0, 1000, 1000, 1000, 0, 0, 0, 0, 0, 0, 0},
              {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1},
              {1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0},  // the current token last
              {40, 40, 40, 0, 0},
              {0}};
    for (const auto& value : values) parameters.emplace_back(value.data(), value.size());
  }
  AttentionInputs inputs(size_t begin, size_t count) {
    return {.x = View2<float>(x.data() + begin * 5, count, 5),
            .q = View3<float>(q.data() + begin * 4, count, 1, 4),
            .k = View3<float>(k.data() + begin * 4, count, 1, 4),
            .v = View3<float>(v.data() + begin, count, 1, 1),
            .parameters = parameters};
  }
  size_t errors(const FlipFlops& data) const {
    size_t count = 0;
    for (const auto& [t, bit] : data.reads)
      if ((out[t] > 0) != (bit == 1) || std::abs(out[t]) < 0.9F) ++count;
    return count;
  }

  size_t n;
  std::vector<float> x, q, k, v, out;
  std::vector<std::vector<float>> values;
  std::vector<View1<const float>> parameters;
};

std::unique_ptr<AttentionMechanism> flip_flop_room() {
  return make_attention(
      {"path", {{"path_rank", int64_t{4}}}},
      {.hidden_size = 5, .heads = 1, .kv_heads = 1, .head_dim = 4, .value_dim = 1, .scale = 1},
      1 << 17);
}

TEST(PathTasks, HandMadeWeightsNeverErrOnFlipFlops) {
  ThreadTeam team(1);
  const auto room = flip_flop_room();
  size_t reads = 0, errors = 0;
  for (const double ignored : {0.8, 0.98, 0.1})
    for (const size_t length : {64, 512, 4096, 20000}) {
      const FlipFlops data(length, ignored, length);
      FlipFlopLayer layer(data);
      const AttentionMemory memory = room->memory(length, length, DType::f32, 1);
      AlignedBuffer saved(memory.saved), workspace(memory.workspace);
      const int32_t offsets[] = {0, static_cast<int32_t>(length)};
      const std::vector<int32_t> positions(length);
      room->forward(layer.inputs(0, length), {{offsets, 2}, {positions.data(), length}},
                    View3<float>(layer.out.data(), length, 1, 1), {saved.data(), saved.size()},
                    {workspace.data(), workspace.size()}, team);
      reads += data.reads.size();
      errors += layer.errors(data);
    }
  EXPECT_GT(reads, 6000U);
  EXPECT_EQ(errors, 0U);
}

TEST(PathTasks, HandMadeWeightsNeverErrInDecoding) {
  ThreadTeam team(1);
  const auto room = flip_flop_room();
  for (const size_t step : {1, 3, 50}) {
    const FlipFlops data(3000, 0.6, step);
    FlipFlopLayer layer(data);
    const auto cache = room->make_cache(3000, DType::f32);
    for (size_t t = 0; t < 3000; t += step)
      cache->append_and_attend(layer.inputs(t, step),
                               View3<float>(layer.out.data() + t, step, 1, 1), team);
    EXPECT_GT(data.reads.size(), 200U);
    EXPECT_EQ(layer.errors(data), 0U) << step;
  }
}

// Theorem 2.1 of the paper: after n swaps of five items the logit of the first token is n / 2 if
// they undo each other, at most -n / 2 if not.
TEST(PathTasks, TellsWhetherAThousandSwapsAreTheIdentity) {
  constexpr size_t kSwaps = 1000;
  ThreadTeam team(1);
  size_t wrong = 0, identities = 0;
  for (uint64_t word = 0; word < 100; ++word) {
    const RandomStream stream(word, "swaps");
    PathCase c({.heads = 1,
                .kv_heads = 1,
                .dim = 6,
                .value_dim = 1,
                .lengths = {kSwaps + 1},
                .scale = 1,
                .low = 2,
                .high = 2});
    std::vector<int> items = {0, 1, 2, 3, 4};
    for (size_t t = 0; t <= kSwaps; ++t) {
      for (size_t i = 0; i < 6; ++i) {
        c.k.set(t, i, t == 0 ? (i == 5 ? 1.0 : static_cast<double>(i + 1)) : 0);
        c.q.set(t, i, kSwaps * (i == 5 ? -54.5 : static_cast<double>(i + 1)));
        c.w.set(t, i, 0);
      }
      c.v.set(t, 0, t == 0 ? 1 : 0);
      if (t == 0) continue;
      // Half of the words are a word and its reverse.
      const bool mirrored = word % 2 == 0 && t > kSwaps / 2;
      const size_t draw = mirrored ? kSwaps + 1 - t : t;
      const size_t a = stream.below(5, draw), b = (a + 1 + stream.below(4, draw, 1)) % 5;
      c.w.set(t, a, std::sqrt(0.5));
      c.w.set(t, b, -std::sqrt(0.5));
      std::swap(items[a], items[b]);
    }
    c.forward(team);
    const bool identity = std::is_sorted(items.begin(), items.end());
    identities += identity ? 1 : 0;
    if ((c.out.get(kSwaps, 0) > 0.5) != identity) ++wrong;
  }
  EXPECT_GE(identities, 50U);
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace cairn::attention_test
