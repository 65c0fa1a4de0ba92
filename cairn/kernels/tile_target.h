// What the files of tile products for one instruction set share. Each defines CAIRN_TARGET, the
// attribute of its functions, and includes this before anything of the intrinsics.
#pragma once

// GCC 12 takes the deliberately undefined vectors of its own intrinsics for mistakes (bug 105593).
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

// A helper of another target than its caller's would not be inlined, and vectors would be passed
// through memory.
#define CAIRN_INLINE CAIRN_TARGET __attribute__((always_inline)) inline

// Before a loop over an array of vectors, which must become registers.
#ifdef __clang__
#define CAIRN_UNROLL _Pragma("unroll")
#else
#define CAIRN_UNROLL _Pragma("GCC unroll 8")
#endif
