#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/kernels/blocks.h"
#include "tests/support/golden.h"
#include "tests/support/targets.h"

namespace cairn {
namespace {

// One type of tests/golden/blocks/decode.bin, made by an independent NumPy implementation.
struct Golden {
  BlockType type = BlockType::f32;
  std::string blocks;
  std::vector<uint32_t> values;  // bits of f32
};

std::vector<Golden> read_golden() {
  const std::string content = read_file(golden_folder() / "blocks" / "decode.bin");
  std::vector<Golden> all;
  for (size_t at = 0; at < content.size();) {
    uint32_t head[2];
    std::memcpy(head, content.data() + at, sizeof head);
    at += sizeof head;
    Golden golden;
    golden.type = static_cast<BlockType>(head[0]);
    golden.blocks = content.substr(at, block_row_bytes(golden.type, head[1]));
    at += golden.blocks.size();
    golden.values.resize(head[1]);
    std::memcpy(golden.values.data(), content.data() + at, 4 * golden.values.size());
    at += 4 * golden.values.size();
    all.push_back(std::move(golden));
  }
  return all;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(BlockDecode, GivesTheReferencesBitsOnEveryTarget) {
  const std::vector<Golden> all = read_golden();
  ASSERT_EQ(all.size(), 14U);
  for_each_target([&](auto target) {
    for (const Golden& golden : all) {
      std::vector<float> found(golden.values.size());
      decode_blocks(golden.type, bytes_of(golden.blocks), {found.data(), found.size()});
      for (size_t i = 0; i < found.size(); ++i) {
        uint32_t bits = 0;
        std::memcpy(&bits, &found[i], sizeof bits);

        ASSERT_EQ(bits, golden.values[i])
            << target << ", " << block_type_name(golden.type) << " element " << i;
      }
    }
  });
}

TEST(BlockDecode, ReadsBlocksAtAnyAddress) {
  for (const Golden& golden : read_golden()) {
    std::vector<float> found(golden.values.size()), expected(golden.values.size());
    decode_blocks(golden.type, bytes_of(golden.blocks), {expected.data(), expected.size()});
    const std::string shifted = "x" + golden.blocks;
    decode_blocks(golden.type, bytes_of(shifted).subspan(1), {found.data(), found.size()});
    EXPECT_EQ(0, std::memcmp(found.data(), expected.data(), 4 * found.size()))
        << block_type_name(golden.type);
  }
}

TEST(BlockDecode, WritesNothingBesideItsValues) {
  for (const Golden& golden : read_golden()) {
    std::vector<float> found(golden.values.size() + 2, 7.0F);
    decode_blocks(golden.type, bytes_of(golden.blocks), {found.data() + 1, golden.values.size()});
    EXPECT_EQ(found.front(), 7.0F);
    EXPECT_EQ(found.back(), 7.0F) << block_type_name(golden.type);
  }
}

TEST(BlockDecode, RefusesSizesThatDisagreeAndTypesItDoesNotKnow) {
  std::vector<float> y(32);
  const std::string blocks(34, '\0');
  EXPECT_THROW(decode_blocks(BlockType::q4_0, bytes_of(blocks), {y.data(), 32}), Error);
  EXPECT_THROW(decode_blocks(BlockType::q8_0, bytes_of(blocks), {y.data(), 31}), Error);
  EXPECT_FALSE(can_decode(BlockType::iq2_s));
  EXPECT_TRUE(can_decode(BlockType::q3_k));
  try {
    std::vector<float> wide(256);
    const std::string row(82, '\0');
    decode_blocks(BlockType::iq2_s, bytes_of(row), {wide.data(), 256});
    FAIL() << "iq2_s has no decoder";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("iq2_s"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace cairn
