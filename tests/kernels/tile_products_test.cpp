#include "cairn/kernels/tile_products.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/kernels/blocks.h"
#include "tests/support/tile_cases.h"

namespace cairn {
namespace {

constexpr Isa kIsas[] = {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16};

template <class Body>
void for_each_isa(const Body& body) {
  for (const Isa isa : kIsas)
    if (isa <= usable_isa()) body(isa);
}

// A random matrix in tiles and random activations; weights in float64 beside them.
struct Case {
  BlockType type;
  size_t rows, cols, tokens;
  TileKind kind;
  AlignedBuffer tiles, buffer;
  std::vector<float> weights;  // [rows, cols]
  std::vector<float> x;        // [tokens, cols]
  Activations activations;

  Case(BlockType t, size_t r, size_t c, size_t n, Isa isa = Isa::baseline)
      : type(t), rows(r), cols(c), tokens(n), kind(*tile_kind_of(t)) {
    const std::vector<std::byte> blocks = random_blocks(type, rows, cols);
    const size_t row_bytes = block_row_bytes(type, cols);
    tiles = AlignedBuffer(tile_bytes(kind, rows, cols));
    pack_tiles(kind, blocks.data(), row_bytes, rows, cols, tiles.as<std::byte>());
    weights.resize(rows * cols);
    decode_blocks(type, blocks, {weights.data(), weights.size()});
    const RandomStream random(3, "activations");
    x.resize(tokens * cols);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
    if (tokens > 1)
      std::fill(x.begin(), x.begin() + static_cast<long>(std::min<size_t>(cols, 64)), 0.0F);
    const ActivationKind form = activation_kind_of(kind);
    buffer = AlignedBuffer(activation_bytes(form, tokens, cols));
    activations = {form, tokens, cols, buffer.data()};
    EXPECT_TRUE(store_activations({.x = {x.data(), tokens, cols}}, 0, activations, isa));
  }

  TileRows tile_rows() const { return {kind, rows, cols, tiles.data()}; }

  // What the products see of x[t, k]: rounded again here, independently.
  double rounded(size_t t, size_t k) const {
    const float value = x[t * cols + k];
    if (activations.kind == ActivationKind::f32) return value;
    if (activations.kind == ActivationKind::bf16) return bf16::from_float(value).to_float();
    double largest = 0;
    for (size_t i = k / 32 * 32; i < std::min(cols, k / 32 * 32 + 32); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(x[t * cols + i])));
    if (largest == 0) return 0;
    const float scale = static_cast<float>(largest) / 127.0F;
    const float inverse = 127.0F / static_cast<float>(largest);
    return static_cast<double>(scale) * std::nearbyint(static_cast<double>(value * inverse));
  }

  struct Reference {
    double sum = 0, magnitude = 0;
  };
  Reference reference(size_t t, size_t r) const {
    Reference result;
    for (size_t k = 0; k < cols; ++k) {
      const double product = static_cast<double>(weights[r * cols + k]) * rounded(t, k);
      result.sum += product;
      result.magnitude += std::abs(product);
    }
    return result;
  }

  std::vector<float> product(Isa isa) const {
    std::vector<float> y(tokens * rows, -1.0F);
    multiply_tiles(tile_rows(), activations, {y.data(), tokens, rows}, {}, isa);
    return y;
  }

  // Of y in units of the sum of magnitudes. Offsets and codes nearly cancel in some rows: what an
  // f32 sum can keep is a part of the larger terms, 32 * 255 / 127 of a weight at most.
  double worst_error(const std::vector<float>& y) const {
    double worst = 0;
    for (size_t t = 0; t < tokens; ++t)
      for (size_t r = 0; r < rows; ++r) {
        const Reference expected = reference(t, r);
        worst = std::max(
            worst, std::abs(y[t * rows + r] - expected.sum) / std::max(expected.magnitude, 1e-9));
      }
    return worst;
  }
};

TEST(TileProducts, MatchFloat64OnTheWeightsAndTheRoundedActivationsOnEveryIsa) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : kTileTypes) {
      const size_t size = block_type_info(type).block_size;
      for (const size_t blocks : {1, 2, 3, 5})
        for (const size_t tokens : {1, 3, 8, 11}) {
          const Case c(type, 37, std::max<size_t>(size, 32) * blocks, tokens);
          EXPECT_LE(c.worst_error(c.product(isa)), 2e-6)
              << isa_name(isa) << " " << block_type_name(type) << ", " << c.cols << " columns, "
              << tokens << " tokens";
        }
    }
  });
}

TEST(TileProducts, TakePlainWeightsOfAnyWidth) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16})
      for (const size_t cols : {1, 7, 31, 33, 63, 65, 200}) {
        const Case c(type, 19, cols, 3);
        EXPECT_LE(c.worst_error(c.product(isa)), 2e-6)
            << isa_name(isa) << " " << block_type_name(type) << ", " << cols << " columns";
      }
  });
}

TEST(TileProducts, OfQuantizedWeightsHaveTheSameBitsOnEveryIsa) {
  for (const BlockType type : kTileTypes) {
    if (!block_type_info(type).quantized) continue;
    const Case c(type, 50, 9 * block_type_info(type).block_size, 8);
    const std::vector<float> expected = c.product(Isa::baseline);
    for_each_isa([&](Isa isa) {
      EXPECT_EQ(c.product(isa), expected) << isa_name(isa) << " " << block_type_name(type);
    });
  }
}

TEST(TileProducts, GiveATokenTheSameBitsAloneAndInAnyCompany) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : kTileTypes) {
      const size_t cols = 7 * std::max<size_t>(32, block_type_info(type).block_size);
      const Case all(type, 40, cols, 21);
      const std::vector<float> expected = all.product(isa);
      for (size_t count = 1; count <= 9; ++count) {
        const size_t first = 21 - count;
        AlignedBuffer buffer(activation_bytes(all.activations.kind, count, cols));
        const Activations some{all.activations.kind, count, cols, buffer.data()};
        ASSERT_TRUE(
            store_activations({.x = {all.x.data() + first * cols, count, cols}}, 0, some, isa));
        std::vector<float> y(count * 40);
        multiply_tiles(all.tile_rows(), some, {y.data(), count, 40}, {}, isa);
        EXPECT_EQ(0, std::memcmp(y.data(), expected.data() + first * 40, 4 * y.size()))
            << isa_name(isa) << " " << block_type_name(type) << ", " << count << " tokens";
      }
    }
  });
}

TEST(TileProducts, CompiledForOneWidthHaveTheSameBits) {
  size_t found = 0;
  for (const BlockType type : kTileTypes)
    for (const size_t cols : {288, 384, 512, 576, 768, 960, 1024, 1536, 2048, 2304}) {
      if (!has_constant_cols(*tile_kind_of(type), cols)) continue;
      const Case c(type, 37, cols, 1);
      ++found;
      TileRows rows = c.tile_rows();
      rows.constant_cols = true;
      std::vector<float> y(c.rows);
      multiply_tiles(rows, c.activations, {y.data(), 1, c.rows});
      EXPECT_EQ(y, c.product(usable_isa())) << block_type_name(type) << ' ' << cols;
    }
  EXPECT_EQ(found > 0, usable_isa() >= Isa::avx512_bf16);
  EXPECT_FALSE(has_constant_cols(TileKind::t4s, 576, Isa::avx2));
  EXPECT_FALSE(has_constant_cols(TileKind::t4s, 2304));
}

TEST(TileProducts, GiveTheSameBitsForAnyCutOfTheRows) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : kTileTypes) {
      const size_t cols = 3 * std::max<size_t>(32, block_type_info(type).block_size);
      const Case c(type, 75, cols, 2);
      const std::vector<float> expected = c.product(isa);
      const size_t group = tile_group_bytes(c.kind, cols);
      std::vector<float> y(2 * 75);
      for (size_t row = 0; row < 75; row += 32) {
        const size_t count = std::min<size_t>(32, 75 - row);
        multiply_tiles({c.kind, count, cols, c.tiles.data() + row / 16 * group}, c.activations,
                       {y.data() + row, 2, count, 75}, {c.tiles.data(), 100}, isa);
      }
      EXPECT_EQ(y, expected) << isa_name(isa) << " " << block_type_name(type);
    }
  });
}

// More weights than stay in a cache while groups of tokens go through them.
TEST(TileProducts, GiveTheSameBitsToManyTokensOfAWideMatrix) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : {BlockType::q8_0, BlockType::f32}) {
      const Case c(type, 90, 1536, 11, isa);
      const std::vector<float> expected = c.product(isa);
      const Case few(type, 90, 1536, 8, isa);  // the same first eight tokens
      const std::vector<float> found = few.product(isa);
      EXPECT_EQ(0, std::memcmp(found.data(), expected.data(), 4 * found.size()))
          << isa_name(isa) << " " << block_type_name(type);
      EXPECT_LE(c.worst_error(expected), 4e-6) << isa_name(isa) << " " << block_type_name(type);
    }
  });
}

TEST(TileProducts, WriteTheirRowsOnly) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : kTileTypes) {
      const size_t cols = std::max<size_t>(32, block_type_info(type).block_size);
      for (const size_t rows : {1, 15, 16, 18}) {
        const Case c(type, rows, cols, 3);
        std::vector<float> y(3 * 40, 7.0F);
        multiply_tiles(c.tile_rows(), c.activations, {y.data() + 3, 3, rows, 40}, {}, isa);
        const std::vector<float> expected = c.product(isa);
        for (size_t i = 0; i < y.size(); ++i) {
          const size_t t = i / 40, r = i % 40;
          const bool inside = r >= 3 && r < 3 + rows;
          ASSERT_EQ(y[i], inside ? expected[t * rows + r - 3] : 7.0F)
              << isa_name(isa) << " " << block_type_name(type) << ", " << rows << " rows";
        }
      }
    }
  });
}

// The largest sums there are: every code, every byte and every scale at its end.
TEST(TileProducts, DoNotOverflowAtTheLargestCodes) {
  for_each_isa([](Isa isa) {
    for (const BlockType type : kTileTypes) {
      if (!block_type_info(type).quantized) continue;
      const size_t cols = 2 * block_type_info(type).block_size;
      for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
        std::vector<std::byte> blocks(block_row_bytes(type, cols), static_cast<std::byte>(fill));
        for (size_t at = 0; at < blocks.size(); at += block_type_info(type).block_bytes)
          for (const size_t field : scale_offsets(type)) {
            const uint16_t one = f16::from_float(1.0F).bits;
            std::memcpy(blocks.data() + at + field, &one, 2);
          }
        Case c(type, 1, cols, 1);
        pack_tiles(c.kind, blocks.data(), blocks.size(), 1, cols, c.tiles.as<std::byte>());
        decode_blocks(type, blocks, {c.weights.data(), cols});
        for (const float sign : {1.0F, -1.0F}) {
          std::fill(c.x.begin(), c.x.end(), sign * 127.0F);
          ASSERT_TRUE(store_activations({.x = {c.x.data(), 1, cols}}, 0, c.activations, isa));
          EXPECT_LE(c.worst_error(c.product(isa)), 1e-6)
              << isa_name(isa) << " " << block_type_name(type) << " " << fill << " " << sign;
        }
      }
    }
  });
}

TEST(StoreActivations, HasTheSameBitsOnEveryIsa) {
  const size_t cols = 200, tokens = 11;
  const RandomStream random(5, "store");
  std::vector<float> x(tokens * cols), weight(cols), scale(tokens);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(random.normal(i) * std::exp2(40 * random.uniform(i, 1) - 20));
  for (size_t i = 0; i < cols; ++i) weight[i] = static_cast<float>(random.normal(i, 2));
  for (size_t i = 0; i < tokens; ++i) scale[i] = static_cast<float>(random.uniform(i, 3));
  for (size_t i = 0; i < cols; ++i) x[i] = 1e-36F;  // too small to be rounded
  for (const ActivationKind kind :
       {ActivationKind::int8, ActivationKind::bf16, ActivationKind::f32}) {
    AlignedBuffer expected(activation_bytes(kind, tokens, cols)), found(expected.size());
    const ActivationSource from{.x = {x.data(), tokens, cols},
                                .token_scale = {scale.data(), tokens},
                                .weight = {weight.data(), cols}};
    ASSERT_TRUE(store_activations(from, 0, {kind, tokens, cols, expected.data()}, Isa::baseline));
    for_each_isa([&](Isa isa) {
      std::memset(found.data(), 0xff, found.size());
      ASSERT_TRUE(store_activations(from, 0, {kind, tokens, cols, found.data()}, isa));
      EXPECT_EQ(0, std::memcmp(expected.data(), found.data(), found.size())) << isa_name(isa);
    });
  }
}

TEST(StoreActivations, ScalesAndWeighsAsANormalisationWouldHave) {
  const size_t cols = 70;
  std::vector<float> x(2 * cols), weight(cols), normal(2 * cols);
  const float scale[] = {0.3F, 1.7F};
  for (size_t k = 0; k < cols; ++k) weight[k] = 0.5F + 0.01F * static_cast<float>(k);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = std::sin(static_cast<float>(i));
    normal[i] = x[i] * scale[i / cols] * weight[i % cols];
  }
  for_each_isa([&](Isa isa) {
    AlignedBuffer fused(activation_bytes(ActivationKind::int8, 2, cols)), plain(fused.size());
    ASSERT_TRUE(store_activations({{x.data(), 2, cols}, {scale, 2}, {weight.data(), cols}}, 0,
                                  {ActivationKind::int8, 2, cols, fused.data()}, isa));
    ASSERT_TRUE(store_activations({{normal.data(), 2, cols}, {}, {}}, 0,
                                  {ActivationKind::int8, 2, cols, plain.data()}, isa));
    EXPECT_EQ(0, std::memcmp(fused.data(), plain.data(), plain.size())) << isa_name(isa);
  });
}

TEST(StoreActivations, MayComeInParts) {
  const Case c(BlockType::bf16, 1, 170, 11);
  for (const ActivationKind kind :
       {ActivationKind::int8, ActivationKind::bf16, ActivationKind::f32}) {
    AlignedBuffer whole(activation_bytes(kind, 11, 170)), parts(whole.size());
    const View2<const float> x(c.x.data(), 11, 170);
    ASSERT_TRUE(store_activations({.x = x}, 0, {kind, 11, 170, whole.data()}));
    for (const size_t first : {128, 0, 32}) {
      const size_t count = first == 128 ? 42 : first == 0 ? 32 : 96;
      ASSERT_TRUE(store_activations({.x = x.cols_slice(first, count)}, first,
                                    {kind, 11, 170, parts.data()}));
    }
    EXPECT_EQ(0, std::memcmp(whole.data(), parts.data(), whole.size()));
  }
}

TEST(StoreActivations, ReportsNanAndInfinityWhereverTheyAre) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for_each_isa([&](Isa isa) {
    for (const ActivationKind kind :
         {ActivationKind::int8, ActivationKind::bf16, ActivationKind::f32})
      for (const float value : bad)
        for (const size_t at : {0, 31, 32, 69}) {
          std::vector<float> x(2 * 70, 1.0F);
          x[70 + at] = value;
          AlignedBuffer buffer(activation_bytes(kind, 2, 70));
          EXPECT_FALSE(
              store_activations({.x = {x.data(), 2, 70}}, 0, {kind, 2, 70, buffer.data()}, isa))
              << isa_name(isa) << " " << value << " at " << at;
        }
  });
}

TEST(StoreActivations, RefusesPartsOfABlockAndShapesThatDisagree) {
  std::vector<float> x(2 * 96, 1.0F);
  AlignedBuffer buffer(activation_bytes(ActivationKind::int8, 2, 96));
  const Activations to{ActivationKind::int8, 2, 96, buffer.data()};
  EXPECT_THROW(store_activations({.x = {x.data(), 2, 32}}, 16, to), Error);
  EXPECT_THROW(store_activations({.x = {x.data(), 2, 31}}, 32, to), Error);
  EXPECT_THROW(store_activations({.x = {x.data(), 2, 64}}, 64, to), Error);
  EXPECT_THROW(store_activations({.x = {x.data(), 1, 96}}, 0, to), Error);
  EXPECT_THROW(store_activations({{x.data(), 2, 96}, {x.data(), 3}, {}}, 0, to), Error);
  EXPECT_THROW(store_activations({{x.data(), 2, 96}, {}, {x.data(), 95}}, 0, to), Error);
}

TEST(TileProducts, RefuseShapesAndKindsThatDisagree) {
  const Case c(BlockType::q4_0, 20, 64, 2);
  std::vector<float> y(40);
  EXPECT_THROW(multiply_tiles(c.tile_rows(), c.activations, {y.data(), 2, 19}), Error);
  EXPECT_THROW(multiply_tiles(c.tile_rows(), c.activations, {y.data(), 1, 20}), Error);
  Activations wrong = c.activations;
  wrong.kind = ActivationKind::bf16;
  EXPECT_THROW(multiply_tiles(c.tile_rows(), wrong, {y.data(), 2, 20}), Error);
  wrong = c.activations;
  wrong.cols = 32;
  EXPECT_THROW(multiply_tiles(c.tile_rows(), wrong, {y.data(), 2, 20}), Error);
}

}  // namespace
}  // namespace cairn
