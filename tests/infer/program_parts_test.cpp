// A decode program without some of its parts: slower, and the same bits.
#include "cairn/infer/program_parts.h"

#include <gtest/gtest.h>

#include <array>

#include "cairn/base/error.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/kernels/tile_products.h"
#include "tests/infer/model_files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

// From nothing to everything, as the ablation goes.
constexpr std::array kSteps = {
    ProgramParts{false, false, false, false}, ProgramParts{true, false, false, false},
    ProgramParts{true, true, false, false}, ProgramParts{true, true, true, false}};

// What follows a prompt, two tokens one by one, and five that are read together, each.
std::vector<float> some_logits(Engine& engine) {
  const size_t vocab = engine.config().vocab_size;
  const auto tokens = random_tokens(77, vocab);
  std::vector<float> logits;
  const auto keep = [&](View1<const float> row) {
    logits.insert(logits.end(), row.begin(), row.end());
  };
  Session session = engine.start();
  keep(session.append(std::span(tokens).first(70)));
  for (size_t i = 70; i < 72; ++i) keep(session.append(tokens[i]));
  std::vector<float> each(5 * vocab);
  session.append(std::span(tokens).subspan(72, 5), {each.data(), 5, vocab});
  logits.insert(logits.end(), each.begin(), each.end());
  session.truncate(72);
  keep(session.append(std::span(tokens).subspan(72, 5)));
  return logits;
}

void expect_same_bits(const DecoderWeights& weights, std::span<const ProgramParts> steps,
                      int threads, const std::string& name) {
  ThreadTeam team(threads, true);
  EngineOptions options{.walkers = Walkers::team};
  Engine whole(weights, team, options);
  const std::vector<float> expected = some_logits(whole);
  for (size_t i = 0; i < steps.size(); ++i) {
    options.parts = steps[i];
    Engine engine(weights, team, options);
    EXPECT_EQ(some_logits(engine), expected) << name << ", step " << i << ", threads " << threads;
    engine.set_parts({.stream = steps[i].stream});
    EXPECT_EQ(some_logits(engine), expected) << name << ", after step " << i;
  }
}

TEST(ProgramParts, ChangeNoBitInAnyFormat) {
  ModelConfig config = small_config();
  config.hidden_size = 288;  // a width that products are compiled for
  config.intermediate_size = 384;
  config.layers = 1;
  for (const BlockType type : {BlockType::q4_0, BlockType::q8_0, BlockType::bf16}) {
    const RandomDecoder random(normalized(config), type);
    for (const int threads : {1, 3})
      expect_same_bits(random.weights(), kSteps, threads, std::string(block_type_name(type)));
  }
}

TEST(ProgramParts, ChangeNoBitInAnyFamily) {
  for (const char* name : {"llama-biases", "granite", "qwen3", "gemma3"}) {
    const Model model = load_model(golden_folder() / "models" / name);
    expect_same_bits(decoder_weights(model), std::span(kSteps).first(1), 2, name);
  }
}

TEST(ProgramParts, OfFusionSaveBarriersAndTheirTimeIsTold) {
  const Model model = random_model(small_config());
  ThreadTeam team(2, true);
  Engine engine(model, team, {.walkers = Walkers::team});
  Session session = engine.start();
  const size_t layers = engine.config().layers;
  session.append(3);
  EXPECT_LE(engine.barriers(), 5 * layers + 2);
  EXPECT_EQ(engine.barrier_seconds(), 0);
  engine.time_barriers(true);
  engine.set_parts({.fusion = false});
  session.append(3);
  EXPECT_GE(engine.barriers(), 18 * layers);
  EXPECT_GT(engine.barrier_seconds(), 0);
}

TEST(ProgramParts, CannotBeTakenFromEveryProgram) {
  ThreadTeam team(1);
  Engine engine(random_model(small_config()), team);
  EXPECT_THROW(engine.set_parts({.stream = false}), Error);
  ModelConfig config = small_config();
  config.attention.mechanism = "stick_breaking";
  const Model model = random_model(config);
  EXPECT_THROW(Engine(model, team, {.parts = {.fusion = false}}), Error);
}

}  // namespace
}  // namespace cairn
