// `cairn inspect`, from the command line to what it prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/model.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

Ran inspect(std::vector<std::string> arguments) {
  static const std::vector<VerbGroup> groups = {{"all", {&kInspectVerb}}};
  arguments.insert(arguments.begin(), "inspect");
  return run_captured(groups, arguments);
}

class Inspect : public testing::Test {
 protected:
  void SetUp() override {
    ModelConfig config;
    config.vocab_size = 64;
    config.hidden_size = 16;
    config.intermediate_size = 24;
    config.layers = 3;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 4;
    config.context_length = 128;
    save_model(Model(config), folder_.path(), DType::bf16);
    count_ = parameter_count(config);
  }
  std::string path(const std::string& name = "") { return (folder_.path() / name).string(); }

  TempFolder folder_;
  size_t count_ = 0;
};

TEST_F(Inspect, DescribesAModelFolderWithOneLineForAllLayers) {
  const Ran ran = inspect({path()});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("3 layers, hidden 16, intermediate 24"));
  EXPECT_THAT(ran.out, HasSubstr("4 heads on 2 key-value heads of 4; softmax, rope_theta 10000"));
  EXPECT_THAT(ran.out, HasSubstr("model.layers.*.mlp.up_proj.weight                   3  BF16"));
  EXPECT_THAT(ran.out, Not(HasSubstr("model.layers.0.")));
  EXPECT_THAT(ran.out, HasSubstr("format = \"pt\""));
  EXPECT_THAT(ran.out, HasSubstr("29 tensors, " + std::to_string(count_) + " elements"));
}

TEST_F(Inspect, ListsEveryTensorWhenAsked) {
  const Ran ran = inspect({path("model.safetensors"), "--all"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("model.layers.2.mlp.up_proj.weight"));
  EXPECT_THAT(ran.out, Not(HasSubstr("layers, hidden")));
}

TEST_F(Inspect, PrintsJsonForMachines) {
  const Json found = parse_json(inspect({path(), "--json"}).out, "stdout");
  EXPECT_EQ(found["model"]["parameters"], count_);
  EXPECT_EQ(found["model"]["config"]["num_hidden_layers"], 3);
  // All matrices in f32, as a folder's are run, with rows filled up to groups of 16 (those of k, v:
  // 8; gate, up: 24) and columns to blocks of 32: the head, and q, k, v, o, gate, up, down.
  EXPECT_EQ(found["model"]["memory_bytes"]["weights"],
            4 * 32 * (64 + 3 * (16 + 16 + 16 + 16 + 32 + 32 + 16)));
  EXPECT_EQ(found["model"]["memory_bytes"]["embedding"], 4 * 64 * 16);
  EXPECT_EQ(found["model"]["memory_bytes"]["training_without_activations"], 16 * count_);
  // 3 layers, 128 tokens, keys and values of 2 heads of 4 in two bytes.
  EXPECT_EQ(found["model"]["memory_bytes"]["cache"], 3 * 128 * 2 * 2 * 4 * 2);
  EXPECT_EQ(found["totals"]["elements"], count_);
  EXPECT_EQ(found["totals"]["bytes"], 2 * count_);
  EXPECT_EQ(found["tensors"].size(), 29U);
  EXPECT_EQ(found["tensors"][0]["name"], "model.embed_tokens.weight");
  EXPECT_EQ(found["tensors"][0]["shape"], Json::array({64, 16}));
}

TEST_F(Inspect, DescribesAConfigurationAlone) {
  const Ran ran = inspect({path("config.json")});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("vocabulary 64, context 128, tied embedding"));
}

TEST_F(Inspect, EndsWithTheExitCodeOfData) {
  EXPECT_EQ(inspect({path("none")}).code, 3);
  write_file_atomically(path("model.safetensors"), "garbage");
  const Ran ran = inspect({path()});
  EXPECT_EQ(ran.code, 3);
  EXPECT_THAT(ran.err, HasSubstr("model.safetensors"));
  write_file_atomically(path("odd.gguf"), "garbage and more of it");
  EXPECT_THAT(inspect({path("odd.gguf")}).err, AllOf(HasSubstr("odd.gguf"), HasSubstr("GGUF")));
}

TEST_F(Inspect, KeepsControlCharactersOfNamesFromTheTerminal) {
  const std::vector<TensorEntry> entries = {{"a\x1b[2J", DType::u8, {}}};
  write_safetensors(path("odd.safetensors"), entries, [](size_t, ByteSink sink) { sink("x", 1); });
  EXPECT_THAT(inspect({path("odd.safetensors")}).out, HasSubstr("a\\u001b[2J"));
}

}  // namespace
}  // namespace cairn
