// The target attribute of functions that use AVX512-BF16. They are called through tables that
// usable_isa() guards (base/cpu.h); helpers must be inlined into functions of the same target.
#pragma once

#include <immintrin.h>

// GCC 12 takes the deliberately undefined vectors of its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define CAIRN_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define CAIRN_AVX512_BF16_INLINE CAIRN_AVX512_BF16 inline __attribute__((always_inline))

namespace cairn {

// Words (low[i], high[i]) for i < 16, from the 32 values that VCVTNE2PS2BF16(high, low) leaves side
// by side.
CAIRN_AVX512_BF16_INLINE __m512i interleave_halves(__m512i halves) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, halves);
}

// low in the lower 16 values, high in the upper 16, rounded to bf16.
CAIRN_AVX512_BF16_INLINE __m512i to_bf16(__m512 high, __m512 low) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

}  // namespace cairn
