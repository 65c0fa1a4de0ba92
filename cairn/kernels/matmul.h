// Matrix products of one fixed form, done by oneDNN with one thread a call, so that our team cuts
// the work and the same call gives the same bits wherever it runs.
//   C = A * B, or C += A * B       A [m, k], B [k, n], C [m, n]
// Either operand may be stored transposed; rows may be strided. Products of f32 are summed in f32,
// products of bf16 too. B can be packed once into the layout that the processor likes best.
//
//   Matmul product({.n = 1024, .k = 512, .transpose_b = true, .packed_b = true}, threads);
//   product.pack(weights, packed);                       // [n, k] stored -> packed
//   team.run(..., [&](size_t chunk, int thread) { product.run(rows, x, packed, y, thread); });
#pragma once

#include <cstddef>
#include <memory>

#include "cairn/tensor/dtype.h"

namespace cairn {

struct MatmulForm {
  size_t n = 0;
  size_t k = 0;
  DType operands = DType::f32;  // of A and B: f32 or bf16
  DType result = DType::f32;    // of C: f32, or bf16 when the operands are
  bool transpose_a = false;     // A is stored as [k, m]
  bool transpose_b = false;     // B is stored as [n, k]: a weight matrix [out, in]
  bool packed_b = false;
  bool accumulate = false;  // C += A * B; C must be f32
  // Elements from one stored row to the next; 0 means no gap (lda with transpose_a must be given).
  size_t lda = 0;
  size_t ldb = 0;
  size_t ldc = 0;

  bool operator==(const MatmulForm&) const = default;
};

class Matmul {
 public:
  // Number of rows m that most calls have; packing is done for it.
  static constexpr size_t kRows = 128;
  // Rows a call of the gradient of a weight with so many rows, dW += dY^T X: oneDNN copies all of X
  // for each call, which larger calls pay less often, as long as there are enough of them for the
  // threads.
  static constexpr size_t gradient_rows(size_t rows) { return rows < 1024 ? kRows : 2 * kRows; }

  // `threads`: largest thread number used in run(), plus one. `library_threads`: how many of
  // oneDNN's own threads share one call; only benchmarks ask for more than one. Throws Error
  // (failed) when oneDNN has no kernel for the form (bf16 without AVX-512).
  Matmul(const MatmulForm& form, int threads, size_t usual_rows = kRows, int library_threads = 1);
  ~Matmul();
  Matmul(Matmul&&) noexcept;
  Matmul& operator=(Matmul&&) noexcept;

  // One product with m rows. Different threads may call at once with their own `thread` number. The
  // first call with a new m compiles a kernel; later ones allocate nothing of ours.
  void run(size_t m, const void* a, const void* b, void* c, int thread) const;

  // Size of packed B, a multiple of 64 bytes.
  size_t packed_bytes() const;
  // Copies f32 values of B, stored as the form says but unpacked and without gaps, into the packed
  // layout of the operands' type. `packed` is 64-byte aligned. Threads as in run().
  void pack(const float* b, void* packed, int thread = 0) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace cairn
