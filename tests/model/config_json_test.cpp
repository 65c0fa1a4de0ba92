// config.json as the world writes it.
#include <nlohmann/json.hpp>

#include "cairn/model/architecture.h"
#include "tests/model/tiny.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// SmolLM2-135M's, shortened.
Json smollm() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 0,
    "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.04,
    "intermediate_size": 1536, "max_position_embeddings": 8192, "mlp_bias": false,
    "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
    "num_key_value_heads": 3, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
    "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152})");
}

ModelConfig read(const Json& document) {
  return read_model_config(JsonField(document, "config.json"));
}

ModelConfig read_with(const Json& changes) {
  Json document = smollm();
  document.merge_patch(changes);
  return read(document);
}

std::string message_with(const Json& changes) {
  return message_of([&] { read_with(changes); });
}

TEST(ConfigJson, ReadsAPublishedModel) {
  const ModelConfig config = read(smollm());
  ModelConfig expected;
  expected.vocab_size = 49152;
  expected.hidden_size = 576;
  expected.intermediate_size = 1536;
  expected.layers = 30;
  expected.heads = 9;
  expected.kv_heads = 3;
  expected.head_dim = 64;
  expected.context_length = 8192;
  expected.rms_norm_eps = 1e-5;
  expected.attention.values["rope_theta"] = 100000.0;
  expected.bos_ids = {0};
  expected.eos_ids = {0};
  EXPECT_EQ(config, expected);
}

TEST(ConfigJson, FillsInWhatTransformersFillsIn) {
  const ModelConfig config = read_with({{"num_key_value_heads", nullptr},
                                        {"rope_theta", nullptr},
                                        {"rms_norm_eps", nullptr},
                                        {"max_position_embeddings", nullptr},
                                        {"tie_word_embeddings", nullptr},
                                        {"bos_token_id", nullptr},
                                        {"hidden_act", nullptr}});
  EXPECT_EQ(config.kv_heads, 9U);
  EXPECT_EQ(std::get<double>(config.attention.values.at("rope_theta")), 10000.0);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.context_length, 2048U);
  EXPECT_FALSE(config.tie_embeddings);
  EXPECT_TRUE(config.bos_ids.empty());
}

TEST(ConfigJson, ReadsWhatNewerTransformersWrite) {
  const ModelConfig config =
      read_with({{"torch_dtype", nullptr},
                 {"dtype", "bfloat16"},
                 {"rope_theta", nullptr},
                 {"rope_parameters", {{"rope_theta", 130000.0}, {"rope_type", "default"}}},
                 {"head_dim", 32},
                 {"eos_token_id", {2, 3}},
                 {"pad_token_id", 4}});
  EXPECT_EQ(std::get<double>(config.attention.values.at("rope_theta")), 130000.0);
  EXPECT_EQ(config.head_dim, 32U);
  EXPECT_EQ(config.eos_ids, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(config.pad_id, 4);
}

TEST(ConfigJson, GoesByTheModelTypeWhereNoClassIsNamed) {
  EXPECT_EQ(read_with({{"architectures", nullptr}}).layers, 30U);
  EXPECT_THAT(message_with({{"architectures", nullptr}, {"model_type", "lama"}}),
              HasSubstr("model_type"));
}

TEST(ConfigJson, TakesMinusOneForNoPadding) {
  EXPECT_FALSE(read_with({{"pad_token_id", -1}}).pad_id);
}

TEST(ConfigJson, RefusesByNameWhatCairnDoesNotDo) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"architectures[0]", {{"architectures", {"LamaForCausalLM"}}}},
      {"hidden_act", {{"hidden_act", "gelu"}}},
      {"rope_scaling.rope_type", {{"rope_scaling", {{"rope_type", "spiral"}, {"factor", 32.0}}}}},
      {"rope_scaling.short_factor", {{"rope_scaling", {{"type", "su"}, {"factor", 2.0}}}}},
      {"rope_scaling.mscale",
       {{"rope_scaling",
         {{"rope_type", "yarn"},
          {"factor", 2.0},
          {"original_max_position_embeddings", 64},
          {"mscale", 1.0}}}}},
      {"rope_parameters.truncate", {{"rope_parameters", {{"truncate", false}}}}},
      {"rope_scaling.factor", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 0.5}}}}},
      {"rope_scaling", {{"rope_scaling", {{"factor", 2.0}}}}},
      {"rope_parameters.factor", {{"rope_parameters", {{"rope_type", "yarn"}}}}},
      {"rope_parameters.full_attention", {{"rope_parameters", {{"full_attention", {{"a", 1}}}}}}},
      {"partial_rotary_factor", {{"partial_rotary_factor", 1.5}}},
      {"sliding_window", {{"sliding_window", 4096}}},
      {"quantization_config", {{"quantization_config", {{"bits", 4}}}}},
      {"text_config", {{"text_config", {{"vocab_size", 4}}}}},
  };
  for (const auto& [field, changes] : cases)
    EXPECT_THAT(message_with(changes), HasSubstr("config.json: " + field));
}

// Gemma3-4B's, which leaves out what its class has by default; the whole says which tokens end
// texts.
TEST(ConfigJson, ReadsTheTextPartOfAMultimodalModel) {
  const ModelConfig config = read(Json::parse(R"({
    "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106],
    "image_token_index": 262144, "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                    "num_hidden_layers": 34, "sliding_window": 1024,
                    "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"}})"));
  EXPECT_EQ(config.architecture, "gemma3");
  EXPECT_EQ(config.vocab_size, 262208U);
  EXPECT_EQ(config.hidden_size, 2560U);
  EXPECT_EQ(config.layers, 34U);
  EXPECT_EQ(config.heads, 8U);
  EXPECT_EQ(config.kv_heads, 4U);
  EXPECT_EQ(config.head_dim, 256U);
  EXPECT_TRUE(config.tie_embeddings);
  EXPECT_EQ(config.eos_ids, (std::vector<int32_t>{1, 106}));
  EXPECT_EQ(std::get<int64_t>(config.local_attention.values.at("window")), 1024);
  EXPECT_EQ(std::get<double>(config.attention.values.at("rope_factor")), 8.0);
}

TEST(ConfigJson, RefusesATextPartByItsOwnName) {
  Json document = {{"model_type", "mllama"},
                   {"text_config", {{"model_type", "mllama_text_model"}}}};
  EXPECT_THAT(message_of([&] { read(document); }),
              HasSubstr("config.json: text_config.model_type\n  expected one of llama"));
  document["text_config"] = {{"model_type", "llama"}, {"hidden_size", "wide"}};
  EXPECT_THAT(message_of([&] { read(document); }), HasSubstr("text_config.hidden_size"));
  document["text_config"] = {{"model_type", "qwen3"}, {"rope_scaling", {{"type", "mrope"}}}};
  EXPECT_THAT(message_of([&] { read(document); }), HasSubstr("text_config.rope_scaling.type"));
}

TEST(ConfigJson, TakesMistralsWindowWhereTheFileIsSilent) {
  Json document = smollm();
  document["architectures"] = {"MistralForCausalLM"};
  EXPECT_EQ(std::get<int64_t>(read(document).attention.values.at("window")), 4096);
  document["sliding_window"] = nullptr;
  EXPECT_EQ(read(document).attention.values.count("window"), 0U);
}

TEST(ConfigJson, SuggestsTheClassThatWasMeant) {
  EXPECT_THAT(message_with({{"architectures", {"LlamaForCausalLm"}}}),
              HasSubstr("did you mean \"LlamaForCausalLM\""));
}

TEST(ConfigJson, NamesTheFieldThatIsWrong) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"hidden_size", {{"hidden_size", "abc"}}},
      {"hidden_size", {{"hidden_size", nullptr}}},
      {"vocab_size", {{"vocab_size", 0}}},
      {"vocab_size", {{"vocab_size", 1e300}}},
      {"num_hidden_layers", {{"num_hidden_layers", -30}}},
      {"num_hidden_layers", {{"num_hidden_layers", 1.5}}},
      {"layers", {{"num_hidden_layers", 1'000'000'000}}},
      {"num_attention_heads", {{"num_attention_heads", 7}}},
      {"kv_heads", {{"num_key_value_heads", 2}}},
      {"rope_theta", {{"rope_theta", -1}}},
      {"rope_theta", {{"rope_theta", {1}}}},
      {"rms_norm_eps", {{"rms_norm_eps", 0}}},
      {"eos_token_id[1]", {{"eos_token_id", {1, "x"}}}},
      {"eos_ids", {{"eos_token_id", 49152}}},
      {"bos_token_id", {{"bos_token_id", 4'000'000'000}}},
      {"tie_word_embeddings", {{"tie_word_embeddings", 1}}},
      {"architectures", {{"architectures", Json::array()}}},
      {"architectures[0]", {{"architectures", {7}}}},
      {"attention.mechanism",
       {{"architectures", {"CairnForCausalLM"}}, {"attention", {{"rope_theta", 1.0}}}}},
      {"attention.window",
       {{"architectures", {"CairnForCausalLM"}},
        {"attention", {{"mechanism", "path"}, {"window", {{"a", 1}}}}}}},
  };
  for (const auto& [field, changes] : cases)
    EXPECT_THAT(message_with(changes), HasSubstr("config.json: " + field)) << changes;
}

TEST(ConfigJson, KeepsEveryKindOfAttentionOption) {
  ModelConfig config = tiny_config();
  config.attention.mechanism = "path";
  config.attention.values = {{"gate", true},
                             {"rank", int64_t{3}},
                             {"decay", 0.1},
                             {"whole", 2.0},
                             {"kind", std::string("été")},
                             {"slopes", std::vector<double>{1.0, 0.5}},
                             {"none", std::vector<double>{}}};
  const Json written = write_model_config(config, DType::f32);
  EXPECT_EQ(read(parse_json(write_json(written), "config.json")), config);
}

// What transformers wrote for a model of each family comes back as the same class and the same
// description.
TEST(ConfigJson, ReadsAndWritesEveryFamily) {
  for (const char* name :
       {"llama", "llama-untied", "llama-biases", "llama-linear", "llama-yarn", "mistral", "granite",
        "qwen2", "qwen3", "phi3", "gemma3", "t5", "t5-gated"}) {
    const Json theirs = read_json(golden_folder() / "models" / name / "config.json");
    const ModelConfig config = read(theirs);
    const Json ours = write_model_config(config, DType::f32);
    EXPECT_EQ(ours["architectures"], theirs["architectures"]) << name;
    EXPECT_EQ(ours["model_type"], theirs["model_type"]) << name;
    EXPECT_EQ(read(ours), config) << name;
  }
}

TEST(ConfigJson, KeepsADecoderThatNoFamilyHas) {
  ModelConfig config = read(read_json(golden_folder() / "models" / "gemma3" / "config.json"));
  config.residual_multiplier = 0.5;
  config.mlp_bias = true;
  config.attention.mechanism = "path";
  const Json written = write_model_config(config, DType::f32);
  EXPECT_EQ(written["architectures"][0], "CairnForCausalLM");
  EXPECT_EQ(read(written), config);
}

TEST(ConfigJson, SurvivesEveryTruncation) {
  const std::string text = write_json(write_model_config(tiny_config(), DType::f32));
  for (size_t length = 0; length + 1 < text.size(); ++length)
    EXPECT_THAT(message_of([&] { read(parse_json(text.substr(0, length), "config.json")); }),
                HasSubstr("config.json"));
  EXPECT_EQ(read(parse_json(text, "config.json")), tiny_config());
}

}  // namespace
}  // namespace cairn
