// `cairn bench train --products`: the matrix products of training as training calls them, against
// the same product as a single call of oneDNN that uses as many threads of its own.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/function_ref.h"
#include "cairn/base/memory.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/kernels/matmul.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

constexpr size_t kTokens = 4096;
constexpr std::array<size_t, 5> kWidths = {256, 512, 1024, 2048, 4096};

enum class Use { forward, backward, gradient };  // Y = X W^T, dX = dY W, dW += dY^T X
constexpr std::array<const char*, 3> kUseNames = {"forward", "backward", "gradient"};

// W is [out, in]; the product's rows are tokens, or rows of W for its gradient.
struct Product {
  Use use = Use::forward;
  size_t out = 0, in = 0;
  DType dtype = DType::f32;

  size_t rows() const { return use == Use::gradient ? out : kTokens; }
  size_t chunk_rows() const {
    return use == Use::gradient ? Matmul::gradient_rows(out) : Matmul::kRows;
  }
  MatmulForm form() const {
    MatmulForm form{.n = use == Use::forward ? out : in,
                    .k = use == Use::forward    ? in
                         : use == Use::backward ? out
                                                : kTokens,
                    .operands = dtype};
    if (use == Use::gradient) {
      form.transpose_a = form.accumulate = true;
      form.lda = out;
    } else {
      form.transpose_b = use == Use::forward;
      form.packed_b = true;
    }
    return form;
  }
  double flops() const { return 2.0 * kTokens * static_cast<double>(out * in); }
};

// Memory for every product: A and B hold ones, so that sums are what K says.
struct Operands {
  AlignedBuffer a{kTokens * kTokens * sizeof(float)}, b{kTokens * kTokens * sizeof(float)};
  AlignedBuffer weights{kTokens * kTokens * sizeof(float)}, packed{0};
  AlignedBuffer c{kTokens * kTokens * sizeof(float)};

  explicit Operands(DType dtype) {
    for (AlignedBuffer* buffer : {&a, &b}) {
      if (dtype == DType::f32)
        for (float& value : buffer->as<float>()) value = 1;
      else
        for (bf16& value : buffer->as<bf16>()) value = bf16::from_float(1);
    }
    for (float& value : weights.as<float>()) value = 1;
  }

  // B as `product` wants it.
  const void* prepare(const Product& use, const Matmul& product) {
    if (!use.form().packed_b) return b.data();
    packed = AlignedBuffer(product.packed_bytes());
    product.pack(weights.as<float>().data(), packed.data());
    return packed.data();
  }
};

double seconds_of(const FunctionRef<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Training's way: chunks of rows on our team, one thread a call.
std::vector<double> time_ours(const Product& use, Operands& operands, int64_t times,
                              ThreadTeam& team) {
  const size_t rows = use.chunk_rows();
  const Matmul product(use.form(), team.size(), rows);
  const void* b = operands.prepare(use, product);
  const size_t row_bytes =
      (use.use == Use::gradient ? 1 : use.form().k) * dtype_size(use.dtype);  // of A, as stored
  const auto once = [&] {
    team.run(chunk_count(use.rows(), rows), [&](size_t chunk, int thread) {
      const size_t first = chunk * rows;
      product.run(std::min(rows, use.rows() - first), operands.a.data() + first * row_bytes, b,
                  operands.c.as<float>().data() + first * use.form().n, thread);
    });
  };
  once();
  std::vector<double> seconds;
  for (int64_t i = 0; i < times; ++i) seconds.push_back(seconds_of(once));
  return seconds;
}

// The peer: one call for all rows. On a thread that ends with it, because the library's threads go
// on spinning for a while.
std::vector<double> time_library(const Product& use, Operands& operands, int64_t times,
                                 int threads) {
  std::vector<double> seconds;
  std::thread caller([&] {
    const Matmul product(use.form(), 1, use.rows(), threads);
    const void* b = operands.prepare(use, product);
    const auto once = [&] { product.run(use.rows(), operands.a.data(), b, operands.c.data(), 0); };
    once();
    for (int64_t i = 0; i < times; ++i) seconds.push_back(seconds_of(once));
  });
  caller.join();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return seconds;
}

// Both sides compute sums of `k` ones; the gradient adds to what was there.
void check(const Product& use, Operands& operands, ThreadTeam& team) {
  const auto first = [&] { return operands.c.as<float>()[0]; };
  for (const bool library : {false, true}) {
    operands.c.as<float>()[0] = 0;
    library ? static_cast<void>(time_library(use, operands, 0, team.size()))
            : static_cast<void>(time_ours(use, operands, 0, team));
    if (first() != static_cast<float>(use.form().k))
      throw Error({.doing = "checking a product before it is timed",
                   .expected = std::to_string(use.form().k),
                   .found = std::to_string(first())});
  }
}

}  // namespace

int run_products(DType dtype, int64_t times, ThreadTeam& team, bool json) {
  const char* precision = dtype == DType::bf16 ? "bf16" : "f32";
  const double peak = measure_peak(dtype == DType::bf16 ? PeakKind::bf16 : PeakKind::f32, team);
  Operands operands(dtype);
  if (!json)
    fmt::print(
        "products of {} tokens in {}, {} threads: share of peak {:.0f} GFLOP/s, and of one "
        "oneDNN call\n",
        kTokens, precision, team.size(), peak);
  double lowest = std::numeric_limits<double>::infinity();
  for (const size_t out : kWidths) {
    for (const size_t in : kWidths) {
      for (const Use use : {Use::forward, Use::backward, Use::gradient}) {
        const Product product{use, out, in, dtype};
        check(product, operands, team);
        std::vector<double> ours = time_ours(product, operands, times, team);
        std::vector<double> theirs = time_library(product, operands, times, team.size());
        const double seconds = median(ours), ratio = median(theirs) / seconds;
        const double share = product.flops() / seconds / 1e9 / peak;
        lowest = std::min(lowest, ratio);
        const char* name = kUseNames[static_cast<size_t>(use)];
        if (json)
          fmt::print("{}", json_line({{"bench", "products"},
                                      {"use", name},
                                      {"out", out},
                                      {"in", in},
                                      {"precision", precision},
                                      {"threads", team.size()},
                                      {"processor", processor_family()},
                                      {"share_of_peak", share},
                                      {"ratio", ratio}}));
        else
          fmt::print("  W [{:4}, {:4}] {:<8}  {:.3f}  {:.3f}\n", out, in, name, share, ratio);
      }
    }
  }
  if (json)
    fmt::print("{}", json_line({{"bench", "products"},
                                {"use", "lowest"},
                                {"precision", precision},
                                {"threads", team.size()},
                                {"processor", processor_family()},
                                {"lowest_ratio", lowest}}));
  else
    fmt::print("  lowest ratio {:.3f}\n", lowest);
  return 0;
}

}  // namespace cairn
