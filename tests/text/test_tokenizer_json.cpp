// Held to the HF library by tests/golden/tokenizer/ (make_tokenizer_golden.py).
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/io/json.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Path golden(const std::string& name) {
  return golden_folder() / "tokenizer" / name;
}

const std::vector<std::string>& golden_names() {
  static const std::vector<std::string> names = {"gpt2",    "smollm",    "prefixed",
                                                 "llama3",  "metaspace", "gemma",
                                                 "unigram", "wordpiece", "forms"};
  return names;
}

// The smallest whole tokenizer, as a document that tests can change.
Json small_document() {
  std::string text = "abab ab";
  ThreadTeam team(1);
  BpeTrainingOptions options;
  options.vocab_size = 258;
  const std::string_view view = text;
  return parse_json(tokenizer_json(train_bpe(std::span(&view, 1), options, team)), "small");
}

std::string refusal(const Json& document) {
  try {
    Tokenizer{parse_tokenizer_json(document.dump(), "t.json")};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
  return "accepted";
}

TEST(TokenizerJson, EncodesAsTheHuggingFaceLibraryDoes) {
  for (const std::string& name : golden_names()) {
    const Tokenizer tokenizer = load_tokenizer(golden(name + ".json"));
    const Json cases = read_json(golden(name + ".cases.json"));
    ASSERT_GT(cases.size(), 15u);
    for (const Json& one : cases) {
      const auto text = one["text"].get<std::string>();
      const auto plain = tokenizer.encode(text);
      if (!one["plain"].is_null()) {
        EXPECT_EQ(plain, one["plain"].get<std::vector<int32_t>>()) << name << ": " << text;
      }
      const int32_t unknown = tokenizer.id_of(tokenizer.spec().unknown_token);
      for (const int32_t id : plain) {
        EXPECT_TRUE(!tokenizer.is_special(id) || id == unknown) << name << ": " << text;
      }
      EXPECT_EQ(tokenizer.encode(text, {.parse_special = true, .add_special = true}),
                one["special"].get<std::vector<int32_t>>())
          << name << ": " << text;
      EXPECT_EQ(tokenizer.decode(one["special"].get<std::vector<int32_t>>()), one["decoded"])
          << name << ": " << text;
    }
  }
}

TEST(TokenizerJson, WhatIsWrittenReadsBackEqual) {
  for (const std::string& name : golden_names()) {
    TokenizerSpec spec = load_tokenizer(golden(name + ".json")).spec();
    spec.bos_id = spec.eos_id = 0;
    spec.pad_id = 1;
    spec.chat_template = "{{ messages }}";
    if (name != golden_names().front()) spec.named_templates = {{"tool_use", "{{ tools }}"}};
    spec.model_max_length = 2048;
    const TemporaryFolder folder;
    save_tokenizer(spec, folder.path() / "new" / "model");
    const Tokenizer read = load_tokenizer(folder.path() / "new" / "model");
    EXPECT_EQ(read.spec(), spec) << name;
    EXPECT_EQ(read.fingerprint(), Tokenizer(spec).fingerprint());
  }
}

TEST(TokenizerJson, TemplatesMayBeFilesOfTheirOwn) {
  TokenizerSpec spec = load_tokenizer(golden(golden_names().front() + ".json")).spec();
  spec.chat_template = "old";
  const TemporaryFolder folder;
  save_tokenizer(spec, folder.path());
  make_folders(folder.path() / "additional_chat_templates");
  write_file_atomically(folder.path() / "chat_template.jinja", "new");
  write_file_atomically(folder.path() / "additional_chat_templates" / "rag.jinja", "R");
  write_file_atomically(folder.path() / "additional_chat_templates" / "notes.txt", "none");
  const Tokenizer read = load_tokenizer(folder.path());
  EXPECT_EQ(read.spec().chat_template, "new");
  EXPECT_EQ(read.spec().named_templates, (std::map<std::string, std::string>{{"rag", "R"}}));
}

TEST(TokenizerJson, MergesMayBeStringsOrPairs) {
  Json document = small_document();
  const TokenizerSpec strings = parse_tokenizer_json(document.dump(), "strings");
  document["model"]["merges"] = Json::array({Json::array({"a", "b"})});
  EXPECT_EQ(parse_tokenizer_json(document.dump(), "pairs"), strings);
}

TEST(TokenizerJson, WhatIsNotSupportedIsRefusedByItsPlace) {
  const auto with = [](const char* pointer, Json value) {
    Json document = small_document();
    document[Json::json_pointer(pointer)] = std::move(value);
    return refusal(document);
  };
  EXPECT_EQ(with("/version", "1.0"), "accepted");
  EXPECT_THAT(with("/normalizer", {{"type", "Nmt"}}),
              AllOf(HasSubstr("normalizer.type"), HasSubstr("Nmt")));
  EXPECT_THAT(with("/normalizer", {{"type", "Precompiled"}, {"precompiled_charsmap", "AA=A"}}),
              HasSubstr("normalizer.precompiled_charsmap"));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "UnicodeScripts"}}),
              AllOf(HasSubstr("pre_tokenizer.type"), HasSubstr("UnicodeScripts")));
  EXPECT_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", ""}}),
              HasSubstr("pre_tokenizer.replacement"));
  EXPECT_THAT(with("/post_processor", {{"type", "Squeeze"}}), HasSubstr("post_processor.type"));
  EXPECT_THAT(with("/post_processor", {{"type", "BertProcessing"}}),
              HasSubstr("post_processor.cls"));
  EXPECT_THAT(with("/decoder", {{"type", "CTC"}}), HasSubstr("decoder.type"));
  EXPECT_THAT(with("/decoder", {{"type", "Sequence"},
                                {"decoders", {{{"type", "Fuse"}}, {{"type", "ByteLevel"}}}}}),
              HasSubstr("decoder"));
  EXPECT_THAT(with("/model/type", "WordLevel"),
              AllOf(HasSubstr("model.type"), HasSubstr("WordLevel")));
  EXPECT_THAT(with("/model/type", "Unigram"), AllOf(HasSubstr("model.type"), HasSubstr("Unigram")));
  EXPECT_THAT(with("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(with("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(with("/model/end_of_word_suffix", "</w>"), HasSubstr("model.end_of_word_suffix"));
}

TEST(TokenizerJson, PartsThatDoNotFitAreRefusedByTheirPlace) {
  const auto with = [](const char* pointer, Json value) {
    Json document = small_document();
    document[Json::json_pointer(pointer)] = std::move(value);
    return refusal(document);
  };
  EXPECT_THAT(with("/model/vocab/new", 5), HasSubstr("model.vocab"));
  EXPECT_THAT(with("/model/vocab/new", -1), HasSubstr("model.vocab.new"));
  EXPECT_THAT(with("/model/vocab/new", 1e9), HasSubstr("model.vocab.new"));
  EXPECT_THAT(with("/model/vocab/new", 16000000), HasSubstr("model.vocab.new"));
  EXPECT_THAT(with("/model/vocab/new", "5"), HasSubstr("model.vocab.new"));
  EXPECT_THAT(with("/model/vocab", "a"), HasSubstr("model.vocab"));
  EXPECT_THAT(with("/model/vocab", Json::array({"a"})), HasSubstr("model.vocab[0]"));
  EXPECT_THAT(with("/model/merges", Json::array({"a b", "a q9"})), HasSubstr("model.merges[1]"));
  EXPECT_THAT(with("/model/merges", Json::array({"ab"})), HasSubstr("model.merges[0]"));
  EXPECT_THAT(with("/model/merges", Json::array({"a b c"})), HasSubstr("model.merges[0]"));
  EXPECT_THAT(with("/model/merges", Json::array({"b b"})), HasSubstr("merge 0"));
  EXPECT_THAT(with("/added_tokens/0/id", 1 << 30), HasSubstr("added_tokens[0].id"));
  EXPECT_THAT(with("/added_tokens/0/content", ""), HasSubstr("added_tokens[0].content"));
  EXPECT_THAT(with("/added_tokens/0/content", std::string(5000, 'a')),
              HasSubstr("added_tokens[0].content"));
  EXPECT_THAT(with("/pre_tokenizer",
                   {{"type", "Sequence"},
                    {"pretokenizers",
                     {{{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}},
                      {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}}),
              HasSubstr("regular expression"));
}

TEST(TokenizerJson, ATruncatedFileIsAnErrorAtEveryByte) {
  const std::string text = tokenizer_json(parse_tokenizer_json(small_document().dump(), "small"));
  const std::string compact = Json::parse(text).dump();
  for (size_t bytes = 0; bytes < compact.size(); ++bytes) {
    EXPECT_THROW(parse_tokenizer_json(compact.substr(0, bytes), "cut"), Error) << bytes;
  }
  EXPECT_NO_THROW(parse_tokenizer_json(compact, "whole"));
}

TEST(TokenizerJson, ATruncatedConfigIsAnErrorAtEveryByte) {
  const TokenizerSpec spec = parse_tokenizer_json(small_document().dump(), "small");
  const std::string config = Json::parse(tokenizer_config(spec)).dump();
  for (size_t bytes = 0; bytes < config.size(); ++bytes) {
    TokenizerSpec target = spec;
    EXPECT_THROW(parse_tokenizer_config(config.substr(0, bytes), "cut", target), Error) << bytes;
  }
}

TEST(TokenizerJson, ConfigsMayNameTokensAsStringsOrObjects) {
  TokenizerSpec spec = parse_tokenizer_json(small_document().dump(), "small");
  parse_tokenizer_config(R"({"bos_token": {"content": "a"}, "eos_token": "<|endoftext|>",
                             "pad_token": null, "model_max_length": 1e30,
                             "chat_template": [{"name": "tool_use", "template": "T"},
                                               {"name": "default", "template": "D"}]})",
                         "config", spec);
  EXPECT_EQ(spec.vocabulary[static_cast<size_t>(spec.bos_id)], "a");
  EXPECT_EQ(spec.eos_id, 0);
  EXPECT_EQ(spec.pad_id, -1);
  EXPECT_EQ(spec.model_max_length, 0);
  EXPECT_EQ(spec.chat_template, "D");
  EXPECT_EQ(spec.named_templates, (std::map<std::string, std::string>{{"tool_use", "T"}}));
  EXPECT_THROW(parse_tokenizer_config(R"({"eos_token": "<|nothing|>"})", "config", spec), Error);
}

TEST(TokenizerJson, ALargeVocabularyLoadsInLinearTime) {
  // As many tokens as the largest open models have; quadratic work would take minutes.
  TokenizerSpec spec = parse_tokenizer_json(small_document().dump(), "small");
  std::vector<int32_t> pairs;
  for (int32_t left = 1; left <= 256 && spec.vocabulary.size() < 150000; ++left) {
    for (int32_t right = 1; right <= 256 && spec.vocabulary.size() < 60000; ++right) {
      const std::string joined =
          spec.vocabulary[static_cast<size_t>(left)] + spec.vocabulary[static_cast<size_t>(right)];
      if (joined == "ab") continue;
      spec.vocabulary.push_back(joined);
      spec.merges.emplace_back(left, right);
    }
  }
  const size_t with_merges = spec.vocabulary.size();
  while (spec.vocabulary.size() < 150000) {
    spec.vocabulary.push_back("xx" + std::to_string(spec.vocabulary.size()));
  }
  ASSERT_GT(with_merges, 59000u);
  EXPECT_EQ(parse_tokenizer_json(tokenizer_json(spec), "large"), spec);
}

TEST(TokenizerJson, AMissingFileIsADataErrorWithItsPath) {
  try {
    load_tokenizer(golden("nothing/tokenizer.json"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("nothing/tokenizer.json"));
  }
}

}  // namespace
}  // namespace cairn
