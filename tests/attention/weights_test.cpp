// What is shown of attention is what attention does.
#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

struct Shown {
  std::string name;
  AttentionOptions options;
  // Extras of the room.
  std::vector<std::string> extras;
};

std::vector<Shown> rooms() {
  return {
      {"rope", {"softmax", {}}, {}},
      {"alibi", {"softmax", {{"position", std::string("alibi")}, {"window", int64_t{9}}}}, {}},
      {"convolved", {"softmax", {{"qk_conv", int64_t{3}}}}, {}},
      {"fox", {"fox", {{"gate_bias", 2.0}}}, {"gate"}},
      {"stick", {"stick_breaking", {{"remainder", std::string("none")}}}, {"stick"}},
      {"path", {"path", {}}, {"length", "direction"}},
      {"path_fox", {"path_fox", {{"path_nh", int64_t{2}}}}, {"length", "direction", "gate"}},
      {"bias", {"relative_bias", {}}, {}},
      {"both ways", {"relative_bias", {{"mask", std::string("bidirectional")}}}, {}},
      {"cross", {"relative_bias", {{"mask", std::string("cross")}}}, {}},
  };
}

Problem problem_of(const Shown& room) {
  Problem p;
  p.options = room.options;
  p.heads = 4;
  p.kv_heads = 2;
  p.value_dim = 24;
  p.lengths = {70};
  if (crosses(room.options)) p.key_lengths = {90};
  return p;
}

// sum_j weights_ij v_j [tokens, heads, value_dim]
std::vector<double> gathered(const Case& c, const AttentionWeights& w) {
  const Problem& p = c.problem;
  const std::vector<double> v = c.v.values();
  std::vector<double> out(c.tokens * p.heads * p.value_dim);
  for (size_t head = 0; head < p.heads; ++head)
    for (size_t query = 0; query < c.tokens; ++query)
      for (size_t key = 0; key < c.keys; ++key)
        for (size_t i = 0; i < p.value_dim; ++i) {
          const size_t own = head / (p.heads / p.kv_heads);
          out[(query * p.heads + head) * p.value_dim + i] +=
              w.weights[w.at(head, query, key)] * v[(key * p.kv_heads + own) * p.value_dim + i];
        }
  return out;
}

TEST(AttentionWeights, OfEveryRoomGatherItsOutput) {
  ThreadTeam team(1);
  for (const Shown& room : rooms()) {
    Case c(problem_of(room));
    const AttentionWeights w = c.attention->reference_weights(c.reference_inputs(), c.layout());
    const std::vector<double> out = gathered(c, w);
    EXPECT_LE(relative_error(out, c.attention->reference_forward(c.reference_inputs(), c.layout())),
              1e-12)
        << room.name;
    c.forward(team);
    EXPECT_LE(relative_error(c.out.values(), out), 1e-5) << room.name;
  }
}

TEST(AttentionWeights, AreSharesOfTheTokensInSight) {
  for (const Shown& room : rooms()) {
    Case c(problem_of(room));
    const AttentionWeights w = c.attention->reference_weights(c.reference_inputs(), c.layout());
    for (size_t head = 0; head < w.heads; ++head)
      for (size_t query = 0; query < w.tokens; ++query) {
        double sum = 0;
        ASSERT_EQ(w.keys, c.keys);
        const bool causal = c.attention->mask() == AttentionMask::causal;
        for (size_t key = 0; key < w.keys; ++key) {
          const double weight = w.weights[w.at(head, query, key)];
          const bool seen = !causal || key <= query;
          EXPECT_TRUE(seen ? weight >= 0 && weight <= 1 : weight == 0) << room.name;
          sum += weight;
        }
        if (room.name == "stick")
          EXPECT_LE(sum, 1 + 1e-12);
        else
          EXPECT_NEAR(sum, 1, 1e-12) << room.name;
      }
  }
}

TEST(AttentionWeights, ExtrasLieInTheirRange) {
  for (const Shown& room : rooms()) {
    Case c(problem_of(room));
    const AttentionWeights w = c.attention->reference_weights(c.reference_inputs(), c.layout());
    ASSERT_EQ(w.extras.size(), room.extras.size()) << room.name;
    for (size_t e = 0; e < w.extras.size(); ++e) {
      EXPECT_EQ(w.extras[e].name, room.extras[e]);
      ASSERT_EQ(w.extras[e].values.size(), w.weights.size());
      bool varies = false;
      for (const double value : w.extras[e].values) {
        EXPECT_GE(value, w.extras[e].lowest - 1e-12) << room.name << " " << w.extras[e].name;
        EXPECT_LE(value, 1 + 1e-12) << room.name << " " << w.extras[e].name;
        varies = varies || (value > 0.01 && value < 0.99);
      }
      EXPECT_TRUE(varies) << room.name << " " << w.extras[e].name;
    }
  }
}

TEST(AttentionWeights, TheStickIsWhatNewerKeysLeft) {
  Case c(problem_of({"", {"stick_breaking", {}}, {}}));
  const AttentionWeights w = c.attention->reference_weights(c.reference_inputs(), c.layout());
  const std::vector<double>& stick = w.extras.front().values;
  for (size_t query = 1; query < w.tokens; ++query) {
    double left = 1;
    for (size_t key = query; key-- > 0;) {
      EXPECT_NEAR(stick[w.at(1, query, key)], left, 1e-12);
      left -= w.weights[w.at(1, query, key)];
    }
  }
}

// Two maps along one direction at strength 2 are two reflections: the query comes back as it was.
TEST(AttentionWeights, TheQueryThatIsReflectedTwiceIsItselfAgain) {
  Problem p = problem_of({"", {"path", {{"path_conv", int64_t{0}}}}, {}});
  p.heads = p.kv_heads = 1;
  p.lengths = {3};
  Case c(p);
  auto in = c.reference_inputs();
  const auto specs = c.attention->parameters();
  for (size_t i = 0; i < specs.size(); ++i)
    if (specs[i].name == "bt_proj.bias")
      in.parameters[i].assign(1, 40);
    else if (specs[i].name == "bt_proj.weight")
      std::fill(in.parameters[i].begin(), in.parameters[i].end(), 0.0);
  std::fill(in.x.begin(), in.x.end(), 0.3);  // every token the same map
  const AttentionWeights w = c.attention->reference_weights(in, c.layout());
  const auto extra = [&](size_t e, size_t key) { return w.extras[e].values[w.at(0, 2, key)]; };
  for (size_t key = 0; key < 3; ++key) EXPECT_NEAR(extra(0, key), 1, 1e-4);  // lengths stay
  EXPECT_NEAR(extra(1, 2), 1, 1e-12);
  EXPECT_LT(extra(1, 1), 0.9999);
  EXPECT_NEAR(extra(1, 0), 1, 1e-4);
}

TEST(AttentionWeights, AreOfOneSequence) {
  Problem p = problem_of(rooms().front());
  p.lengths = {3, 4};
  Case c(p);
  EXPECT_THROW(c.attention->reference_weights(c.reference_inputs(), c.layout()), Error);
}

}  // namespace
}  // namespace cairn::attention_test
