#include "cairn/io/hub/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cairn/base/error.h"
#include "cairn/io/hub/digest.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Hub, PathsStayInsideTheModelsFolder) {
  for (const char* path : {"config.json", "a/b/c.safetensors", "..a/b", "größe.txt", "a b", ".x"})
    EXPECT_TRUE(is_safe_path(path)) << path;
  for (const char* path : {"", "/", "/etc/passwd", "..", "../x", "a/../x", "a/..", "a//b", "a/",
                           ".", "a/./b", "a\\b", "C:x", "a\nb", "a\x7F"})
    EXPECT_FALSE(is_safe_path(path)) << path;
  EXPECT_FALSE(is_safe_path(std::string_view("a\0b", 3)));
  EXPECT_TRUE(is_safe_path(std::string(200, 'a')));
  EXPECT_FALSE(is_safe_path(std::string(201, 'a')));
  std::string deep = "a";
  for (int i = 0; i < 500; ++i) deep += "/a";
  EXPECT_FALSE(is_safe_path(deep));
}

TEST(Hub, NamesAreAModelOrAnOrganisationAndAModel) {
  for (const char* name : {"gpt2", "org/model", "Org-1/Model_2.5-Instruct"})
    EXPECT_NO_THROW(check_model_name(name)) << name;
  for (const char* name : {"", "/", "org/", "/model", "a/b/c", "../x", "org/..", ".org/x", "-x/y",
                           "org/a..b", "org/a b", "org/a?b", "org/größe"})
    EXPECT_THAT(message_of([&] { check_model_name(name); }, ErrorKind::usage),
                HasSubstr("ORGANISATION/MODEL"))
        << name;
}

TEST(Hub, PatternsMatchWholeNamesInEitherCase) {
  EXPECT_TRUE(matches_pattern("model-Q4_K_M.gguf", "*q4_k_m.GGUF"));
  EXPECT_TRUE(matches_pattern("model.gguf", "*"));
  EXPECT_TRUE(matches_pattern("aXbXc", "a*b*c"));
  EXPECT_TRUE(matches_pattern("abcbc", "a*bc")) << "the star takes the first bc too";
  EXPECT_TRUE(matches_pattern("ab", "a?"));
  EXPECT_TRUE(matches_pattern("", "**"));
  EXPECT_FALSE(matches_pattern("a", "a?"));
  EXPECT_FALSE(matches_pattern("model.gguf.part", "*.gguf"));
  EXPECT_FALSE(matches_pattern("", "?"));
  // Many stars take no more than the product of both lengths.
  std::string stars;
  for (int i = 0; i < 200; ++i) stars += "*a";
  EXPECT_FALSE(matches_pattern(std::string(5000, 'a'), stars + "b"));
}

HubModel model_of(std::vector<std::string> paths) {
  HubModel model{.name = "org/model", .commit = std::string(40, 'a'), .files = {}};
  for (std::string& path : paths) model.files.push_back({.path = std::move(path)});
  return model;
}

std::vector<std::string> chosen(const HubModel& model, std::vector<std::string> patterns = {}) {
  std::vector<std::string> paths;
  for (const HubFile& file : choose_files(model, {.patterns = std::move(patterns)}))
    paths.push_back(file.path);
  return paths;
}

TEST(Hub, SafetensorsComeWithAllConfigurationBesideThem) {
  const HubModel model =
      model_of({".gitattributes", "README.md", "chat_template.jinja", "config.json",
                "consolidated.safetensors", "merges.txt", "model.safetensors", "onnx/config.json",
                "pytorch_model.bin", "tokenizer.json", "tokenizer.model"});
  EXPECT_THAT(chosen(model), ElementsAre("chat_template.jinja", "config.json", "merges.txt",
                                         "model.safetensors", "tokenizer.json", "tokenizer.model"));
  EXPECT_THAT(chosen(model, {"*.md", "onnx/*"}), ElementsAre("README.md", "onnx/config.json"));
}

TEST(Hub, OneGgufFileIsTakenAndSeveralAreNamed) {
  EXPECT_THAT(chosen(model_of({"README.md", "m.gguf"})), ElementsAre("m.gguf"));
  const HubModel several = model_of({"m-Q4_K_M.gguf", "m-Q8_0.gguf"});
  EXPECT_THAT(chosen(several, {"*q8_0.gguf"}), ElementsAre("m-Q8_0.gguf"));
  EXPECT_THAT(message_of([&] { chosen(several); }, ErrorKind::usage),
              testing::AllOf(HasSubstr("m-Q4_K_M.gguf, m-Q8_0.gguf"), HasSubstr("--file")));
  EXPECT_THAT(message_of([&] { chosen(model_of({"README.md"})); }), HasSubstr("org/model"));
}

TEST(Hub, WhatWasPulledIsCheckedWithoutANetwork) {
  const TempFolder folder;
  EXPECT_THAT(message_of([&] { check_pulled(folder.path(), {}); }), HasSubstr("--offline"));
  const auto write_manifest = [&](const std::string& path) {
    write_file_atomically(
        folder / ".cairn-pull.json",
        R"({"files": {"config.json": {"size": 2}, ")" + path + R"(": {"size": 5}}})");
  };
  write_manifest("m.gguf");
  write_file_atomically(folder / "config.json", "{}");
  EXPECT_THAT(message_of([&] { check_pulled(folder.path(), {}); }), HasSubstr("m.gguf"));
  EXPECT_EQ(check_pulled(folder.path(), {"*.json"}).size(), 1U);
  write_file_atomically(folder / "m.gguf", "weigh");
  EXPECT_EQ(check_pulled(folder.path(), {}).size(), 2U);
  write_manifest("../m.gguf");
  EXPECT_THAT(message_of([&] { check_pulled(folder.path(), {}); }), HasSubstr("inside the folder"));
}

// The examples of FIPS 180-2 for "abc".
TEST(Hub, ChecksumsAreThoseOfTheStandard) {
  Digest sha256(Digest::Kind::sha256), sha1(Digest::Kind::sha1);
  for (Digest* digest : {&sha256, &sha1}) {
    digest->update("a");
    digest->update("bc");
  }
  EXPECT_EQ(sha256.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha1.finish(), "a9993e364706816aba3e25717850c26c9cd0d89d");
}

}  // namespace
}  // namespace cairn
