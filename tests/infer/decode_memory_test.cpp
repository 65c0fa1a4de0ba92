#include "cairn/infer/decode_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/infer/engine.h"
#include "tests/infer/model_files.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

DecodeMemory memory_of(const ModelConfig& config, size_t context, BlockType type) {
  return decode_memory(config, context, [&](const std::string&) { return type; });
}

TEST(DecodeMemory, IsWhatTheEngineTakes) {
  for (const bool tied : {true, false})
    for (const BlockType type : {BlockType::f32, BlockType::bf16}) {
      ModelConfig config = small_config();
      config.tie_embeddings = tied;
      ThreadTeam team(2, true);
      Engine engine(random_model(config), team, {.weights = type, .context = 256});
      const DecodeMemory memory = memory_of(engine.config(), 256, type);
      EXPECT_EQ(memory.weights, engine.bytes_per_token());
      Session session = engine.start();
      session.reserve(256);
      EXPECT_EQ(memory.cache, session.cache_bytes());
      EXPECT_EQ(memory.embedding, 160 * 48 * (type == BlockType::f32 ? 4 : 2));
    }
}

TEST(DecodeMemory, ALayerWithAWindowCountsItsWindow) {
  ModelConfig config = small_config();
  config.context_length = 4096;
  config.local_attention = {"softmax", {{"window", int64_t{300}}}};
  config.local_layers = {1, 0, 1};
  ThreadTeam team(1);
  Engine engine(random_model(config), team, {.context = 4096});
  Session session = engine.start();
  session.reserve(4096);
  EXPECT_EQ(memory_of(config, 4096, BlockType::f32).cache, session.cache_bytes());
}

TEST(DecodeMemory, GoesByTheTypesAsStored) {
  ModelConfig config = small_config();
  config.hidden_size = config.intermediate_size = 256;
  config.heads = 16;
  const uint64_t four = memory_of(config, 64, BlockType::q4_0).weights;
  EXPECT_EQ(four * 34, memory_of(config, 64, BlockType::q8_0).weights * 18);
  EXPECT_EQ(memory_of(config, 128, BlockType::q4_0).cache,
            2 * memory_of(config, 64, BlockType::q4_0).cache);
  EXPECT_THAT(message_of([&] { memory_of(config, 64, BlockType::mxfp4); }),
              testing::HasSubstr("mxfp4"));
}

}  // namespace
}  // namespace cairn
