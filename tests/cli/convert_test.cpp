// `cairn convert`, `cairn quantize` and `cairn inspect` of GGUF files, from the command line to
// what they print.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "cairn/model/model.h"
#include "tests/support/files.h"
#include "tests/support/verbs.h"

namespace cairn {
namespace {

using testing::HasSubstr;

Ran run(const std::vector<std::string>& arguments) {
  static const std::vector<VerbGroup> groups = {
      {"all", {&kConvertVerb, &kInspectVerb, &kQuantizeVerb}}};
  return run_captured(groups, arguments);
}

class ConvertVerb : public testing::Test {
 protected:
  void SetUp() override {
    ModelConfig config;
    config.vocab_size = 64;
    config.hidden_size = 32;
    config.intermediate_size = 64;
    config.layers = 3;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 8;
    config.context_length = 128;
    Model model(config);
    model.initialize(1);
    save_model(model, folder_ / "hf", DType::bf16);
  }
  std::string path(const std::string& name) { return (folder_ / name).string(); }

  TempFolder folder_;
};

TEST_F(ConvertVerb, ThereAndBackPrintsTheSameHashes) {
  const Ran to = run({"convert", path("hf"), path("m.gguf"), "--to", "gguf", "--json"});
  ASSERT_EQ(to.code, 0) << to.err;
  ASSERT_EQ(run({"convert", path("m.gguf"), path("back"), "--to", "hf"}).code, 0);
  const Ran again = run({"convert", path("back"), path("n.gguf"), "--to", "gguf", "--json"});
  ASSERT_EQ(again.code, 0) << again.err;
  const Json first = parse_json(to.out, "out"), second = parse_json(again.out, "out");
  EXPECT_EQ(first["tensors"], second["tensors"]);
  EXPECT_EQ(first["tensors"].size(), 2U + 9 * 3);
  EXPECT_EQ(first["tensors"][0]["type"], "bf16");
  EXPECT_EQ(first["tensors"][0]["xxh3"].get<std::string>().size(), 16U);
}

TEST_F(ConvertVerb, QuantizePrintsItsManifest) {
  const Ran ran = run({"quantize", path("hf"), path("q.gguf"), "-t", "Q4_0"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("blk.2.ffn_down.weight"));
  EXPECT_THAT(ran.out, HasSubstr("bits a weight"));
}

TEST_F(ConvertVerb, InspectShowsWhatAGgufFileHolds) {
  ASSERT_EQ(run({"quantize", path("hf"), path("q.gguf"), "-t", "q4_0"}).code, 0);
  const Ran text = run({"inspect", path("q.gguf")});
  ASSERT_EQ(text.code, 0) << text.err;
  for (const char* part : {"GGUF 3", "llama", "3 layers", "weights     q4_0", "tokenizer   none",
                           "llama.block_count", "blk.*.attn_q.weight", "29 tensors"})
    EXPECT_THAT(text.out, HasSubstr(part));
  const Ran json = run({"inspect", path("q.gguf"), "--json"});
  const Json found = parse_json(json.out, "out");
  EXPECT_EQ(found["format"], "gguf");
  EXPECT_EQ(found["file_type"], "q4_0");
  EXPECT_EQ(found["tensors"].size(), 29U);
  EXPECT_TRUE(found["model"].contains("parameters"));
  EXPECT_THAT(run({"inspect", path("q.gguf"), "--all"}).out, HasSubstr("blk.2.attn_q.weight"));
}

TEST_F(ConvertVerb, WrongUseIsNamed) {
  EXPECT_EQ(run({"convert", path("hf"), path("m"), "--to", "onnx"}).code, 2);
  const Ran type = run({"quantize", path("hf"), path("m.gguf"), "-t", "q4_k_n"});
  EXPECT_EQ(type.code, 2);
  EXPECT_THAT(type.err, HasSubstr("did you mean"));
  EXPECT_EQ(run({"quantize", path("nothing"), path("m.gguf")}).code, 3);
  EXPECT_EQ(run({"convert", path("hf"), path("m"), "--to", "hf"}).code, 2);
  EXPECT_FALSE(std::filesystem::exists(path("m.gguf")));
}

TEST_F(ConvertVerb, WhatIsNoModelAndWhereNothingCanBeWrittenAreNamed) {
  write_file_atomically(path("notes.txt"), "hello");
  const Ran text = run({"quantize", path("notes.txt"), path("m.gguf")});
  EXPECT_EQ(text.code, 3);
  EXPECT_THAT(text.err, AllOf(HasSubstr("notes.txt"), HasSubstr("a GGUF file, or a folder"),
                              HasSubstr("found another file")));
  EXPECT_THAT(run({"convert", path("none"), path("m.gguf"), "--to", "gguf"}).err,
              HasSubstr("found no such file or folder"));
  const Ran folder = run({"quantize", path("hf"), path("hf")});
  EXPECT_EQ(folder.code, 1);
  EXPECT_THAT(folder.err, AllOf(HasSubstr("writing " + path("hf")), HasSubstr("found a folder")));
  EXPECT_THAT(run({"quantize", path("hf"), path("none/m.gguf")}).err,
              HasSubstr("expected the folder " + path("none")));
  EXPECT_THAT(run({"convert", path("hf"), path("back"), "--to", "hf"}).err,
              HasSubstr("expected a GGUF file to read"));
}

}  // namespace
}  // namespace cairn
