#include "cairn/train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cairn/base/hash.h"
#include "cairn/base/random.h"
#include "golden.h"

namespace cairn {
namespace {

Parameter parameter(size_t offset, size_t size, ParameterGroup group) {
  Parameter p;
  p.spec.shape = {size};
  p.spec.group = group;
  p.offset = offset;
  p.size = size;
  return p;
}

TEST(Optimizer, FollowsTheIndependentTrajectoryFor100Steps) {
  ThreadTeam team(1);
  const std::vector<Parameter> parameters = {parameter(0, 4, ParameterGroup::matrix),
                                             parameter(16, 2, ParameterGroup::vector)};
  Optimizer optimizer(parameters, 32, {}, team);
  std::vector<float> w(32), g(32);
  const size_t place[6] = {0, 1, 2, 3, 16, 17};
  const float start[6] = {0.5F, -1.25F, 2.0F, 0.03125F, 1.0F, -0.75F};
  for (int i = 0; i < 6; ++i) w[place[i]] = start[i];
  const auto rows = read_golden("adamw.csv");
  ASSERT_EQ(rows.size(), 100U);
  for (const auto& row : rows) {
    const double t = std::stod(row[0]), amplitude = std::stod(row[2]);
    for (int i = 0; i < 6; ++i)
      g[place[i]] = static_cast<float>(std::sin(1.7 * i + 0.3 * t) * amplitude);
    const Optimizer::Gradient gradient = optimizer.measure(g, 640);
    EXPECT_NEAR(gradient.norm, std::stod(row[3]), 1e-6 * gradient.norm);
    optimizer.step(w, g, 640, gradient, std::stod(row[1]));
    for (int i = 0; i < 6; ++i) {
      const double expected = std::stod(row[static_cast<size_t>(4 + i)]);
      ASSERT_NEAR(w[place[i]], expected, 1e-6 * (1 + std::abs(expected))) << "step " << t;
    }
  }
  for (const float x : g) EXPECT_EQ(x, 0.0F);
}

// Weights hash after a few steps of a block larger than many chunks.
uint64_t trained_hash(int threads) {
  ThreadTeam team(threads, true);
  constexpr size_t kSize = 300'000, kBlock = kSize + 16;
  const std::vector<Parameter> parameters = {parameter(0, kSize, ParameterGroup::matrix),
                                             parameter(kSize, 7, ParameterGroup::vector)};
  Optimizer optimizer(parameters, kBlock, {}, team);
  const RandomStream random(3, "optimizer test");
  std::vector<float> w(kBlock), g(kBlock);
  for (uint64_t step = 0; step < 3; ++step) {
    for (size_t i = 0; i < kSize + 7; ++i) g[i] = static_cast<float>(random.normal(i, step));
    optimizer.step(w, g, 10, optimizer.measure(g, 10), 1e-3);
  }
  return hash64(w.data(), w.size() * sizeof(float));
}

TEST(Optimizer, GivesTheSameBitsWith1And2And5Threads) {
  const uint64_t one = trained_hash(1);
  EXPECT_EQ(one, trained_hash(2));
  EXPECT_EQ(one, trained_hash(5));
}

TEST(Optimizer, DoesNotDecayVectors) {
  ThreadTeam team(1);
  const std::vector<Parameter> parameters = {parameter(0, 1, ParameterGroup::matrix),
                                             parameter(16, 1, ParameterGroup::vector),
                                             parameter(32, 1, ParameterGroup::embedding)};
  Optimizer optimizer(parameters, 48, {.weight_decay = 0.5}, team);
  std::vector<float> w(48), g(48);
  w[0] = w[16] = w[32] = 1;
  optimizer.step(w, g, 1, optimizer.measure(g, 1), 0.1);
  EXPECT_FLOAT_EQ(w[0], 0.95F);
  EXPECT_EQ(w[16], 1.0F);
  EXPECT_FLOAT_EQ(w[32], 0.95F);
}

TEST(Optimizer, TellsWhenAGradientIsNotFinite) {
  ThreadTeam team(1);
  const std::vector<Parameter> parameters = {parameter(0, 40, ParameterGroup::matrix)};
  Optimizer optimizer(parameters, 48, {}, team);
  std::vector<float> g(48);
  g[39] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(std::isfinite(optimizer.measure(g, 1).norm));
}

TEST(Optimizer, MeasuresTheMeanGradientNotTheSum) {
  ThreadTeam team(1);
  const std::vector<Parameter> parameters = {parameter(0, 2, ParameterGroup::matrix)};
  Optimizer optimizer(parameters, 16, {.clip = 2}, team);
  std::vector<float> g(16);
  g[0] = 3;
  g[1] = 4;
  EXPECT_DOUBLE_EQ(optimizer.measure(g, 1).norm, 5);
  EXPECT_NEAR(optimizer.measure(g, 1).clip_factor, 0.4, 1e-6);
  EXPECT_DOUBLE_EQ(optimizer.measure(g, 5).norm, 1);
  EXPECT_DOUBLE_EQ(optimizer.measure(g, 5).clip_factor, 1);
}

}  // namespace
}  // namespace cairn
