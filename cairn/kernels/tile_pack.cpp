// Packing reads a block of the file into plain codes and scales, and scatters those into the planes
// of its row, four codes at a time.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cairn/base/error.h"
#include "cairn/kernels/tile_layout.h"
#include "cairn/kernels/tile_unit.h"
#include "cairn/kernels/tiles.h"

namespace cairn {
namespace {

[[noreturn]] void refuse_size(TileKind kind, const char* doing, size_t expected, size_t found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing + (" " + std::string(block_type_name(block_type_of(kind)))),
               .expected = std::to_string(expected) + " bytes of tiles",
               .found = std::to_string(found)});
}

[[noreturn]] void refuse_value(TileKind kind, size_t row, size_t col) {
  throw Error({.kind = ErrorKind::data,
               .doing = "packing " + std::string(block_type_name(block_type_of(kind))),
               .subject = "row " + std::to_string(row) + ", column " + std::to_string(col),
               .expected = "finite scales and weights",
               .found = "NaN or infinity"});
}

bool finite_half(uint16_t bits) {
  return (bits & 0x7c00U) != 0x7c00U;
}

void copy_nibbles(const uint8_t (&qs)[16], uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15;
    codes[i + 16] = qs[i] >> 4;
  }
}

// Adds bit i of qh to code i, as its fifth bit; eight at a time.
void add_high_bits(const uint8_t (&qh)[4], uint8_t* codes) {
  for (int i = 0; i < 4; ++i) {
    const uint64_t one_bit_a_byte = qh[i] * 0x0101010101010101U & 0x8040201008040201U;
    const uint64_t top_bits = (one_bit_a_byte + 0x7f7f7f7f7f7f7f7fU) & 0x8080808080808080U;
    uint64_t eight = 0;
    std::memcpy(&eight, codes + 8 * i, 8);
    eight |= top_bits >> 3;
    std::memcpy(codes + 8 * i, &eight, 8);
  }
}

uint16_t half_bits(const HalfBytes& bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

// The fields of a block, element by element. For the packing of each see block_decode.cpp.
void read(const BlockQ4_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  copy_nibbles(b.qs, u.codes);
}

void read(const BlockQ4_1& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.m);
  copy_nibbles(b.qs, u.codes);
}

void read(const BlockQ5_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  copy_nibbles(b.qs, u.codes);
  add_high_bits(b.qh, u.codes);
}

void read(const BlockQ5_1& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.m);
  copy_nibbles(b.qs, u.codes);
  add_high_bits(b.qh, u.codes);
}

void read(const BlockQ8_0& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  for (int i = 0; i < 32; ++i) u.codes[i] = b.qs[i] ^ 0x80;
}

// Pairs of bits: each byte holds four elements that lie 32 apart in a half block.
void copy_pairs(const uint8_t (&qs)[64], uint8_t* codes) {
  for (int half = 0; half < 2; ++half)
    for (int field = 0; field < 4; ++field, codes += 32)
      for (int i = 0; i < 32; ++i) codes[i] = qs[32 * half + i] >> 2 * field & 3;
}

// Adds bit `i / 32` of the byte for i % 32, shifted left.
void add_planes(const uint8_t (&planes)[32], int shift, uint8_t* codes) {
  for (int plane = 0; plane < 8; ++plane, codes += 32)
    for (int i = 0; i < 32; ++i)
      codes[i] = static_cast<uint8_t>(codes[i] | (planes[i] >> plane & 1) << shift);
}

// Nibbles of elements that lie 32 apart.
void copy_far_nibbles(const uint8_t (&qs)[128], uint8_t* codes) {
  for (int pair = 0; pair < 4; ++pair, codes += 64)
    for (int i = 0; i < 32; ++i) {
      codes[i] = qs[32 * pair + i] & 15;
      codes[i + 32] = qs[32 * pair + i] >> 4;
    }
}

void read(const BlockQ2K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  std::memcpy(u.scales, b.scales, 16);
  copy_pairs(b.qs, u.codes);
}

void read(const BlockQ3K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  for (int sub = 0; sub < 16; ++sub) {
    const int low = sub < 8 ? b.scales[sub] & 15 : b.scales[sub - 8] >> 4;
    const int high = b.scales[8 + sub % 4] >> 2 * (sub / 4) & 3;
    u.scales[sub] = static_cast<uint8_t>((low | high << 4) - 32);
  }
  copy_pairs(b.qs, u.codes);
  add_planes(b.hmask, 2, u.codes);
}

// Eight 6-bit scales and eight 6-bit offsets in 12 bytes; scale and offset by turns in u.scales.
void copy_scales(const uint8_t (&s)[12], uint8_t* scales) {
  for (int sub = 0; sub < 4; ++sub) {
    scales[2 * sub] = s[sub] & 63;
    scales[2 * sub + 1] = s[sub + 4] & 63;
    scales[2 * sub + 8] = static_cast<uint8_t>((s[sub + 8] & 15) | s[sub] >> 6 << 4);
    scales[2 * sub + 9] = static_cast<uint8_t>(s[sub + 8] >> 4 | s[sub + 4] >> 6 << 4);
  }
}

void read(const BlockQ4K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  copy_scales(b.scales, u.scales);
  copy_far_nibbles(b.qs, u.codes);
}

void read(const BlockQ5K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  u.offset = half_bits(b.dmin);
  copy_scales(b.scales, u.scales);
  copy_far_nibbles(b.qs, u.codes);
  add_planes(b.qh, 4, u.codes);
}

void read(const BlockQ6K& b, TileUnit& u) {
  u.scale = half_bits(b.d);
  std::memcpy(u.scales, b.scales, 16);
  uint8_t* codes = u.codes;
  for (int half = 0; half < 2; ++half)
    for (int group = 0; group < 4; ++group, codes += 32)
      for (int i = 0; i < 32; ++i) {
        const int low = b.ql[64 * half + 32 * (group % 2) + i] >> 4 * (group / 2) & 15;
        const int high = b.qh[32 * half + i] >> 2 * group & 3;
        codes[i] = static_cast<uint8_t>(low | high << 4);
      }
}

uint32_t load_word(const void* from) {
  uint32_t word = 0;
  std::memcpy(&word, from, 4);
  return word;
}

void store_word(uint8_t* to, uint32_t word) {
  std::memcpy(to, &word, 4);
}

// The codes of 32 inputs of row r, four codes of a vector at a time, into the planes of a block;
// that of bits was zero where it shares bytes with rows to come.
template <TileKind kind>
void scatter_block(const uint8_t* codes, size_t r, uint8_t* block) {
  constexpr TileLayout layout = tile_layout(kind);
  const auto field = [&](size_t v, int shift, uint32_t mask) {
    return load_word(codes + 4 * v) >> shift & mask;
  };
  if constexpr (kind == TileKind::t8)
    for (size_t v = 0; v < 8; ++v) store_word(block + 64 * v + 4 * r, load_word(codes + 4 * v));
  if constexpr (layout.nibbles != 0)
    for (size_t j = 0; j < 4; ++j)
      store_word(block + 64 * j + 4 * r,
                 field(2 * j, 0, 0x0f0f0f0f) | field(2 * j + 1, 0, 0x0f0f0f0f) << 4);
  if constexpr (layout.pair_shift >= 0)
    for (size_t h = 0; h < 2; ++h) {
      uint32_t word = 0;
      for (size_t f = 0; f < 4; ++f)
        word |= field(4 * h + f, layout.pair_shift, 0x03030303) << 2 * f;
      store_word(block + layout.pairs_at() + 64 * h + 4 * r, word);
    }
  if constexpr (layout.bit_shift >= 0)
    for (size_t v = 0; v < 8; ++v) {
      // The product brings the lowest bits of the four bytes to bits 24 to 27.
      const uint32_t bits = field(v, layout.bit_shift, 0x01010101) * 0x01020408U >> 24 & 15;
      uint8_t& byte = block[layout.bits_at() + 8 * v + r / 2];
      byte = static_cast<uint8_t>(byte | bits << 4 * (r % 2));
    }
}

template <TileKind kind>
void scatter_unit(const TileUnit& unit, size_t u, size_t r, uint8_t* group) {
  constexpr TileLayout layout = tile_layout(kind);
  uint8_t* header = group + layout.header_at(u);
  uint8_t* body = group + layout.body_at(u);
  std::memcpy(header + 2 * r, &unit.scale, 2);
  if constexpr (layout.header_bytes == 64) std::memcpy(header + 32 + 2 * r, &unit.offset, 2);
  for (size_t i = 0; i < layout.scale_bytes / kTileRows; ++i) body[16 * i + r] = unit.scales[i];
  for (size_t b = 0; b < layout.unit_inputs / kTileInputs; ++b)
    scatter_block<kind>(unit.codes + 32 * b, r, body + layout.scale_bytes + b * layout.block_bytes);
}

using Rows = std::span<const std::byte* const>;

// Unit by unit, so that what is written stays in the first-level cache.
template <class Block, TileKind kind>
void pack_blocks(Rows rows, size_t cols, uint8_t* group) {
  constexpr TileLayout layout = tile_layout(kind);
  TileUnit unit;
  for (size_t u = 0; u < cols / layout.unit_inputs; ++u)
    for (size_t r = 0; r < rows.size(); ++r) {
      read(reinterpret_cast<const Block*>(rows[r])[u], unit);  // bytes alone: any address will do
      if (!finite_half(unit.scale) || (layout.header_bytes == 64 && !finite_half(unit.offset)))
        refuse_value(kind, r, u * layout.unit_inputs);
      scatter_unit<kind>(unit, u, r, group);
    }
}

// Vectors of the language extension that both compilers have: Highway's baseline is scalar.
using Words4 = uint32_t __attribute__((vector_size(16)));
using Words8 = uint16_t __attribute__((vector_size(16)));

// The first halves of two rows, by turns, and the second ones.
Words4 pair_first(Words4 a, Words4 b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
Words4 pair_last(Words4 a, Words4 b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
Words8 pair_first(Words8 a, Words8 b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
Words8 pair_last(Words8 a, Words8 b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// Turns four rows of four words, or eight of eight, from row by row to word by word: pairs of rows
// that stand half of all apart become neighbours, and that as often as the number of rows can be
// halved.
template <class Words>
void turn_square(const std::byte* rows, size_t row_bytes, std::byte* turned, size_t turned_bytes) {
  constexpr size_t n = sizeof(Words) / sizeof(Words{}[0]);
  Words now[n], next[n];
  for (size_t i = 0; i < n; ++i) std::memcpy(&now[i], rows + i * row_bytes, sizeof(Words));
  for (size_t step = 1; step < n; step *= 2) {
    for (size_t i = 0; i < n / 2; ++i) {
      next[2 * i] = pair_first(now[i], now[i + n / 2]);
      next[2 * i + 1] = pair_last(now[i], now[i + n / 2]);
    }
    std::copy(next, next + n, now);
  }
  for (size_t i = 0; i < n; ++i) std::memcpy(turned + i * turned_bytes, &now[i], sizeof(Words));
}

// Whether all of some weights, as bits in vectors, have another exponent than that of infinity.
template <class Vector, size_t kBytes>
bool all_finite(const std::byte (&weights)[kBytes], Vector exponent) {
  Vector bad = {};
  for (size_t at = 0; at < kBytes; at += sizeof(Vector)) {
    Vector bits;
    std::memcpy(&bits, weights + at, sizeof(Vector));
    bad |= reinterpret_cast<Vector>((bits & exponent) == exponent);
  }
  const Vector none = {};
  return std::memcmp(&bad, &none, sizeof bad) == 0;
}

template <class Bits, size_t kBytes>
[[noreturn]] void refuse_first(TileKind kind, const std::byte (&block)[kBytes], size_t first,
                               Bits exponent) {
  for (size_t i = 0;; ++i) {
    Bits bits = 0;
    std::memcpy(&bits, block + i * sizeof(Bits), sizeof(Bits));
    if ((bits & exponent) == exponent) refuse_value(kind, i / kTileInputs, first + i % kTileInputs);
  }
}

// Blocks of 32 plain weights a row, turned in words of one or two weights.
template <class Bits, class Words, TileKind kind>
void pack_plain(Rows rows, size_t cols, uint8_t* group) {
  using Vector = std::conditional_t<sizeof(Bits) == 2, Words8, Words4>;
  constexpr Bits exponent = kind == TileKind::tf32   ? 0x7f800000
                            : kind == TileKind::tf16 ? 0x7c00
                                                     : 0x7f80;
  constexpr size_t row_bytes = kTileInputs * sizeof(Bits), word_bytes = sizeof(Words{}[0]);
  constexpr size_t line_bytes = kTileRows * word_bytes, square = sizeof(Words) / word_bytes;
  alignas(64) std::byte block[kTileRows * row_bytes] = {}, turned[kTileRows * row_bytes];
  for (size_t first = 0; first < cols; first += kTileInputs) {
    const size_t count = std::min(kTileInputs, cols - first);
    if (count < kTileInputs) std::memset(block, 0, sizeof block);
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::byte* from = rows[r] + first * sizeof(Bits);
      if (count == kTileInputs)
        std::memcpy(block + r * row_bytes, from, row_bytes);  // of a constant size
      else
        std::memcpy(block + r * row_bytes, from, count * sizeof(Bits));
    }
    if (!all_finite(block, Vector{} + exponent)) refuse_first(kind, block, first, exponent);
    for (size_t w = 0; w < row_bytes / word_bytes; w += square)
      for (size_t r = 0; r < kTileRows; r += square)
        turn_square<Words>(block + r * row_bytes + w * word_bytes, row_bytes,
                           turned + w * line_bytes + r * word_bytes, line_bytes);
    std::memcpy(group + first * kTileRows * sizeof(Bits), turned, sizeof turned);
  }
}

using Pack = void (*)(Rows, size_t, uint8_t*);

Pack pack_of(TileKind kind) {
  switch (kind) {
    case TileKind::t4s:
      return pack_blocks<BlockQ4_0, TileKind::t4s>;
    case TileKind::t4a:
      return pack_blocks<BlockQ4_1, TileKind::t4a>;
    case TileKind::t5s:
      return pack_blocks<BlockQ5_0, TileKind::t5s>;
    case TileKind::t5a:
      return pack_blocks<BlockQ5_1, TileKind::t5a>;
    case TileKind::t8:
      return pack_blocks<BlockQ8_0, TileKind::t8>;
    case TileKind::t2k:
      return pack_blocks<BlockQ2K, TileKind::t2k>;
    case TileKind::t3k:
      return pack_blocks<BlockQ3K, TileKind::t3k>;
    case TileKind::t4k:
      return pack_blocks<BlockQ4K, TileKind::t4k>;
    case TileKind::t5k:
      return pack_blocks<BlockQ5K, TileKind::t5k>;
    case TileKind::t6k:
      return pack_blocks<BlockQ6K, TileKind::t6k>;
    case TileKind::tb16:
      return pack_plain<uint16_t, Words4, TileKind::tb16>;
    case TileKind::tf16:
      return pack_plain<uint16_t, Words8, TileKind::tf16>;
    case TileKind::tf32:
      break;
  }
  return pack_plain<uint32_t, Words4, TileKind::tf32>;
}

}  // namespace

void pack_tile_group(TileKind kind, std::span<const std::byte* const> rows, size_t cols,
                     std::span<std::byte> tiles) {
  const size_t bytes = tile_group_bytes(kind, cols);
  if (tiles.size() != bytes) refuse_size(kind, "packing", bytes, tiles.size());
  if (rows.empty() || rows.size() > kTileRows)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing a row group",
                 .expected = "1 to 16 rows",
                 .found = std::to_string(rows.size())});
  std::memset(tiles.data(), 0, tiles.size());
  pack_of(kind)(rows, cols, reinterpret_cast<uint8_t*>(tiles.data()));
}

void pack_tiles(TileKind kind, const std::byte* blocks, size_t row_bytes, size_t rows, size_t cols,
                std::span<std::byte> tiles) {
  const size_t bytes = tile_bytes(kind, rows, cols);
  if (tiles.size() != bytes) refuse_size(kind, "packing", bytes, tiles.size());
  const size_t group_bytes = tile_group_bytes(kind, cols);
  for (size_t first = 0; first < rows; first += kTileRows) {
    const std::byte* pointers[kTileRows];
    const size_t count = std::min(kTileRows, rows - first);
    for (size_t r = 0; r < count; ++r) pointers[r] = blocks + (first + r) * row_bytes;
    pack_tile_group(kind, {pointers, count}, cols,
                    tiles.subspan(first / kTileRows * group_bytes, group_bytes));
  }
}

}  // namespace cairn
