#include "cairn/infer/products.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cairn/kernels/elementwise.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {

// Weight rows of one block: widened to f32 it stays in the second-level cache for in <= 4096.
constexpr size_t kBlockRows = 64;
constexpr std::array<size_t, 3> kCompiledRows = {32, 64, 128};

}  // namespace

size_t Products::rows_touched(size_t tokens) {
  if (tokens <= kFewTokens) return tokens;
  return *std::lower_bound(kCompiledRows.begin(), kCompiledRows.end() - 1, tokens);
}

Products::Products(ThreadTeam& team) : team_(team), widened_(static_cast<size_t>(team.size())) {}

Products::~Products() = default;

void Products::run(std::span<const GemvPart> parts, View2<const float> x, size_t tokens) {
  const size_t rows = rows_touched(tokens);
  for (const GemvPart& part : parts) {
    check_shape("product", "x", {rows, part.w.cols}, {std::min(x.rows, rows), x.cols});
    check_shape("product", "y", {rows, part.w.rows}, {std::min(part.y.rows, rows), part.y.cols});
  }
  if (tokens > kFewTokens) {
    for (const GemvPart& part : parts) run_many(part, x, rows);
    return;
  }
  constexpr size_t kMostParts = 4;
  check_shape("product", "parts", {std::min(parts.size(), kMostParts)}, {parts.size()});
  std::array<GemvPart, kMostParts> few;
  for (size_t i = 0; i < parts.size(); ++i) few[i] = {parts[i].w, parts[i].y.rows_slice(0, tokens)};
  gemv({few.data(), parts.size()}, x.rows_slice(0, tokens), team_);
}

const Matmul& Products::product(size_t rows, const GemvPart& part, View2<const float> x,
                                size_t tokens) {
  // bf16 weights arrive widened and without gaps, f32 weights as the model stores them.
  const size_t stride = part.w.dtype == DType::bf16 ? part.w.cols : part.w.stride;
  const Key key(rows, part.w.cols, x.stride, stride, part.y.stride);
  if (const auto found = products_.find(key); found != products_.end()) return found->second;
  MatmulForm form{.n = rows, .k = part.w.cols, .transpose_b = true};
  form.lda = x.stride;
  form.ldb = stride;
  form.ldc = part.y.stride;
  return products_.emplace(key, Matmul(form, team_.size(), tokens)).first->second;
}

void Products::run_many(const GemvPart& part, View2<const float> x, size_t rows) {
  const AnyView2& w = part.w;
  const size_t blocks = chunk_count(w.rows, kBlockRows), rest = w.rows % kBlockRows;
  const Matmul* whole =
      blocks > (rest > 0 ? 1U : 0U) ? &product(kBlockRows, part, x, rows) : nullptr;
  const Matmul* last = rest > 0 ? &product(rest, part, x, rows) : whole;
  if (w.dtype == DType::bf16)
    for (AlignedBuffer& buffer : widened_)
      if (buffer.size() < kBlockRows * w.cols * sizeof(float))
        buffer = AlignedBuffer(kBlockRows * w.cols * sizeof(float));
  team_.run(blocks, [&](size_t block, int thread) {
    const size_t begin = block * kBlockRows, count = std::min(kBlockRows, w.rows - begin);
    const void* weights = nullptr;
    if (w.dtype == DType::bf16) {
      const View2<float> wide(widened_[static_cast<size_t>(thread)].as<float>().data(), count,
                              w.cols);
      convert(w.as<const bf16>().rows_slice(begin, count), wide);
      weights = wide.data;
    } else {
      weights = w.as<const float>()[begin].data;
    }
    (count == kBlockRows ? whole : last)->run(rows, x.data, weights, part.y.data + begin, thread);
  });
}

}  // namespace cairn
