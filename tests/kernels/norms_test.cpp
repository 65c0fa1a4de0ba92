#include "cairn/kernels/norms.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "tests/support/numbers.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

struct NormCase {
  size_t rows, width, stride;
  std::vector<float> x, weight, dy;
  std::vector<double> y, dx, dweight;  // the definition, in float64
};

NormCase norm_case(size_t width, const NormOptions& options) {
  NormCase c{3, width, width + 5, {}, {}, {}, {}, {}, {}};
  c.x = random_floats(c.rows * c.stride, "x");
  c.weight = random_floats(width, "weight");
  c.dy = random_floats(c.rows * width, "dy");
  c.dweight.assign(width, 0);
  std::vector<double> gain;
  for (const float weight : c.weight)
    gain.push_back(options.factor * (static_cast<double>(options.offset) + weight));
  for (size_t r = 0; r < c.rows; ++r) {
    const float* x = &c.x[r * c.stride];
    double squares = 0, dot = 0;
    for (size_t i = 0; i < width; ++i) squares += double{x[i]} * x[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + options.eps);
    for (size_t i = 0; i < width; ++i) dot += double{c.dy[r * width + i]} * gain[i] * x[i];
    for (size_t i = 0; i < width; ++i) {
      const double dy = c.dy[r * width + i];
      c.y.push_back(x[i] * inverse * gain[i]);
      c.dx.push_back(inverse *
                     (dy * gain[i] - x[i] * inverse * inverse * dot / static_cast<double>(width)));
      c.dweight[i] += options.factor * dy * x[i] * inverse;
    }
  }
  return c;
}

const std::vector<NormOptions> kOptions = {{1e-5F}, {1e-6F, 1.0F, 0.25F}};

TEST(RmsNorm, MatchesFloat64AtOddWidthsOnEveryTarget) {
  for_each_target([](const char* target) {
    for (const NormOptions& options : kOptions)
      for (const size_t width : {1, 7, 16, 33, 576, 4097}) {
        const NormCase c = norm_case(width, options);
        const View2<const float> x{c.x.data(), c.rows, width, c.stride};
        std::vector<float> y(c.rows * width);
        rms_norm(x, {c.weight.data(), width}, options, {y.data(), c.rows, width});
        EXPECT_LE(max_error(y, c.y), 1e-6) << target << " width " << width;
        std::vector<bf16> rounded(c.rows * width);
        rms_norm(x, {c.weight.data(), width}, options, View2<bf16>{rounded.data(), c.rows, width});
        EXPECT_LE(max_error(rounded, c.y), 1.0 / 256) << target << " width " << width;
      }
  });
}

TEST(RmsNorm, BackwardMatchesFloat64AndAddsWhenAsked) {
  for_each_target([](const char* target) {
    for (const NormOptions& options : kOptions)
      for (const size_t width : {1, 7, 33, 576}) {
        const NormCase c = norm_case(width, options);
        const View2<const float> x{c.x.data(), c.rows, width, c.stride};
        const View2<const float> dy{c.dy.data(), c.rows, width};
        std::vector<float> dx(c.rows * width, 3.0F), dweight(width, 0.0F);
        const View2<float> dx_view{dx.data(), c.rows, width};
        rms_norm_backward(x, {c.weight.data(), width}, options, dy, dx_view,
                          {dweight.data(), width}, false);
        EXPECT_LE(max_error(dx, c.dx), 1e-5) << target << " width " << width;
        EXPECT_LE(max_error(dweight, c.dweight), 1e-5) << target << " width " << width;
        rms_norm_backward(x, {c.weight.data(), width}, options, dy, dx_view,
                          {dweight.data(), width}, true);
        std::vector<double> twice = c.dx;
        for (double& value : twice) value *= 2;
        EXPECT_LE(max_error(dx, twice), 1e-5) << target << " width " << width;
      }
  });
}

TEST(RmsNorm, ARowOfZerosStaysZero) {
  std::vector<float> x(8, 0.0F), weight(8, 1.0F), y(8, 5.0F);
  rms_norm({x.data(), 1, 8}, {weight.data(), 8}, 1e-5F, {y.data(), 1, 8});
  for (const float value : y) EXPECT_EQ(value, 0.0F);
}

TEST(RmsNorm, RefusesAWeightOfAnotherWidth) {
  std::vector<float> x(8), weight(7), y(8);
  EXPECT_THROW(rms_norm({x.data(), 1, 8}, {weight.data(), 7}, 1e-5F, {y.data(), 1, 8}), Error);
}

}  // namespace
}  // namespace cairn
