#include "cairn/infer/attention_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/infer/paged_cache.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

// One key head over `length` positions, random, and what one query at the end attends to.
struct Case {
  size_t head_dim, value_dim, length;
  BlockType type;
  std::vector<float> keys, values, query;
  PagedCache cache;

  Case(size_t k, size_t v, size_t n, BlockType the_type)
      : head_dim(k),
        value_dim(v),
        length(n),
        type(the_type),
        keys(n * k),
        values(n * v),
        query(k),
        cache({.windows = {0, 0}, .kv_heads = 2, .head_dim = k, .value_dim = v, .type = the_type}) {
    const RandomStream stream(7, "attention step");
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<float>(stream.normal(i));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(stream.normal(i, 1));
    for (size_t i = 0; i < k; ++i) query[i] = static_cast<float>(stream.normal(i, 2));
    for (size_t p = 0; p < n; ++p) cache.prepare(p, p + 1);
    if (type != BlockType::q8_0) round_all();
    for (size_t p = 0; p < n; ++p) {
      store_key(&keys[p * k], k, p % PagedCache::kPage, type, cache.keys(1, 1, p));
      store_value(&values[p * v], v, p % PagedCache::kPage, type, cache.values(1, 1, p));
    }
    round_all();
  }

  void round_all() {
    round(keys);
    round(values);
  }

  // To what the cache holds of them.
  void round(std::vector<float>& row) const {
    for (size_t i = 0; i < row.size() && type == BlockType::q8_0; i += 32) {
      float largest = 0;
      for (size_t j = 0; j < 32; ++j) largest = std::max(largest, std::abs(row[i + j]));
      const float d = f16::from_float(largest / 127).to_float(), factor = d > 0 ? 1 / d : 0;
      for (size_t j = 0; j < 32; ++j) row[i + j] = d * std::nearbyint(row[i + j] * factor);
    }
    for (float& f : row) {
      if (type == BlockType::f16) f = f16::from_float(f).to_float();
      if (type == BlockType::bf16) f = bf16::from_float(f).to_float();
    }
  }

  CachedChunk chunk(size_t c) const {
    const size_t slot = c * kAttentionChunk % PagedCache::kPage;
    return {type, cache.keys(1, 1, c * kAttentionChunk) + slot * cache.key_bytes(),
            cache.values(1, 1, c * kAttentionChunk) + slot * cache.value_bytes(), head_dim,
            value_dim};
  }

  // `copies` equal queries over positions [first, length), all of them in one call a chunk.
  std::vector<float> attend(size_t first, size_t copies) const {
    const size_t part = attention_part_size(value_dim);
    std::vector<float> sums, out(value_dim);
    for (size_t c = first / kAttentionChunk; c * kAttentionChunk < length; ++c) {
      const size_t low = c * kAttentionChunk;
      std::vector<float> parts(copies * part);
      std::vector<ChunkQuery> queries(copies);
      for (size_t i = 0; i < copies; ++i)
        queries[i] = {query.data(), std::max(low, first) - low,
                      std::min(low + kAttentionChunk, length) - low, &parts[i * part]};
      attend_chunk(chunk(c), queries.data(), copies);
      for (size_t i = 1; i < copies; ++i)
        EXPECT_EQ(std::memcmp(&parts[0], &parts[i * part], (value_dim + 2) * sizeof(float)), 0);
      if (sums.empty())
        sums = parts;
      else
        merge_part(parts.data(), value_dim, sums.data());
    }
    finish_part(sums.data(), value_dim, out.data());
    return out;
  }

  std::vector<double> expected(size_t first) const {
    std::vector<double> weight(length), out(value_dim);
    double sum = 0;
    for (size_t p = first; p < length; ++p) {
      double score = 0;
      for (size_t i = 0; i < head_dim; ++i)
        score += static_cast<double>(query[i]) * keys[p * head_dim + i];
      weight[p] = std::exp2(score);
      sum += weight[p];
    }
    for (size_t p = first; p < length; ++p)
      for (size_t i = 0; i < value_dim; ++i) out[i] += weight[p] / sum * values[p * value_dim + i];
    return out;
  }
};

TEST(AttentionStep, IsSoftmaxAtAnySizeTypeAndTarget) {
  for_each_target([](const char* target) {
    const std::vector<std::array<size_t, 3>> any = {{1, 1, 1},    {7, 5, 63},    {64, 64, 64},
                                                    {64, 64, 65}, {80, 48, 300}, {128, 33, 520},
                                                    {16, 20, 70}, {24, 28, 64},  {8, 40, 65}};
    const std::vector<std::array<size_t, 3>> blocks = {
        {32, 32, 1}, {32, 64, 63}, {64, 64, 65}, {96, 32, 300}, {128, 160, 520}};
    for (const BlockType type : {BlockType::f32, BlockType::f16, BlockType::bf16, BlockType::q8_0})
      for (const auto& [k, v, n] : type == BlockType::q8_0 ? blocks : any)
        for (const size_t first : {size_t{0}, n / 2}) {
          const Case example(k, v, n, type);
          const std::vector<float> found = example.attend(first, 1);
          const std::vector<double> expected = example.expected(first);
          for (size_t i = 0; i < v; ++i)
            ASSERT_NEAR(found[i], expected[i], 2e-5) << target << " " << block_type_name(type)
                                                     << " " << k << " " << n << " from " << first;
        }
  });
}

TEST(AttentionStep, AQueryHasTheSameBitsInAnyCompany) {
  for_each_target([](const char* target) {
    for (const auto& [k, v, type] :
         {std::tuple(24, 5, BlockType::f16), {24, 64, BlockType::f16}, {64, 32, BlockType::q8_0}}) {
      const Case example(k, v, 150, type);
      const std::vector<float> alone = example.attend(3, 1);
      for (const size_t copies : {2, 3, 4, 5, 7, 24})
        EXPECT_EQ(example.attend(3, copies), alone)
            << target << " " << block_type_name(type) << " " << copies;
    }
  });
}

TEST(AttentionStep, KeysBehindTheQueryDoNotCount) {
  for (const BlockType type : {BlockType::bf16, BlockType::q8_0}) {
    Case example(32, 32, 40, type);
    const std::vector<float> before = example.attend(0, 1);
    const std::vector<float> far(32, std::numeric_limits<float>::infinity());
    for (size_t p = 40; p < 64; ++p) {
      store_key(far.data(), 32, p, type, example.cache.keys(1, 1, p));
      store_value(far.data(), 32, p, type, example.cache.values(1, 1, p));
    }
    EXPECT_EQ(example.attend(0, 1), before);
  }
}

TEST(AttentionStep, EightBitsTakeZerosTinyAndHugeNumbersAndShowWhatIsNotFinite) {
  for_each_target([](const char* target) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const auto& [number, error] :
         {std::pair(0.0F, 0.0F), {1e-7F, 1e-7F}, {3e-5F, 1e-6F}, {6e6F, 6e4F}}) {
      Case example(32, 32, 1, BlockType::q8_0);
      std::vector<float> value(32, number);
      value[3] = -number / 3;
      store_value(value.data(), 32, 0, example.type, example.cache.values(1, 1, 0));
      const std::vector<float> found = example.attend(0, 1);
      for (size_t i = 0; i < 32; ++i) EXPECT_NEAR(found[i], value[i], error) << target;
    }
    for (const float bad : {infinity, -infinity, std::nanf("")}) {
      Case example(32, 32, 2, BlockType::q8_0);
      std::vector<float> row(32, 1.0F);
      row[30] = bad;
      store_key(row.data(), 32, 1, example.type, example.cache.keys(1, 1, 1));
      EXPECT_TRUE(std::isnan(example.attend(0, 1)[0])) << target;
      store_value(row.data(), 32, 0, example.type, example.cache.values(1, 1, 0));
      EXPECT_TRUE(std::isnan(example.attend(0, 1)[0])) << target;
    }
  });
}

TEST(AttentionStep, RotationTurnsPairsByTheAngle) {
  for (const size_t dim : {2, 6, 64}) {
    std::vector<float> x(dim), coarse(dim), fine(dim), turn(dim);
    const size_t half = dim / 2;
    for (size_t i = 0; i < dim; ++i) x[i] = static_cast<float>(i) - 2.5F;
    const std::vector<float> old = x;
    for (size_t i = 0; i < half; ++i) {
      coarse[i] = std::cos(0.7F * static_cast<float>(i));
      coarse[half + i] = std::sin(0.7F * static_cast<float>(i));
      fine[i] = std::cos(0.2F);
      fine[half + i] = std::sin(0.2F);
    }
    add_angles(coarse.data(), fine.data(), dim, turn.data());
    rotate_head(turn.data(), dim, x.data());
    for (size_t i = 0; i < half; ++i) {
      const double angle = 0.7 * static_cast<double>(i) + 0.2;
      EXPECT_NEAR(x[i], old[i] * std::cos(angle) - old[half + i] * std::sin(angle), 1e-4);
      EXPECT_NEAR(x[half + i], old[i] * std::sin(angle) + old[half + i] * std::cos(angle), 1e-4);
    }
  }
}

}  // namespace
}  // namespace cairn
