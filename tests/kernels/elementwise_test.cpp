#include "cairn/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "cairn/base/error.h"
#include "cairn/kernels/activations.h"
#include "tests/support/numbers.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

float to_float(float x) {
  return x;
}
float to_float(bf16 x) {
  return x.to_float();
}
template <class T>
T from_float(float x) {
  if constexpr (std::is_same_v<T, float>)
    return x;
  else
    return bf16::from_float(x);
}

// Value and derivative of the activation of a gate.
std::pair<double, double> activation(Gate gate, double g) {
  if (gate == Gate::silu) {
    const double s = sigmoid(g);
    return {g * s, s * (1 + g * (1 - s))};
  }
  if (gate == Gate::relu) return {std::max(g, 0.0), g > 0 ? 1 : 0};
  const double c = std::sqrt(2 / std::acos(-1.0));
  const double t = std::tanh(c * (g + 0.044715 * g * g * g));
  return {0.5 * g * (1 + t),
          0.5 * (1 + t) + 0.5 * g * (1 - t * t) * c * (1 + 3 * 0.044715 * g * g)};
}

void expect_float64(Gate gate, size_t width, const char* target) {
  const size_t rows = 3;
  const auto in = random_floats(rows * 2 * width, "gate_up", 3.0);
  const auto dy = random_floats(rows * width, "dy");
  std::vector<double> y, din(in.size());
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < width; ++i) {
      const double u = in[r * 2 * width + width + i], d = dy[r * width + i];
      const auto [value, slope] = activation(gate, in[r * 2 * width + i]);
      y.push_back(value * u);
      din[r * 2 * width + i] = d * u * slope;
      din[r * 2 * width + width + i] = d * value;
    }
  }
  std::vector<float> found(rows * width), gradient(in.size());
  gated_unit(gate, View2<const float>{in.data(), rows, 2 * width}, {found.data(), rows, width});
  gated_unit_backward(gate, View2<const float>{in.data(), rows, 2 * width},
                      View2<const float>{dy.data(), rows, width},
                      {gradient.data(), rows, 2 * width});
  EXPECT_LE(max_error(found, y), 2e-6) << target << " width " << width;
  EXPECT_LE(max_error(gradient, din), 2e-6) << target << " width " << width;
}

TEST(GatedUnit, MatchesFloat64ForwardAndBackwardOnEveryTarget) {
  for_each_target([](const char* target) {
    for (const Gate gate : {Gate::silu, Gate::gelu_tanh, Gate::relu})
      for (const size_t width : {1, 5, 16, 47}) expect_float64(gate, width, target);
  });
}

TEST(GatedUnit, ExtremeGatesStayFinite) {
  const std::vector<float> in = {1e4F, -1e4F, 88.0F, -104.0F, 2.0F, 2.0F, 2.0F, 2.0F};
  const std::vector<float> dy(4, 1.0F);
  for (const Gate gate : {Gate::silu, Gate::gelu_tanh, Gate::relu}) {
    std::vector<float> y(4), din(8);
    gated_unit(gate, View2<const float>{in.data(), 1, 8}, {y.data(), 1, 4});
    gated_unit_backward(gate, View2<const float>{in.data(), 1, 8},
                        View2<const float>{dy.data(), 1, 4}, {din.data(), 1, 8});
    EXPECT_TRUE(all_finite(View1<const float>{y.data(), 4}));
    EXPECT_TRUE(all_finite(View1<const float>{din.data(), 8}));
    EXPECT_FLOAT_EQ(y[0], 2e4F);
  }
}

template <class T>
void expect_plain(Gate gate, size_t width, double tolerance, const char* target) {
  const size_t rows = 3, stride = width + 2;
  std::vector<T> in, dy;
  for (const float x : random_floats(rows * stride, "x", 3.0)) in.push_back(from_float<T>(x));
  for (const float x : random_floats(rows * stride, "dy")) dy.push_back(from_float<T>(x));
  std::vector<T> found(rows * stride), gradient(rows * stride);
  activation(gate, View2<const T>{in.data(), rows, width, stride},
             View2<T>{found.data(), rows, width, stride});
  activation_backward(gate, View2<const T>{in.data(), rows, width, stride},
                      View2<const T>{dy.data(), rows, width, stride},
                      View2<T>{gradient.data(), rows, width, stride});
  for (size_t r = 0; r < rows; ++r)
    for (size_t i = r * stride; i < r * stride + width; ++i) {
      const auto [value, slope] = activation(gate, to_float(in[i]));
      ASSERT_NEAR(to_float(found[i]), value, tolerance) << target << " width " << width;
      ASSERT_NEAR(to_float(gradient[i]), to_float(dy[i]) * slope, tolerance) << target;
    }
}

TEST(Activation, MatchesFloat64ForwardAndBackwardOnEveryTarget) {
  for_each_target([](const char* target) {
    for (const Gate gate : {Gate::silu, Gate::gelu_tanh, Gate::relu})
      for (const size_t width : {1, 5, 16, 47}) {
        expect_plain<float>(gate, width, 2e-6, target);
        expect_plain<bf16>(gate, width, 3e-2, target);
      }
  });
}

TEST(Activation, RefusesAnotherShape) {
  std::vector<float> x(6);
  EXPECT_THROW(
      activation(Gate::relu, View2<const float>{x.data(), 2, 3}, View2<float>{x.data(), 3, 2}),
      Error);
}

TEST(Scale, ScalesAndAddsOnEveryTarget) {
  for_each_target([](const char* target) {
    for (const size_t width : {1, 7, 33}) {
      const auto from = random_floats(2 * width, "from");
      auto sum = random_floats(2 * width, "sum"), scaled = from;
      std::vector<double> expected_sum, expected;
      for (size_t i = 0; i < from.size(); ++i) {
        expected.push_back(0.3F * from[i]);
        expected_sum.push_back(static_cast<double>(sum[i]) + 0.3F * from[i]);
      }
      scale(View2<const float>{from.data(), 2, width}, 0.3F, View2<float>{scaled.data(), 2, width});
      add_scaled(View2<const float>{from.data(), 2, width}, 0.3F, {sum.data(), 2, width});
      EXPECT_LE(max_error(scaled, expected), 1e-7) << target << " width " << width;
      EXPECT_LE(max_error(sum, expected_sum), 1e-6) << target << " width " << width;
    }
  });
}

TEST(Convert, RoundsLikeTheDefinitionOnEveryTarget) {
  std::vector<float> values = random_floats(1001, "values", 100.0);
  for (const uint32_t word : {0x7f800000U, 0xff800000U, 0x7fc00001U, 0x7f800001U, 0x3f808000U,
                              0x3f818000U, 0x3f808001U, 0x7f7fffffU, 0x80000000U}) {
    float value = 0;
    std::memcpy(&value, &word, sizeof value);
    values.push_back(value);
  }
  for_each_target([&](const char* target) {
    std::vector<bf16> found(values.size());
    convert(View2<const float>{values.data(), 1, values.size()},
            View2<bf16>{found.data(), 1, found.size()});
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(found[i].bits, bf16::from_float(values[i]).bits) << target << " " << values[i];
  });
}

TEST(MaxAndSumExp, MatchesFloat64IncludingLargeLogits) {
  for_each_target([](const char* target) {
    for (const size_t n : {1, 15, 16, 100, 1024}) {
      auto x = random_floats(n, "logits", 50.0);
      x[n / 2] += 1e4F;
      double max = -1e300, sum = 0;
      for (const float value : x) max = std::max(max, double{value});
      for (const float value : x) sum += std::exp(value - max);
      float found = 0;
      EXPECT_EQ(max_and_sum_exp({x.data(), n}, found), static_cast<float>(max)) << target;
      EXPECT_NEAR(found, sum, 1e-5 * sum) << target << " n " << n;
    }
  });
}

TEST(ExpMinus, WritesBf16BehindItsReadPosition) {
  for_each_target([](const char* target) {
    auto x = random_floats(77, "logits");
    std::vector<double> expected;
    for (const float value : x) expected.push_back(std::exp(double{value} - 0.5));
    auto* in_place = reinterpret_cast<bf16*>(x.data());
    exp_minus(View1<const float>{x.data(), 77}, 0.5F, in_place);
    const std::vector<bf16> found(in_place, in_place + 77);
    EXPECT_LE(max_error(found, expected), 1.0 / 256) << target;
  });
}

TEST(AllFinite, FindsASingleNanOrInfinityAnywhere) {
  for_each_target([](const char* target) {
    for (const size_t bad : {0, 15, 16, 36}) {
      std::vector<float> values(37, 1e38F);
      EXPECT_TRUE(all_finite(View1<const float>{values.data(), 37})) << target;
      values[bad] = std::numeric_limits<float>::infinity();
      EXPECT_FALSE(all_finite(View1<const float>{values.data(), 37})) << target << " " << bad;
      values[bad] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_FALSE(all_finite(View1<const float>{values.data(), 37})) << target << " " << bad;
    }
  });
}

TEST(FirstAbove, FindsEveryValueAboveTheLimitAndNanAndNoOther) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_each_target([&](const char* target) {
    for (const float limit : {-infinity, -1.0F, 0.5F})
      for (const size_t size : {0, 1, 15, 16, 37}) {
        std::vector<float> values(size, limit);  // equal is not above
        const View1<const float> view(values.data(), size);
        EXPECT_EQ(first_above(view, 0, limit), size) << target;
        for (size_t i = 0; i < size; ++i)
          for (const float found : {limit + 2, std::max(limit, 0.75F), infinity,
                                    std::numeric_limits<float>::quiet_NaN()}) {
            if (found == limit) continue;  // -infinity + 2
            values[i] = found;
            for (const size_t begin : {size_t{0}, i / 2, i})
              EXPECT_EQ(first_above(view, begin, limit), i) << target << " size " << size;
            EXPECT_EQ(first_above(view, i + 1, limit), size) << target;
            values[i] = limit;
          }
      }
  });
}

}  // namespace
}  // namespace cairn
