#include "cairn/infer/quantization_mix.h"

#include <gtest/gtest.h>

#include <set>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// 16 layers with 8 heads for 2 key-value heads, rows of whole 256.
constexpr MixModel kModel{.layers = 16, .heads = 8, .kv_heads = 2, .tied_head = false};

std::string type_of(const char* file_type, const std::string& name, Shape shape = {512, 1024},
                    MixModel model = kModel) {
  const auto type = mixed_type(find_file_type(file_type), name, shape, model);
  return type ? std::string(block_type_name(*type)) : "kept";
}

TEST(QuantizationMix, VectorsNormsAndRoutersStay) {
  EXPECT_EQ(type_of("q4_k_m", "blk.0.attn_norm.weight", {1024}), "kept");
  EXPECT_EQ(type_of("q4_k_m", "blk.0.attn_q_norm.weight", {8, 256}), "kept");
  EXPECT_EQ(type_of("q4_k_m", "blk.0.ffn_gate_inp.weight"), "kept");
  EXPECT_EQ(type_of("q4_k_m", "blk.0.attn_q.bias"), "kept");
  EXPECT_EQ(type_of("f16", "output_norm.weight", {1024}), "kept");
}

TEST(QuantizationMix, PlainTypesAreTheSameEverywhere) {
  for (const char* type : {"f32", "f16", "bf16", "q8_0"})
    for (const char* name : {"token_embd.weight", "output.weight", "blk.3.ffn_down.weight"})
      EXPECT_EQ(type_of(type, name), type);
}

TEST(QuantizationMix, TheHeadGetsMoreBits) {
  EXPECT_EQ(type_of("q4_0", "output.weight"), "q6_k");
  EXPECT_EQ(type_of("q2_k", "output.weight"), "q6_k");
  EXPECT_EQ(type_of("q4_0", "token_embd.weight"), "q4_0");
  MixModel tied = kModel;
  tied.tied_head = true;
  EXPECT_EQ(type_of("q4_0", "token_embd.weight", {512, 1024}, tied), "q6_k");
  // SmolLM2-135M: rows of 576 hold no blocks of 256.
  EXPECT_EQ(type_of("q4_1", "token_embd.weight", {49152, 576}, tied), "q8_0");
  EXPECT_EQ(type_of("q4_k_m", "token_embd.weight", {49152, 576}, tied), "q8_0");
}

// The layers of 16 that q4_k_m and q5_k_m favour: 0, 1 | 4, 7, 10, 13 | 14, 15.
TEST(QuantizationMix, MediumMixesFavourFirstLastAndEveryThirdLayer) {
  const std::set<size_t> favoured = {0, 1, 4, 7, 10, 13, 14, 15};
  for (size_t layer = 0; layer < 16; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const std::string expected = favoured.count(layer) != 0 ? "q6_k" : "q4_k";
    EXPECT_EQ(type_of("q4_k_m", prefix + "attn_v.weight"), expected) << layer;
    EXPECT_EQ(type_of("q4_k_m", prefix + "ffn_down.weight"), expected) << layer;
    EXPECT_EQ(type_of("q4_k_m", prefix + "ffn_up.weight"), "q4_k");
    EXPECT_EQ(type_of("q4_k_m", prefix + "attn_output.weight"), "q4_k");
  }
  EXPECT_EQ(type_of("q5_k_m", "blk.0.attn_v.weight"), "q6_k");
  EXPECT_EQ(type_of("q5_k_m", "blk.2.attn_v.weight"), "q5_k");
}

TEST(QuantizationMix, OtherMixesFollowTheirTables) {
  EXPECT_EQ(type_of("q4_k_s", "blk.3.attn_v.weight"), "q5_k");
  EXPECT_EQ(type_of("q4_k_s", "blk.4.attn_v.weight"), "q4_k");
  EXPECT_EQ(type_of("q4_k_s", "blk.1.ffn_down.weight"), "q5_k");
  EXPECT_EQ(type_of("q4_k_s", "blk.2.ffn_down.weight"), "q4_k");
  EXPECT_EQ(type_of("q3_k_m", "blk.1.attn_v.weight"), "q5_k");
  EXPECT_EQ(type_of("q3_k_m", "blk.2.attn_v.weight"), "q4_k");
  EXPECT_EQ(type_of("q3_k_m", "blk.0.ffn_down.weight"), "q5_k");
  EXPECT_EQ(type_of("q3_k_m", "blk.1.ffn_down.weight"), "q4_k");
  EXPECT_EQ(type_of("q3_k_m", "blk.1.attn_output.weight"), "q4_k");
  EXPECT_EQ(type_of("q3_k_l", "blk.9.ffn_down.weight"), "q5_k");
  EXPECT_EQ(type_of("q3_k_s", "blk.0.attn_v.weight"), "q3_k");
  EXPECT_EQ(type_of("q2_k", "blk.0.attn_v.weight"), "q4_k");
  EXPECT_EQ(type_of("q2_k", "blk.0.attn_q.weight"), "q2_k");
  EXPECT_EQ(type_of("q2_k", "blk.0.ffn_down.weight"), "q3_k");
  MixModel few = kModel;
  few.kv_heads = 4;
  EXPECT_EQ(type_of("q2_k", "blk.0.attn_v.weight", {512, 1024}, few), "q3_k");
}

// Where experts are eight (Mixtral's number, but not that of Granite's models), attention is a
// small part and stays nearly whole.
TEST(QuantizationMix, OfEightExpertsTheAttentionKeepsMoreBits) {
  MixModel eight = kModel, forty = kModel;
  eight.experts = 8;
  forty.experts = 40;
  const Shape shape = {512, 1024};
  for (const char* type : {"q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m"}) {
    EXPECT_EQ(type_of(type, "blk.5.attn_k.weight", shape, eight), "q8_0") << type;
    EXPECT_EQ(type_of(type, "blk.5.attn_v.weight", shape, eight), "q8_0") << type;
    EXPECT_EQ(type_of(type, "blk.5.attn_output.weight", shape, eight), "q5_k") << type;
    for (const char* name : {"blk.5.attn_k.weight", "blk.5.attn_v.weight",
                             "blk.5.attn_output.weight", "blk.5.attn_q.weight"})
      EXPECT_EQ(type_of(type, name, shape, forty), type_of(type, name)) << type;
  }
  EXPECT_EQ(type_of("q3_k_l", "blk.5.attn_output.weight", shape, eight), "q3_k");
  EXPECT_EQ(type_of("q5_k_m", "blk.5.attn_output.weight", shape, eight), "q5_k");
  EXPECT_EQ(type_of("q4_0", "blk.5.attn_k.weight", shape, eight), "q8_0");
  EXPECT_EQ(type_of("q4_k_m", "blk.5.attn_q.weight", shape, eight), "q4_k");
  EXPECT_EQ(type_of("q4_k_m", "blk.5.ffn_down_exps.weight", {8, 512, 1024}, eight), "q4_k");
  EXPECT_EQ(type_of("q4_k_m", "blk.4.ffn_down_exps.weight", {8, 512, 1024}, eight), "q6_k");
  EXPECT_EQ(type_of("f16", "blk.5.attn_k.weight", shape, eight), "f16");
}

TEST(QuantizationMix, WithImportanceTheFirstLayersHaveMinima) {
  MixModel weighted = kModel;
  weighted.weighted = true;
  const Shape shape = {512, 1024};
  EXPECT_EQ(type_of("q4_0", "blk.1.ffn_down.weight", shape, weighted), "q4_1");
  EXPECT_EQ(type_of("q5_0", "blk.1.ffn_down.weight", shape, weighted), "q5_1");
  EXPECT_EQ(type_of("q4_0", "blk.2.ffn_down.weight", shape, weighted), "q4_0");
  EXPECT_EQ(type_of("q4_0", "blk.1.ffn_down.weight"), "q4_0");
  EXPECT_EQ(type_of("q4_0", "blk.1.ffn_up.weight", shape, weighted), "q4_0");
}

TEST(QuantizationMix, RowsThatDoNotFitGetTheNearestTypeThatDoes) {
  const Shape narrow = {64, 576}, odd = {64, 100};
  EXPECT_EQ(type_of("q4_k_s", "blk.9.ffn_up.weight", narrow), "q5_0");
  EXPECT_EQ(type_of("q5_k_s", "blk.9.ffn_up.weight", narrow), "q5_1");
  EXPECT_EQ(type_of("q6_k", "blk.9.ffn_up.weight", narrow), "q8_0");
  EXPECT_EQ(type_of("q3_k_s", "blk.9.ffn_up.weight", narrow), "q4_0");
  EXPECT_EQ(type_of("q2_k", "blk.9.ffn_up.weight", narrow), "q4_0");
  EXPECT_EQ(type_of("q4_k_s", "blk.9.ffn_up.weight", odd), "f16");
  EXPECT_EQ(type_of("q8_0", "blk.9.ffn_up.weight", odd), "f16");
}

TEST(QuantizationMix, TypesAreFoundByNameInEitherCaseAndById) {
  EXPECT_EQ(find_file_type("Q4_K_M").id, 15U);
  EXPECT_EQ(find_file_type("q4_k").name, "q4_k_m");
  EXPECT_EQ(find_file_type(uint32_t{32})->name, "bf16");
  EXPECT_EQ(find_file_type(uint32_t{99}), nullptr);
  try {
    find_file_type("q4_k_n");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("did you mean"), std::string::npos);
  }
}

}  // namespace
}  // namespace cairn
