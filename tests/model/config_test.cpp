#include "cairn/model/config.h"

#include <cmath>
#include <functional>

#include "cairn/model/model.h"
#include "tests/model/tiny.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;

ModelConfig smollm2_135m() {
  ModelConfig config;
  config.vocab_size = 49152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.layers = 30;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  config.context_length = 8192;
  return config;
}

TEST(ModelConfig, CountsTheParametersOfPublishedModels) {
  EXPECT_EQ(parameter_count(smollm2_135m()), 134'515'008U);
  ModelConfig llama = smollm2_135m();  // Llama-3.2-1B
  llama.vocab_size = 128256;
  llama.hidden_size = 2048;
  llama.intermediate_size = 8192;
  llama.layers = 16;
  llama.heads = 32;
  llama.kv_heads = 8;
  EXPECT_EQ(parameter_count(llama), 1'235'814'400U);
}

TEST(ModelConfig, ListsTensorsInTheOrderOfTheForwardPass) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  std::vector<std::string> found;
  for (const ParameterSpec& spec : parameter_specs(config))
    found.push_back(spec.name + " " + to_string(spec.shape));
  std::vector<std::string> expected = {"model.embed_tokens.weight [11, 12]"};
  for (const std::string layer : {"model.layers.0.", "model.layers.1."})
    for (const char* tensor :
         {"input_layernorm.weight [12]", "self_attn.q_proj.weight [16, 12]",
          "self_attn.k_proj.weight [8, 12]", "self_attn.v_proj.weight [8, 12]",
          "self_attn.o_proj.weight [12, 16]", "post_attention_layernorm.weight [12]",
          "mlp.gate_proj.weight [20, 12]", "mlp.up_proj.weight [20, 12]",
          "mlp.down_proj.weight [12, 20]"})
      expected.push_back(layer + tensor);
  expected.push_back("model.norm.weight [12]");
  expected.push_back("lm_head.weight [11, 12]");
  EXPECT_EQ(found, expected);
}

TEST(ModelConfig, StartsTheEndsOfResidualBranchesSmaller) {
  for (const double std : {0.0, 0.1}) {
    const double inner = std == 0 ? 0.02 : std;
    for (const ParameterSpec& spec : parameter_specs(tiny_config(), std)) {
      const bool ends_branch = spec.name.find("o_proj") != std::string::npos ||
                               spec.name.find("down_proj") != std::string::npos;
      if (spec.group == ParameterGroup::vector) {
        EXPECT_EQ(spec.initializer.kind, Initializer::Kind::constant);
        EXPECT_EQ(spec.initializer.value, 1.0);
      } else {
        EXPECT_EQ(spec.initializer.kind, Initializer::Kind::normal);
        EXPECT_DOUBLE_EQ(spec.initializer.value, ends_branch ? inner / 2 : inner) << spec.name;
      }
    }
  }
}

TEST(ModelConfig, GroupsTensorsForTheOptimiser) {
  ModelConfig config = tiny_config();
  config.tie_embeddings = false;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    const bool embeds = spec.name == "model.embed_tokens.weight" || spec.name == "lm_head.weight";
    const auto expected = spec.shape.size() == 1 ? ParameterGroup::vector
                          : embeds               ? ParameterGroup::embedding
                                                 : ParameterGroup::matrix;
    EXPECT_EQ(spec.group, expected) << spec.name;
  }
}

TEST(ModelConfig, CountsFlopsAsTheProgressLineDefinesThem) {
  const ModelConfig config = smollm2_135m();
  const double multiplied = 134'515'008.0 - 61 * 576;  // all but the norms; the head is tied
  EXPECT_DOUBLE_EQ(training_flops_per_token(config, 2048), 6 * multiplied + 6.0 * 30 * 576 * 2048);
  ModelConfig untied = config;
  untied.tie_embeddings = false;
  EXPECT_DOUBLE_EQ(training_flops_per_token(untied, 2048), training_flops_per_token(config, 2048));
}

TEST(ModelConfig, NamesTheFieldThatCannotBe) {
  struct Case {
    const char* field;
    std::function<void(ModelConfig&)> spoil;
  };
  const std::vector<Case> cases = {
      {"architecture", [](ModelConfig& c) { c.architecture = "lama"; }},
      {"vocab_size", [](ModelConfig& c) { c.vocab_size = 0; }},
      {"hidden_size", [](ModelConfig& c) { c.hidden_size = 0; }},
      {"hidden_size", [](ModelConfig& c) { c.hidden_size = SIZE_MAX; }},
      {"intermediate_size", [](ModelConfig& c) { c.intermediate_size = 0; }},
      {"layers", [](ModelConfig& c) { c.layers = 0; }},
      {"layers", [](ModelConfig& c) { c.layers = size_t{1} << 40; }},
      {"heads", [](ModelConfig& c) { c.heads = 0; }},
      {"kv_heads", [](ModelConfig& c) { c.kv_heads = 0; }},
      {"kv_heads", [](ModelConfig& c) { c.kv_heads = 3; }},
      {"kv_heads", [](ModelConfig& c) { c.kv_heads = 8; }},
      {"head_dim", [](ModelConfig& c) { c.head_dim = 0; }},
      {"context_length", [](ModelConfig& c) { c.context_length = 0; }},
      {"rms_norm_eps", [](ModelConfig& c) { c.rms_norm_eps = 0; }},
      {"rms_norm_eps", [](ModelConfig& c) { c.rms_norm_eps = std::nan(""); }},
      {"bos_ids",
       [](ModelConfig& c) {
         c.bos_ids = {1, 2};
       }},
      {"bos_ids", [](ModelConfig& c) { c.bos_ids = {11}; }},
      {"eos_ids",
       [](ModelConfig& c) {
         c.eos_ids = {2, -1};
       }},
      {"pad_id", [](ModelConfig& c) { c.pad_id = 11; }},
  };
  for (const Case& item : cases) {
    ModelConfig config = tiny_config();
    EXPECT_NO_THROW(check_config(config));
    item.spoil(config);
    EXPECT_THAT(message_of([&] { check_config(config); }, ErrorKind::usage),
                HasSubstr(std::string("model configuration: ") + item.field));
  }
}

TEST(ModelConfig, LeavesTheMechanismToJudgeItsOptions) {
  ModelConfig config = tiny_config();
  config.attention.mechanism = "hardmax";
  EXPECT_THAT(message_of([&] { parameter_specs(config); }, ErrorKind::usage), HasSubstr("softmax"));
  config = tiny_config();
  config.attention.values["temperature"] = 1.0;
  EXPECT_THAT(message_of([&] { parameter_specs(config); }, ErrorKind::usage),
              HasSubstr("temperature"));
}

TEST(ModelConfig, ADecoderDoesNotAttendToWhatIsNotThereYet) {
  for (const char* mask : {"bidirectional", "cross"}) {
    ModelConfig config = tiny_config();
    config.attention = {"relative_bias", {{"mask", std::string(mask)}}};
    const std::string message = message_of([&] { parameter_specs(config); }, ErrorKind::usage);
    EXPECT_THAT(message, HasSubstr("relative_bias attention, option mask"));
    EXPECT_THAT(message, HasSubstr(mask));
    EXPECT_THAT(message_of([&] { LayerAttention layers(config); }, ErrorKind::usage),
                HasSubstr(mask));
  }
}

TEST(ModelConfig, SpellsPlainSoftmaxAttentionInOneWay) {
  const ModelConfig expected = tiny_config();
  ModelConfig config = expected;
  config.attention.values = {};
  EXPECT_EQ(normalized(config), expected);
  config.attention.values = {{"position", std::string("rope")}};
  EXPECT_EQ(normalized(config), expected);
  config.attention.values = {{"rope_theta", int64_t{10000}}};
  EXPECT_EQ(normalized(config), expected);
  config.attention.values = {{"position", std::string("none")}};
  EXPECT_EQ(normalized(config), config);
  EXPECT_EQ(Model(expected).config(), expected);
}

}  // namespace
}  // namespace cairn
