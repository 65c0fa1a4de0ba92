#include "cairn/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/model/tiny.h"
#include "tests/support/files.h"
#include "tests/support/gguf_files.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Model tiny_model(bool tied) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = tied;
  Model model(config);
  model.initialize(3);
  return model;
}

std::vector<size_t> hf_rows(const RowOrder& order, size_t count) {
  std::vector<size_t> rows;
  for (size_t row = 0; row < count; ++row) rows.push_back(order.hf_row(row));
  return rows;
}

TEST(GgufNames, RowsOfRotatedPairsStandSideBySide) {
  const RowOrder order{.rotary_head = 64};
  EXPECT_THAT(hf_rows({.rotary_head = 4}, 8), ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  for (size_t row = 0; row < 192; ++row) EXPECT_EQ(order.hf_row(gguf_row(row, 64)), row);
}

TEST(GgufNames, GatesAndUpsOfExpertsAreHalvesOfTheirRows) {
  EXPECT_THAT(hf_rows({.group = 2, .stride = 4, .first = 0}, 4), ElementsAre(0, 1, 4, 5));
  EXPECT_THAT(hf_rows({.group = 2, .stride = 4, .first = 2}, 4), ElementsAre(2, 3, 6, 7));
}

TEST(GgufNames, FollowTheModelsOrderAndMarkRotatedTensors) {
  const std::vector<GgufName> names = gguf_names(tiny_model(false).config());
  ASSERT_EQ(names.size(), 3U + 2 * 9);
  EXPECT_EQ(names[0].gguf, "token_embd.weight");
  EXPECT_EQ(names[2].hf, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(names[2].gguf, "blk.0.attn_q.weight");
  EXPECT_EQ(names.back().gguf, "output.weight");
  for (const GgufName& name : names) {
    EXPECT_FALSE(name.gguf.empty()) << name.hf;
    const bool rotary =
        name.hf.find("q_proj") != std::string::npos || name.hf.find("k_proj") != std::string::npos;
    EXPECT_EQ(name.order.rotary_head != 0, rotary) << name.hf;
  }
}

TEST(GgufConfig, RefusesToWriteWhatGgufCannotSay) {
  GgufMetadata metadata;
  ModelConfig nowhere = tiny_config();
  nowhere.attention.values = {{"position", std::string("none")}};
  EXPECT_THROW(write_gguf_config(nowhere, metadata), Error);
  ModelConfig dynamic = tiny_config();
  dynamic.attention.values = {{"rope_theta", 10000.0},
                              {"rope_scaling", std::string("dynamic")},
                              {"rope_factor", 2.0},
                              {"rope_original_context", 16.0}};
  EXPECT_THROW(write_gguf_config(dynamic, metadata), Error);
  ModelConfig other = tiny_config();
  other.attention.mechanism = "path";
  EXPECT_THROW(gguf_names(other), Error);
}

TEST(GgufModel, ComesBackWithTheSameConfigurationAndWeights) {
  for (const bool tied : {true, false}) {
    const TempFolder folder;
    const Model model = tiny_model(tied);
    write_gguf_model(model, folder / "m.gguf");
    const Model loaded = load_model(folder / "m.gguf");
    EXPECT_EQ(loaded.config(), model.config());
    EXPECT_EQ(loaded.weights_hash(), model.weights_hash());
  }
}

TEST(GgufModel, HalvesAreRounded) {
  const TempFolder folder;
  const Model model = tiny_model(true);
  write_gguf_model(model, folder / "m.gguf", BlockType::f16);
  const Model loaded = load_model(folder / "m.gguf");
  for (const Parameter& parameter : model.parameters()) {
    const View1<const float> expected = model.values(parameter), found = loaded.values(parameter);
    for (size_t i = 0; i < found.size; ++i)
      ASSERT_EQ(found[i], f16::from_float(expected[i]).to_float()) << parameter.spec.name;
  }
}

// Rows of 32: quantised rows change their places whole.
TEST(GgufModel, QuantisedRowsFindTheirPlaces) {
  const TempFolder folder;
  ModelConfig config = tiny_config();
  config.hidden_size = 64;
  config.head_dim = 16;
  config.intermediate_size = 96;
  Model model(config);
  model.initialize(4);
  write_gguf_model(model, folder / "m.gguf", BlockType::q8_0);
  const Model loaded = load_model(folder / "m.gguf");
  for (const Parameter& parameter : model.parameters()) {
    const View1<const float> expected = model.values(parameter), found = loaded.values(parameter);
    for (size_t i = 0; i < found.size; ++i)
      ASSERT_NEAR(found[i], expected[i], 0.1F / 127) << parameter.spec.name;
  }
}

TEST(GgufModel, EveryTokenThatEndsATextIsAnEnd) {
  const TempFolder folder;
  ModelConfig config = tiny_config();
  config.eos_ids = {5};
  GgufMetadata metadata;
  std::vector<std::string> tokens(11, "x");
  std::vector<int32_t> types(11, 1);
  for (size_t i = 0; i < 11; ++i) tokens[i] += std::to_string(i);
  tokens[7] = tokens[8] = "<|im_end|>";
  types[7] = 3;  // a control token; 8 is only spelled like one
  metadata.set_strings("tokenizer.ggml.tokens", tokens);
  metadata.set_i32s("tokenizer.ggml.token_type", types);
  metadata.set_u32("tokenizer.ggml.eot_token_id", 2);
  write_gguf_model(Model(config), folder / "m.gguf", BlockType::f32, metadata);
  EXPECT_THAT(load_model(folder / "m.gguf").config().eos_ids, ElementsAre(5, 2, 7));
}

// One wrong thing a file, and the words that must name it.
TEST(GgufModel, RefusesByNameWhatItDoesNotSupport) {
  struct Case {
    std::function<void(GgufMetadata&)> change;
    std::string words;
  };
  const std::vector<Case> cases = {
      {[](auto& m) { m.set_string("general.architecture", "mamba"); }, "mamba"},
      {[](auto& m) { m.set_string("general.architecture", "qwen2"); }, "qwen2.embedding_length"},
      {[](auto& m) { m.set_string("general.type", "adapter"); }, "adapter"},
      {[](auto& m) { m.set_u32("llama.expert_count", 8); }, "experts"},
      {[](auto& m) { m.set_f32("llama.final_logit_softcapping", 30); }, "soft caps"},
      {[](auto& m) { m.set_f32("llama.logit_scale", 8); }, "llama.logit_scale"},
      {[](auto& m) {
         m.set_string("llama.rope.scaling.type", "spiral");
         m.set_f32("llama.rope.scaling.factor", 4);
       },
       "scaled rotary"},
      {[](auto& m) { m.set_u32("llama.rope.dimension_count", 3); }, "rope.dimension_count"},
      {[](auto& m) { m.set_u32("llama.attention.value_length", 8); }, "value_length"},
      {[](auto& m) {
         m.set_i32s("llama.feed_forward_length", std::vector<int32_t>{20, 24});
       },
       "layers that differ"},
      {[](auto& m) { m.set_u32("llama.block_count", 0); }, "llama.block_count"},
      {[](auto& m) { m.set_u32("llama.block_count", 3); }, "blk.2.attn_norm.weight"},
      {[](auto& m) { m.set_u32("llama.block_count", 1); }, "blk.1."},
      {[](auto& m) { m.set_u32("llama.feed_forward_length", 24); }, "blk.0.ffn_gate.weight"},
      {[](auto& m) { m.set_u32("llama.vocab_size", 12); }, "llama.vocab_size"},
      {[](auto& m) { m.set_u32("llama.attention.head_count_kv", 3); }, "kv_heads"},
      {[](auto& m) { m.set_f32("llama.rope.freq_base", -1); }, "llama.rope.freq_base"},
      {[](auto& m) { m.set_string("llama.context_length", "long"); }, "llama.context_length"},
      {[](auto& m) { m.set_u32("tokenizer.ggml.eos_token_id", 11); }, "eos_token_id"},
      {[](auto& m) { m.remove("llama.embedding_length"); }, "llama.embedding_length"},
  };
  const TempFolder folder;
  const Model model = tiny_model(true);
  write_gguf_model(model, folder / "whole.gguf");
  const GgufArchive whole(folder / "whole.gguf");
  for (const Case& wrong : cases) {
    GgufMetadata metadata;
    for (size_t i = 0; i < whole.metadata().metadata_count(); ++i)
      metadata.copy(whole.metadata().metadata(i));
    wrong.change(metadata);
    std::vector<GgufEntry> entries;
    for (size_t i = 0; i < whole.tensor_count(); ++i)
      entries.push_back({std::string(whole.tensor(i).name), BlockType::f32, whole.tensor(i).shape});
    write_gguf(folder / "m.gguf", metadata, entries, [&](size_t index, ByteSink sink) {
      sink(whole.tensor(index).bytes.data(), whole.tensor(index).bytes.size());
    });
    EXPECT_THAT(message_of([&] { load_model(folder / "m.gguf"); }),
                testing::AllOf(HasSubstr("m.gguf"), HasSubstr(wrong.words)));
  }
}

TEST(GgufModel, RefusesTensorsOfFeaturesItDoesNotHave) {
  const TempFolder folder;
  const Model model = tiny_model(true);
  write_gguf_model(model, folder / "whole.gguf");
  const GgufArchive whole(folder / "whole.gguf");
  GgufMetadata metadata;
  for (size_t i = 0; i < whole.metadata().metadata_count(); ++i)
    metadata.copy(whole.metadata().metadata(i));
  for (const char* extra : {"rope_freqs.weight", "blk.0.attn_q.bias"}) {
    std::vector<GgufEntry> entries;
    for (size_t i = 0; i < whole.tensor_count(); ++i)
      entries.push_back({std::string(whole.tensor(i).name), BlockType::f32, whole.tensor(i).shape});
    entries.push_back({extra, BlockType::f32, {1}});
    const float zero = 0;
    write_gguf(folder / "m.gguf", metadata, entries, [&](size_t index, ByteSink sink) {
      if (index == whole.tensor_count()) return sink(&zero, sizeof zero);
      sink(whole.tensor(index).bytes.data(), whole.tensor(index).bytes.size());
    });
    EXPECT_THAT(message_of([&] { load_model(folder / "m.gguf"); }), HasSubstr(extra));
  }
}

}  // namespace
}  // namespace cairn
