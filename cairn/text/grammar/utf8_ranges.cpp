#include "cairn/text/grammar/utf8_ranges.h"

#include <array>
#include <string>

#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

constexpr uint32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;

}  // namespace

void for_each_utf8_range(CharRange range, FunctionRef<void(std::span<const ByteRange>)> emit) {
  const uint32_t low = range.low, high = range.high;
  if (low > high) return;
  const auto cut_behind = [&](uint32_t last) {  // two parts: up to `last`, and the rest
    for_each_utf8_range({low, last}, emit);
    for_each_utf8_range({last + 1, high}, emit);
  };
  if (low <= kLastSurrogate && high >= kFirstSurrogate) {
    if (low < kFirstSurrogate) for_each_utf8_range({low, kFirstSurrogate - 1}, emit);
    if (high > kLastSurrogate) for_each_utf8_range({kLastSurrogate + 1, high}, emit);
    return;
  }
  // Of one length each.
  for (const uint32_t last : {0x7FU, 0x7FFU, 0xFFFFU})
    if (low <= last && high > last) return cut_behind(last);
  // So that where a leading byte varies, the bytes behind it take all their values.
  if (high > 0x7F)
    for (uint32_t bits = 6; bits <= 18; bits += 6) {
      const uint32_t tail = (1U << bits) - 1;
      if ((low & ~tail) == (high & ~tail)) continue;
      if ((low & tail) != 0) return cut_behind(low | tail);
      if ((high & tail) != tail) return cut_behind((high & ~tail) - 1);
    }
  std::string first, last;
  append_utf8(low, first);
  append_utf8(high, last);
  std::array<ByteRange, 4> bytes{};
  for (size_t i = 0; i < first.size(); ++i)
    bytes[i] = {static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i])};
  emit(std::span(bytes).first(first.size()));
}

}  // namespace cairn
