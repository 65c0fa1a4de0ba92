// What training promises for every attention mechanism of the registry, whichever there are: chosen
// by a word, initialised and decayed as it asks, saved and opened again, resumed to the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cairn/train/session.h"
#include "tests/support/files.h"
#include "tiny_run.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TrainConfig room_config(const std::string& room, const Path& run) {
  return parse_config("[model]\nattention = \"" + room +
                          "\"\nhidden_size = 32\nlayers = 2\nheads = 2\nkv_heads = 1\n"
                          "[data]\ntask = \"recall\"\n[batch]\nmicro_batch = 4\n"
                          "[run]\nsteps = 4\nseed = 3\nprecision = \"f32\"\nthreads = 1\n"
                          "[eval]\nwindows = 4\n[log]\ntensorboard = false\n",
                      "room.toml", std::vector<std::string>{"run.folder=" + run.string()});
}

class EveryRoom : public testing::TestWithParam<std::string> {
 protected:
  TrainConfig config(const std::string& name = "run") const {
    return room_config(GetParam(), folder_.path() / name);
  }
  TemporaryFolder folder_;
};

TEST_P(EveryRoom, IsChosenByOneWordAndPrintedWithItsOptions) {
  const TrainConfig config = this->config();
  EXPECT_EQ(config.model.attention.mechanism, GetParam());
  const TrainConfig again = parse_config(print_config(config), "again.toml", {});
  EXPECT_EQ(again.model.attention, config.model.attention);
  EXPECT_TRUE(compare_configs(config, again).empty());
}

TEST_P(EveryRoom, StartsAndDecaysItsParametersAsItAsks) {
  Model model(config().model_config(40));
  model.initialize(1);
  ThreadTeam team(1);
  const std::vector<float> before(model.weights().begin(), model.weights().end());
  for (const Parameter& p : model.parameters()) {
    const Initializer& start = p.spec.initializer;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < p.size; ++i) {
      sum += before[p.offset + i];
      squares += static_cast<double>(before[p.offset + i]) * before[p.offset + i];
    }
    const auto n = static_cast<double>(p.size);
    if (start.kind == Initializer::Kind::constant) {
      EXPECT_FLOAT_EQ(static_cast<float>(sum / n), static_cast<float>(start.value)) << p.spec.name;
    } else if (p.size >= 256) {
      EXPECT_NEAR(std::sqrt(squares / n), start.value, 0.2 * start.value) << p.spec.name;
    }
  }
  // Without gradients only decay moves a weight.
  Optimizer optimizer(model.parameters(), model.weights().size(), {.weight_decay = 0.5}, team);
  std::vector<float> none(model.weights().size());
  optimizer.step(model.weights(), none, 1, optimizer.measure(none, 1), 0.1);
  for (const Parameter& p : model.parameters()) {
    const float factor = p.spec.group == ParameterGroup::vector ? 1.0F : 0.95F;
    for (size_t i = p.offset; i < p.offset + p.size; ++i)
      ASSERT_FLOAT_EQ(model.weights()[i], factor * before[i]) << p.spec.name;
  }
}

TEST_P(EveryRoom, TrainsAndOpensAgainWithoutLoss) {
  const SessionResult result = train(config());
  ASSERT_TRUE(result.finished);
  const Model model = load_model(result.model);
  EXPECT_EQ(model.config().attention, normalized(config().model_config(257)).attention);
  EXPECT_EQ(model.weights_hash(), load_model(result.checkpoint).weights_hash());
  const Path copy = folder_.path() / "copy";
  save_model(model, copy, DType::f32);
  EXPECT_EQ(load_model(copy).weights_hash(), model.weights_hash());
  EXPECT_EQ(load_model(copy).config(), model.config());
}

TEST_P(EveryRoom, GoesOnToTheSameBits) {
  const uint64_t expected = load_model(train(config("whole")).model).weights_hash();
  SessionResult result;
  while (!result.finished)
    result = train(config("cut"), {.deadline = std::chrono::steady_clock::now()});
  EXPECT_EQ(load_model(result.model).weights_hash(), expected);
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryRoom, testing::ValuesIn(attention_names()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) { return c == '_'; });
                           return name;
                         });

TEST(MechanismConfig, AnUnknownOneIsRefusedWithASuggestion) {
  const std::string message =
      message_of([] { room_config("softmx", "/nowhere"); }, ErrorKind::usage);
  EXPECT_THAT(message, HasSubstr("room.toml:2"));
  EXPECT_THAT(message, HasSubstr("did you mean \"softmax\"?"));
}

TEST(MechanismConfig, AnUnknownOptionIsRefusedWhereItStands) {
  const std::string message = message_of(
      [] {
        parse_config(
            "[model.attention]\nmechanism = \"softmax\"\nrope_thta = 1e4\n[run]\nsteps = 1",
            "run.toml", {});
      },
      ErrorKind::usage);
  EXPECT_THAT(message, HasSubstr("run.toml:3"));
  EXPECT_THAT(message, HasSubstr("rope_thta"));
}

TEST(MechanismConfig, AWordOnTheCommandLineReplacesTheFiles) {
  const TrainConfig config = parse_config(
      "[model]\nattention = \"softmax\"\n[run]\nsteps = 1", "run.toml",
      std::vector<std::string>{"model.attention=softmax", "model.attention.position=none"});
  EXPECT_EQ(config.origins.at("model.attention.mechanism"), Origin::command_line);
  EXPECT_EQ(config.model.attention.values.at("position"), OptionValue(std::string("none")));
  EXPECT_EQ(config.origins.count("model.attention"), 0U);
}

TEST(TaskConfig, ATaskSetsTheLengthOfSequences) {
  const auto config = [](const std::string& text) {
    return parse_config("[data]\n" + text + "\n[run]\nsteps = 1", "run.toml", {});
  };
  EXPECT_EQ(config("task = \"recall\"").batch.seq_len, 25U);
  EXPECT_EQ(config("task = {name = \"recall\", pairs = 2}").model.context_length, 7U);
  const auto refusal = [&](const std::string& text) {
    return message_of([&] { config(text); }, ErrorKind::usage);
  };
  EXPECT_THAT(refusal("task = \"recal\""), HasSubstr("did you mean \"recall\"?"));
  EXPECT_THAT(refusal("task = {name = \"recall\", pair = 2}"), HasSubstr("run.toml:2"));
  EXPECT_THAT(refusal("task = \"recall\"\nfolder = \"d\""), HasSubstr("data.folder"));
  EXPECT_THAT(refusal("task = \"recall\"\n[batch]\nseq_len = 24"), HasSubstr("25"));
}

}  // namespace
}  // namespace cairn
