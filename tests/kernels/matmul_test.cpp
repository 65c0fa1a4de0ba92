#include "cairn/kernels/matmul.h"

#include <gtest/gtest.h>

#include "cairn/base/cpu.h"
#include "cairn/base/memory.h"
#include "cairn/base/thread_team.h"
#include "tests/support/numbers.h"

namespace cairn {
namespace {

struct Product {
  size_t m, n, k;
  bool transpose_a, transpose_b, packed, accumulate;
};

// C in float64; A and B stored as the product says, C starting at 1.
std::vector<double> expected(const Product& p, const std::vector<float>& a,
                             const std::vector<float>& b) {
  std::vector<double> c(p.m * p.n, p.accumulate ? 1.0 : 0.0);
  for (size_t i = 0; i < p.m; ++i)
    for (size_t j = 0; j < p.n; ++j)
      for (size_t l = 0; l < p.k; ++l)
        c[i * p.n + j] += double{p.transpose_a ? a[l * p.m + i] : a[i * p.k + l]} *
                          (p.transpose_b ? b[j * p.k + l] : b[l * p.n + j]);
  return c;
}

std::vector<float> run(const Product& p, const std::vector<float>& a, const std::vector<float>& b) {
  const Matmul product({.n = p.n,
                        .k = p.k,
                        .transpose_a = p.transpose_a,
                        .transpose_b = p.transpose_b,
                        .packed_b = p.packed,
                        .accumulate = p.accumulate,
                        .lda = p.transpose_a ? p.m : 0},
                       1);
  std::vector<float> c(p.m * p.n, 1.0F);
  AlignedBuffer packed(product.packed_bytes());
  if (p.packed) product.pack(b.data(), packed.data());
  product.run(p.m, a.data(), p.packed ? static_cast<const void*>(packed.data()) : b.data(),
              c.data(), 0);
  return c;
}

TEST(Matmul, MatchesFloat64InEveryForm) {
  for (const Product& p :
       {Product{1, 1, 1, false, false, false, false}, Product{5, 7, 3, false, true, true, false},
        Product{128, 96, 33, false, true, true, true},
        Product{128, 40, 64, false, false, true, false},
        Product{17, 24, 130, true, false, false, true},
        Product{200, 5, 9, false, true, false, false}}) {
    const auto a = random_floats(p.m * p.k, "a"), b = random_floats(p.k * p.n, "b");
    EXPECT_LE(max_error(run(p, a, b), expected(p, a, b)), 1e-5)
        << p.m << " x " << p.n << " x " << p.k;
  }
}

TEST(Matmul, Bf16OperandsAreSummedInF32) {
  if (usable_isa() < Isa::avx512_bf16) GTEST_SKIP() << "no bf16 products on this processor";
  const size_t m = 20, n = 48, k = 300;
  const auto a = random_floats(m * k, "a"), b = random_floats(n * k, "b");
  std::vector<float> a_rounded, b_rounded;
  for (const bf16 value : to_bf16(a)) a_rounded.push_back(value.to_float());
  for (const bf16 value : to_bf16(b)) b_rounded.push_back(value.to_float());
  const Matmul product(
      {.n = n, .k = k, .operands = DType::bf16, .transpose_b = true, .packed_b = true}, 1);
  AlignedBuffer packed(product.packed_bytes());
  product.pack(b.data(), packed.data());
  std::vector<float> c(m * n);
  const auto a16 = to_bf16(a);
  product.run(m, a16.data(), packed.data(), c.data(), 0);
  EXPECT_LE(max_error(c, expected({m, n, k, false, true, false, false}, a_rounded, b_rounded)),
            1e-5);
}

TEST(Matmul, GivesTheSameBitsOnAnyThreadOfATeam) {
  const size_t rows = 1000, n = 96, k = 70;
  const auto a = random_floats(rows * k, "a"), b = random_floats(n * k, "b");
  const auto with = [&](int threads) {
    ThreadTeam team(threads, true);
    const Matmul product({.n = n, .k = k, .transpose_b = true, .packed_b = true}, threads);
    AlignedBuffer packed(product.packed_bytes());
    product.pack(b.data(), packed.data());
    std::vector<float> c(rows * n);
    team.run(chunk_count(rows, Matmul::kRows), [&](size_t chunk, int thread) {
      const size_t begin = chunk * Matmul::kRows;
      product.run(std::min(Matmul::kRows, rows - begin), &a[begin * k], packed.data(),
                  &c[begin * n], thread);
    });
    return c;
  };
  EXPECT_EQ(with(1), with(3));
}

}  // namespace
}  // namespace cairn
