// Matrix products of the engine: weights [out, in] in f32 or bf16 times activations in f32. Few
// tokens go through kernels/gemv.h, which reads every weight once; many go through oneDNN, with
// bf16 weights widened block by block, so that activations are never rounded and both ways agree to
// rounding.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/base/thread_team.h"
#include "cairn/kernels/gemv.h"
#include "cairn/kernels/matmul.h"

namespace cairn {

class Products {
 public:
  // Tokens up to which each is summed on its own, with the same bits in any company.
  static constexpr size_t kFewTokens = 16;
  // Most tokens of one call.
  static constexpr size_t kMostTokens = 128;
  // Rows that x and the parts' y must have room for when `tokens` are multiplied: compiled kernels
  // exist for few sizes, and rows beyond `tokens` are written with values that mean nothing.
  static size_t rows_touched(size_t tokens);

  // `team` must outlive it.
  explicit Products(ThreadTeam& team);
  ~Products();

  // part.y = x * part.w^T for the first `tokens` rows of x [>= rows_touched(tokens), in] and of
  // each y. Throws Error (usage) when shapes disagree. Not thread-safe. Allocates only when a shape
  // is new and tokens > kFewTokens.
  void run(std::span<const GemvPart> parts, View2<const float> x, size_t tokens);

 private:
  // Weight rows, in, strides of x, weights and y.
  using Key = std::tuple<size_t, size_t, size_t, size_t, size_t>;
  const Matmul& product(size_t rows, const GemvPart& part, View2<const float> x, size_t tokens);
  void run_many(const GemvPart& part, View2<const float> x, size_t rows);

  ThreadTeam& team_;
  std::map<Key, Matmul> products_;
  std::vector<AlignedBuffer> widened_;  // one a thread: a block of weights in f32
};

}  // namespace cairn
