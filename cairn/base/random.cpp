#include "cairn/base/random.h"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>

#include "cairn/base/hash.h"

namespace cairn {
namespace {
__extension__ using Wide = unsigned __int128;
}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view name) : key_(hash64(name, seed)) {}

std::array<uint32_t, 4> RandomStream::words(uint64_t index, uint64_t sub) const {
  const r123::Philox4x32::ctr_type counter = {
      {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), static_cast<uint32_t>(sub),
       static_cast<uint32_t>(sub >> 32)}};
  const r123::Philox4x32::key_type key = {
      {static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)}};
  const auto block = r123::Philox4x32()(counter, key);
  return {block[0], block[1], block[2], block[3]};
}

uint64_t RandomStream::bits(uint64_t index, uint64_t sub) const {
  const auto w = words(index, sub);
  return uint64_t{w[0]} | uint64_t{w[1]} << 32;
}

double RandomStream::uniform(uint64_t index, uint64_t sub) const {
  return static_cast<double>(bits(index, sub) >> 11) * 0x1.0p-53;
}

double RandomStream::normal(uint64_t index, uint64_t sub) const {
  const auto w = words(index, sub);
  const uint64_t first = uint64_t{w[0]} | uint64_t{w[1]} << 32;
  const uint64_t second = uint64_t{w[2]} | uint64_t{w[3]} << 32;
  const double radius =
      static_cast<double>((first >> 11) + 1) * 0x1.0p-53;  // (0, 1]: log is finite
  const double angle = static_cast<double>(second >> 11) * 0x1.0p-53;
  return std::sqrt(-2.0 * std::log(radius)) * std::cos(2.0 * std::numbers::pi * angle);
}

uint64_t RandomStream::below(uint64_t bound, uint64_t index, uint64_t sub) const {
  return static_cast<uint64_t>((static_cast<Wide>(bits(index, sub)) * bound) >> 64);
}

}  // namespace cairn
