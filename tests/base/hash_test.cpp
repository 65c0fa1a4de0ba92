#include "cairn/base/hash.h"

#include <gtest/gtest.h>

#include <string>

namespace cairn {
namespace {

TEST(Hash, GivesThePublishedXxh3Values) {
  EXPECT_EQ(hex64(hash64("")), "2d06800538d394c2");
  EXPECT_EQ(hex64(hash64("a")), "e6c632b61e964e1f");
  EXPECT_EQ(hex64(hash64("abc")), "78af5f94892f3950");
}

TEST(Hash, HexKeepsLeadingZeros) {
  EXPECT_EQ(hex64(0), "0000000000000000");
  EXPECT_EQ(hex64(0xabc), "0000000000000abc");
  EXPECT_EQ(hex64(~uint64_t{0}), "ffffffffffffffff");
}

TEST(Hash, DependsOnEveryByteAndTheSeed) {
  std::string text(1000, 'x');
  const uint64_t whole = hash64(text);
  EXPECT_NE(hash64(text, 1), whole);
  for (const size_t position : {0, 1, 239, 240, 241, 511, 998, 999}) {
    std::string changed = text;
    changed[position] = 'y';
    EXPECT_NE(hash64(changed), whole) << position;
  }
}

// 240 and 256 bytes are where the algorithm changes its ways.
TEST(Hasher, PiecesGiveTheHashOfTheWhole) {
  std::string text;
  for (size_t i = 0; i < 3000; ++i) text.push_back(static_cast<char>(i * 31 + i / 7));
  for (const size_t length : {0, 1, 16, 17, 128, 129, 240, 241, 256, 257, 1024, 3000})
    for (const size_t piece : {1, 3, 64, 255, 256, 257, 1000}) {
      Hasher hasher;
      for (size_t i = 0; i < length; i += piece)
        hasher.update(text.data() + i, std::min(piece, length - i));
      EXPECT_EQ(hasher.digest(), hash64(text.data(), length)) << length << " by " << piece;
    }
}

TEST(Hasher, DigestDoesNotEndTheHash) {
  Hasher hasher;
  hasher.update("ab", 2);
  EXPECT_EQ(hasher.digest(), hash64("ab"));
  hasher.update("c", 1);
  Hasher moved = std::move(hasher);
  EXPECT_EQ(moved.digest(), hash64("abc"));
}

}  // namespace
}  // namespace cairn
