#include "cairn/eval/attention_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "cairn/eval/attention_picture.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

Model model_with(const std::string& mechanism) {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.layers = 3;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.context_length = 600;
  config.attention.mechanism = mechanism;
  Model model(config, 0.3);
  model.initialize(5);
  return model;
}

const std::vector<int32_t> kTokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};

TEST(AttentionMap, IsOfTheLayersAskedFor) {
  ThreadTeam team(2);
  Model model = model_with("path");
  const std::vector<size_t> layers = {0, 2};
  const auto maps = read_attention(model, kTokens, layers, team);
  ASSERT_EQ(maps.size(), 2U);
  EXPECT_EQ(maps[0].layer, 0U);
  EXPECT_EQ(maps[1].layer, 2U);
  EXPECT_EQ(maps[1].mechanism, "path");
  EXPECT_EQ(maps[1].weights.heads, 4U);
  EXPECT_EQ(maps[1].weights.tokens, kTokens.size());
}

// A later token does not change what earlier ones attend to, and an earlier one changes it in the
// layers above the first: what is shown comes from the whole model.
TEST(AttentionMap, FollowsTheTextThatWasRead) {
  ThreadTeam team(1);
  Model model = model_with("softmax");
  const std::vector<size_t> layers = {2};
  const auto first = read_attention(model, kTokens, layers, team).front().weights;
  auto other = kTokens;
  other.back() = 7;
  const auto last_changed = read_attention(model, other, layers, team).front().weights;
  EXPECT_NEAR(first.weights[first.at(1, 5, 2)], last_changed.weights[first.at(1, 5, 2)], 1e-6);
  other.front() = 8;
  const auto first_changed = read_attention(model, other, layers, team).front().weights;
  EXPECT_GT(std::abs(first.weights[first.at(1, 5, 2)] - first_changed.weights[first.at(1, 5, 2)]),
            1e-4);
}

TEST(AttentionMap, OneMapOfSeveralHeads) {
  AttentionWeights w;
  w.heads = 2;
  w.tokens = w.keys = 2;
  w.weights = {1, 0, 0.2, 0.8, /*head 1*/ 1, 0, 0.6, 0.4};
  w.extras.push_back({"stick", "", 0, {1, 0, 0.5, 1, 1, 0, 0.25, 1}});
  const AttentionWeights mean = mean_of_heads(w), strongest = strongest_of_heads(w);
  EXPECT_DOUBLE_EQ(mean.weights[mean.at(0, 1, 0)], 0.4);
  EXPECT_DOUBLE_EQ(mean.extras[0].values[mean.at(0, 1, 0)], 0.375);
  EXPECT_DOUBLE_EQ(strongest.weights[mean.at(0, 1, 0)], 0.6);
  EXPECT_DOUBLE_EQ(strongest.extras[0].values[mean.at(0, 1, 0)], 0.25);
  EXPECT_DOUBLE_EQ(strongest.weights[mean.at(0, 1, 1)], 0.8);
  EXPECT_DOUBLE_EQ(one_head(w, 1).weights[mean.at(0, 1, 1)], 0.4);
  EXPECT_THROW(one_head(w, 2), Error);
}

TEST(AttentionMap, RefusesWhatTheModelDoesNotHave) {
  ThreadTeam team(1);
  Model model = model_with("softmax");
  const std::vector<size_t> layers = {3}, first = {0};
  EXPECT_THROW(read_attention(model, kTokens, layers, team), Error);
  EXPECT_THROW(read_attention(model, {}, first, team), Error);
  EXPECT_THROW(read_attention(model, std::vector<int32_t>(513, 1), first, team), Error);
  EXPECT_THROW(read_attention(model, std::vector<int32_t>{50}, first, team), Error);
}

TEST(AttentionMap, TokensCanBeReadInARow) {
  EXPECT_EQ(visible_token(" the"), "·the");
  EXPECT_EQ(visible_token("\n\t"), "⏎→");
  EXPECT_EQ(visible_token("né"), "né");
  EXPECT_EQ(visible_token("\xc3"), "\\xc3");
  EXPECT_EQ(visible_token(std::string_view("\0\x1b", 2)), "\\x00\\x1b");
}

AttentionPicture picture_of(const std::string& mechanism, std::optional<size_t> query) {
  ThreadTeam team(1);
  Model model = model_with(mechanism);
  const std::vector<size_t> layers = {0, 1};
  AttentionPicture picture;
  picture.title = "a < b & \"c\"";
  for (const int32_t token : kTokens) picture.tokens.push_back("<" + std::to_string(token) + ">");
  for (LayerWeights& layer : read_attention(model, kTokens, layers, team))
    picture.panels.push_back(
        {layer.layer, "layer " + std::to_string(layer.layer), mean_of_heads(layer.weights)});
  picture.query = query;
  return picture;
}

TEST(AttentionPicture, NamesTokensPanelsAndExtras) {
  for (const std::optional<size_t>& query : {std::optional<size_t>(), std::optional<size_t>(6)}) {
    const std::string svg = draw_attention(picture_of("stick_breaking", query));
    EXPECT_THAT(svg, HasSubstr("layer 1"));
    EXPECT_THAT(svg, HasSubstr(">stick<"));
    EXPECT_THAT(svg, HasSubstr("&lt;9&gt;"));
    EXPECT_THAT(svg, HasSubstr("a &lt; b &amp; &quot;c&quot;"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
  }
}

TEST(AttentionPicture, OfATokenStopsAtTheToken) {
  const std::string svg = draw_attention(picture_of("softmax", 4));
  EXPECT_THAT(svg, HasSubstr("&lt;5&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("&lt;9&gt;")));
}

TEST(AttentionPicture, StaysSmallForLongTextsAndManyHeads) {
  ThreadTeam team(1);
  Model model = model_with("softmax");
  const std::vector<size_t> layers = {0, 1, 2};
  std::vector<int32_t> tokens(400);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * i % 50);
  AttentionPicture picture;
  picture.tokens.assign(tokens.size(), "t");
  for (const LayerWeights& layer : read_attention(model, tokens, layers, team))
    for (size_t head = 0; head < 4; ++head)
      picture.panels.push_back({layer.layer, "head", one_head(layer.weights, head)});
  const std::string svg = draw_attention(picture);
  EXPECT_LE(svg.size(), size_t{20} << 20);
  EXPECT_THAT(svg, HasSubstr("shows the largest"));
}

}  // namespace
}  // namespace cairn
