// Ranges of code points as sequences of byte ranges: which bytes the UTF-8 of a character in the
// range has, first to last.
#pragma once

#include <cstdint>
#include <span>

#include "cairn/base/function_ref.h"
#include "cairn/text/grammar/grammar.h"

namespace cairn {

struct ByteRange {
  uint8_t low, high;
};

// Calls emit with one to four ranges for each part of `range`; the parts are disjoint and make up
// the range without its surrogates.
void for_each_utf8_range(CharRange range, FunctionRef<void(std::span<const ByteRange>)> emit);

}  // namespace cairn
