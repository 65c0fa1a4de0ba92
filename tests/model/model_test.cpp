#include "cairn/model/model.h"

#include <cmath>
#include <set>

#include "cairn/base/random.h"
#include "tests/model/tiny.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;

TEST(Model, PlacesEveryTensorAtACacheLineWithoutOverlap) {
  Model model(tiny_config());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(model.weights().data()) % kAlignment, 0U);
  size_t end = 0;
  for (const Parameter& parameter : model.parameters()) {
    EXPECT_EQ(parameter.offset % 16, 0U);
    EXPECT_GE(parameter.offset, end);
    EXPECT_LT(parameter.offset - end, 16U);
    EXPECT_EQ(parameter.size, element_count(parameter.spec.shape));
    end = parameter.offset + parameter.size;
  }
  EXPECT_LE(end, model.weights().size());
}

TEST(Model, KeepsThePaddingZero) {
  Model model(tiny_config());
  model.initialize(1);
  std::vector<bool> owned(model.weights().size());
  for (const Parameter& parameter : model.parameters())
    for (size_t i = 0; i < parameter.size; ++i) owned[parameter.offset + i] = true;
  size_t padding = 0;
  for (size_t i = 0; i < owned.size(); ++i) {
    if (owned[i]) continue;
    ++padding;
    EXPECT_EQ(model.weights()[i], 0.0F);
  }
  EXPECT_GT(padding, 0U);
}

TEST(Model, DrawsEachTensorFromItsOwnStream) {
  Model model(tiny_config(), 0.5);
  model.initialize(7);
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const RandomStream stream(7, "init." + name);
  const View2<float> matrix = model.matrix(name);
  for (size_t i = 0; i < matrix.rows * matrix.cols; ++i)
    EXPECT_EQ(matrix.data[i], static_cast<float>(0.25 * stream.normal(i)));  // 0.5 / sqrt(2 * 2)

  ModelConfig wider = tiny_config();
  wider.vocab_size = 100;
  Model other(wider, 0.5);
  other.initialize(7);
  EXPECT_EQ(other.matrix(name)[3][5], matrix[3][5]);
}

TEST(Model, DrawsWithTheRightSpread) {
  ModelConfig config = tiny_config();
  config.vocab_size = 5000;
  Model model(config);
  model.initialize(3);
  double sum = 0;
  double squares = 0;
  const View1<float> values = model.values(model.find("model.embed_tokens.weight"));
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const auto count = static_cast<double>(values.size);
  EXPECT_NEAR(sum / count, 0.0, 5 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 0.0003);
  for (const float gain : model.vector("model.norm.weight")) EXPECT_EQ(gain, 1.0F);
}

TEST(Model, HashesEverySingleBit) {
  Model model(tiny_config());
  model.initialize(1);
  std::set<uint64_t> seen = {model.weights_hash()};
  for (const Parameter& parameter : model.parameters()) {
    float& value = model.values(parameter)[parameter.size - 1];
    const float old = value;
    value = -value;
    EXPECT_TRUE(seen.insert(model.weights_hash()).second) << parameter.spec.name;
    value = old;
  }
  EXPECT_EQ(seen.count(model.weights_hash()), 1U);
  Model other(tiny_config());
  other.initialize(2);
  EXPECT_NE(other.weights_hash(), model.weights_hash());
  other.initialize(1);
  EXPECT_EQ(other.weights_hash(), model.weights_hash());
}

TEST(Model, NamesTheNearestTensorAndHoldsViewsToTheirRank) {
  Model model(tiny_config());
  const auto message = [&](auto action) { return message_of(action, ErrorKind::usage); };
  EXPECT_THAT(message([&] { model.find("model.norm.wieght"); }),
              HasSubstr("\"model.norm.weight\""));
  EXPECT_THAT(message([&] { model.matrix("model.norm.weight"); }), HasSubstr("a matrix"));
  EXPECT_THAT(message([&] { model.vector("model.embed_tokens.weight"); }), HasSubstr("a vector"));
  const View2<float> embedding = model.matrix("model.embed_tokens.weight");
  EXPECT_EQ(embedding.rows, 11U);
  EXPECT_EQ(embedding.cols, 12U);
}

TEST(Model, RefusesAConfigurationThatCannotBe) {
  ModelConfig config = tiny_config();
  config.heads = 5;
  EXPECT_THAT(message_of([&] { Model model(config); }, ErrorKind::usage), HasSubstr("kv_heads"));
}

}  // namespace
}  // namespace cairn
