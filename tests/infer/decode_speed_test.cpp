#include "cairn/infer/decode_speed.h"

#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "tests/infer/model_files.h"

namespace cairn {
namespace {

ModelConfig speed_config() {
  ModelConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.heads = 4;
  config.kv_heads = 2;
  return normalized(config);
}

TEST(DecodeSpeed, TimesEveryTokenAndLeavesTheTextAsItWas) {
  const RandomDecoder random(speed_config(), BlockType::q4_0);
  ThreadTeam team(2, true);
  Engine engine(random.weights(), team);
  DecodeSpeed speed(engine);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(speed.decode(20, 7).size(), 7U);
    EXPECT_EQ(speed.passes(20, 4, 3).size(), 3U);
    EXPECT_GT(speed.prefill(40), 0);
    const double waiting = speed.barrier_share(20, 5);
    EXPECT_GE(waiting, 0);  // one thread walks where processors are scarce
    EXPECT_LT(waiting, 1);
  }
  EXPECT_THROW(speed.decode(319, 5), Error);
  EXPECT_THROW(speed.prefill(321), Error);
  EXPECT_EQ(speed.decode(20, 2).size(), 2U);
}

TEST(RandomDecoder, ReadsTheBytesThatItsShapeHas) {
  const ModelConfig c = speed_config();
  const RandomDecoder random(c, BlockType::q8_0);
  ThreadTeam team(1);
  const Engine engine(random.weights(), team);
  const size_t weights = c.layers * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 96) + 160 * 64;
  EXPECT_GE(engine.bytes_per_token(), weights / 32 * 34);
  EXPECT_LE(engine.bytes_per_token(), weights / 32 * 34.2);  // tiles begin at whole lines
}

TEST(RandomDecoder, OfExpertsReadsThoseThatATokenChooses) {
  ModelConfig c = speed_config();
  c.architecture = "granitemoe";
  c.experts = 8;
  c.experts_per_token = 2;
  const RandomDecoder random(c, BlockType::q8_0);
  ThreadTeam team(2, true);
  Engine engine(random.weights(), team);
  const size_t weights = c.layers * (64 * (64 + 32 + 32 + 64) + 2 * 3 * 64 * 96) + 160 * 64;
  const size_t bytes = weights / 32 * 34 + c.layers * 16 * 64 * sizeof(float);  // and the router's
  EXPECT_GE(engine.bytes_per_token(), bytes);
  EXPECT_LE(engine.bytes_per_token(), bytes + bytes / 100);
  EXPECT_EQ(DecodeSpeed(engine).decode(20, 3).size(), 3U);
}

TEST(RandomDecoder, KnowsItsShapesAndRefusesBrokenBlocks) {
  EXPECT_EQ(RandomDecoder::shape("135m").layers, 30U);
  EXPECT_THROW(RandomDecoder::shape("135"), Error);
  ModelConfig config = speed_config();
  EXPECT_THROW(RandomDecoder(config, BlockType::q4_k), Error);
}

}  // namespace
}  // namespace cairn
