#include "cairn/infer/paged_cache.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr size_t kPage = PagedCache::kPage;

// Layers of one key head of 4 dimensions in f32.
PagedCache cache_of(std::vector<size_t> windows) {
  return PagedCache({.windows = std::move(windows),
                     .kv_heads = 1,
                     .head_dim = 4,
                     .value_dim = 4,
                     .type = BlockType::f32});
}
constexpr size_t kLayerPage = kPage * 8 * sizeof(float);  // bytes of a layer's page

float& first_value(const PagedCache& cache, size_t layer, size_t position) {
  return reinterpret_cast<float*>(cache.values(layer, 0, position))[position % kPage * 4];
}

TEST(PagedCache, GrowsByPagesAndForksShareUntilTheyWrite) {
  PagedCache cache = cache_of({0});
  cache.prepare(0, 1);
  EXPECT_EQ(cache.bytes(), kLayerPage);
  cache.prepare(255, 257);
  EXPECT_EQ(cache.bytes(), 2 * kLayerPage);
  first_value(cache, 0, 256) = 1;
  PagedCache fork = cache;
  EXPECT_EQ(fork.values(0, 0, 3), cache.values(0, 0, 3));
  fork.prepare(256, 258);
  EXPECT_EQ(fork.values(0, 0, 3), cache.values(0, 0, 3));
  ASSERT_NE(fork.values(0, 0, 256), cache.values(0, 0, 256));
  EXPECT_EQ(first_value(fork, 0, 256), 1);
  first_value(fork, 0, 256) = 2;
  EXPECT_EQ(first_value(cache, 0, 256), 1);
}

TEST(PagedCache, RefusesAnotherTypeAndMoreThanThereIsMemory) {
  EXPECT_THROW(PagedCache({.windows = {0}, .type = BlockType::i8}), Error);
  for (const size_t pages : {size_t{1} << 22, SIZE_MAX / kPage}) {
    PagedCache huge({.windows = std::vector<size_t>(64),
                     .kv_heads = 1024,
                     .head_dim = 4096,
                     .value_dim = 4096});
    EXPECT_THROW(huge.reserve(0, pages * kPage), Error);
    EXPECT_EQ(huge.bytes(), 0U);
  }
}

TEST(PagedCache, ALayerWithAWindowHoldsItsWindowHoweverLongTheText) {
  for (const size_t window : {1, 2, 255, 256, 257, 600})
    for (const size_t step : {1, 7, 256}) {
      PagedCache cache = cache_of({window, 0, window});
      size_t end = 0;
      for (size_t at = 0; at < 2500; at = end) {
        end = at + step;
        cache.prepare(at, end);
        for (size_t p = at; p < end; ++p)
          for (const size_t layer : {0, 1, 2}) first_value(cache, layer, p) = static_cast<float>(p);
        // What the next query sees, and what queries see after going back.
        for (size_t p = first_visible(window, end - std::min<size_t>(end, 256)); p < end; ++p)
          ASSERT_EQ(first_value(cache, 2, p), static_cast<float>(p));
        ASSERT_EQ(first_value(cache, 1, 0), 0);
        const size_t all = (end + kPage - 1) / kPage;
        const size_t ring = std::min(all, (window + 254 + kPage - 1) / kPage + 1);
        ASSERT_LE(cache.bytes(), (all + 2 * ring) * kLayerPage) << window << " " << end;
      }
      EXPECT_TRUE(cache.holds_before(end - 256));
      EXPECT_FALSE(cache.holds_before(1300));
      EXPECT_TRUE(cache.holds_before(0));
    }
}

TEST(PagedCache, WhatAMarkSeesStaysUntilTheNextText) {
  PagedCache cache = cache_of({300});
  for (size_t at = 0; at < 2048; at += 256) cache.prepare(at, at + 256);
  const size_t bytes = cache.bytes();
  for (size_t p = 2048 - 299; p < 2048; ++p) first_value(cache, 0, p) = static_cast<float>(p);
  for (size_t at = 2048; at < 5120; at += 256) cache.prepare(at, at + 256, 2048);
  EXPECT_TRUE(cache.holds_before(2048));
  EXPECT_FALSE(cache.holds_before(3072));
  PagedCache back = cache;
  back.truncate(2048);
  EXPECT_TRUE(back.holds_before(2048));
  for (size_t p = 2048 - 299; p < 2048; ++p)
    EXPECT_EQ(first_value(back, 0, p), static_cast<float>(p));
  cache.prepare(5120, 5121);
  EXPECT_FALSE(cache.holds_before(2048));
  EXPECT_LE(cache.bytes(), bytes + kLayerPage);
}

TEST(PagedCache, ForksOfAWindowGoTheirOwnWays) {
  PagedCache cache = cache_of({300});
  for (size_t at = 0; at < 1000; at += 100) cache.prepare(at, at + 100);
  for (size_t p = 500; p < 1000; ++p) first_value(cache, 0, p) = 1;
  PagedCache fork = cache;
  for (size_t at = 1000; at < 3000; at += 100) {
    cache.prepare(at, at + 100);
    for (size_t p = at; p < at + 100; ++p) first_value(cache, 0, p) = 2;
  }
  EXPECT_TRUE(fork.holds_before(1000));
  for (size_t p = 701; p < 1000; ++p) EXPECT_EQ(first_value(fork, 0, p), 1);
}

TEST(PagedCache, ReservedMemoryIsUsedAndNoMore) {
  PagedCache cache = cache_of({300, 0});
  cache.reserve(0, 4096);
  const size_t bytes = cache.bytes();
  EXPECT_EQ(bytes, (PagedCache::most_pages(300, 4096) + 16) * kLayerPage);
  for (size_t at = 0; at < 4096; at += 256) cache.prepare(at, at + 256);
  EXPECT_EQ(cache.bytes(), bytes);
  cache.truncate(0);
  for (size_t at = 0; at < 4096; at += 64) cache.prepare(at, at + 64);
  EXPECT_EQ(cache.bytes(), bytes);
}

}  // namespace
}  // namespace cairn
