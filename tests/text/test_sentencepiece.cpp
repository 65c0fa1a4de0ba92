// Held to the SentencePiece library by tests/golden/sentencepiece/ (make_sentencepiece_golden.py).
#include "cairn/text/sentencepiece.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/io/json.h"
#include "cairn/io/protobuf.h"
#include "cairn/text/gguf_tokenizer.h"
#include "cairn/text/tokenizer_json.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<std::string> kNames = {"unigram", "unigram-bytes", "bpe", "bpe-rules"};

Path golden(const std::string& name) {
  return golden_folder() / "sentencepiece" / name;
}

std::string model_bytes(const std::string& name) {
  return read_file(golden(name + ".model"));
}

TEST(SentencePiece, EncodesAndDecodesAsTheLibraryDoes) {
  for (const std::string& name : kNames) {
    const Tokenizer tokenizer = load_tokenizer(golden(name + ".model"));
    const Json golden_cases = read_json(golden(name + ".cases.json"));
    ASSERT_GT(golden_cases["cases"].size(), 20u);
    for (const Json& one : golden_cases["cases"]) {
      const auto text = one["text"].get<std::string>();
      const auto ids = tokenizer.encode(text);
      EXPECT_EQ(ids, one["ids"].get<std::vector<int32_t>>()) << name << ": " << text;
      // The library shows " \u2047 " for an unknown piece.
      const auto decoded = one["decoded"].get<std::string>();
      if (decoded.find("\u2047") == std::string::npos) {
        EXPECT_EQ(tokenizer.decode(ids, true), decoded) << name << ": " << text;
      }
    }
  }
}

TEST(SentencePiece, KnowsTheSpecialPiecesOfItsFile) {
  for (const std::string& name : kNames) {
    const Tokenizer tokenizer = load_tokenizer(golden(name + ".model"));
    const Json special = read_json(golden(name + ".cases.json"))["special"];
    EXPECT_EQ(tokenizer.bos_id(), special["bos"]) << name;
    EXPECT_EQ(tokenizer.eos_id(), special["eos"]) << name;
    EXPECT_EQ(tokenizer.spec().pad_id, special["pad"]) << name;
    EXPECT_EQ(tokenizer.id_of(tokenizer.spec().unknown_token), special["unk"]) << name;
    EXPECT_EQ(tokenizer.vocab_size(), special["size"]) << name;
  }
}

TEST(SentencePiece, UnigramTextsEndWithEosAndBpeTextsBeginWithBos) {
  const Tokenizer unigram = load_tokenizer(golden("unigram.model"));
  EXPECT_EQ(unigram.encode("", {.add_special = true}), std::vector{unigram.eos_id()});
  const Tokenizer bpe = load_tokenizer(golden("bpe.model"));
  EXPECT_EQ(bpe.encode("", {.add_special = true}), std::vector{bpe.bos_id()});
}

TEST(SentencePiece, ControlPiecesAreLettersUnlessAskedFor) {
  const Tokenizer tokenizer = load_tokenizer(golden("unigram.model"));
  for (const int32_t id : tokenizer.encode("</s>")) EXPECT_NE(id, tokenizer.eos_id());
  EXPECT_EQ(tokenizer.encode("</s>", {.parse_special = true}), std::vector{tokenizer.eos_id()});
}

TEST(SentencePiece, ScoresThatSumBeyondFloatsStillCutATextToItsEnd) {
  TokenizerSpec spec = parse_sentencepiece(model_bytes("unigram"), "unigram");
  for (double& score : spec.scores) score = -3e38;
  const Tokenizer tokenizer(spec);
  const std::string text = "the end of a text of some words";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), true), text);
}

TEST(SentencePiece, WhatIsWrittenReadsBackTheSame) {
  for (const std::string& name : kNames) {
    const TokenizerSpec spec = parse_sentencepiece(model_bytes(name), name);
    ASSERT_TRUE(is_sentencepiece(spec));
    EXPECT_EQ(parse_sentencepiece(sentencepiece_model(spec), "written"), spec) << name;
  }
}

TEST(SentencePiece, ASavedFolderHoldsModelAndConfigurationAndReadsBackTheSame) {
  const TemporaryFolder folder;
  TokenizerSpec spec = parse_sentencepiece(model_bytes("unigram"), "unigram");
  const auto size = static_cast<int32_t>(spec.vocabulary.size());
  spec.added.push_back({.id = size, .content = "<extra_id_0>", .special = true});
  spec.suffix.clear();
  spec.model_max_length = 512;
  save_tokenizer(spec, folder.path());
  EXPECT_EQ(load_tokenizer(folder.path()).spec(), spec);
  EXPECT_THAT(tokenizer_files(folder.path()),
              ElementsAre(folder.path() / "spiece.model", folder.path() / "tokenizer_config.json"));
}

// The spec of unigram.model beside a tokenizer_config.json of this text.
TokenizerSpec configured(const std::string& config, const std::string& name = "unigram") {
  TokenizerSpec spec = parse_sentencepiece(model_bytes(name), name);
  parse_tokenizer_config(config, "tokenizer_config.json", spec);
  return spec;
}

TEST(SentencePiece, T5AddsAHundredSentinelsTheFirstOfThemLast) {
  const TokenizerSpec spec = configured(R"({"tokenizer_class": "T5Tokenizer"})");
  const Tokenizer tokenizer(spec);
  const auto pieces = static_cast<int32_t>(spec.vocabulary.size());
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<size_t>(pieces) + 100);
  EXPECT_EQ(tokenizer.id_of("<extra_id_0>"), pieces + 99);
  EXPECT_EQ(tokenizer.id_of("<extra_id_99>"), pieces);
  EXPECT_EQ(Tokenizer(configured(R"({"extra_ids": 2})")).id_of("<extra_id_0>"), pieces + 1);
}

TEST(SentencePiece, TheConfigurationSaysWhatSurroundsATextAndWhatIsAdded) {
  const Tokenizer tokenizer(configured(
      R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false, "add_eos_token": true,
          "added_tokens_decoder": {"500": {"content": "<|turn|>", "special": true}}})",
      "bpe"));
  EXPECT_EQ(tokenizer.encode("", {.add_special = true}), std::vector{tokenizer.eos_id()});
  EXPECT_EQ(tokenizer.id_of("<|turn|>"), 500);
}

TEST(SentencePiece, RefusesClassesThatGiveThePiecesOtherIds) {
  try {
    configured(R"({"tokenizer_class": "XLMRobertaTokenizer"})");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer_class"));
    EXPECT_THAT(error.what(), HasSubstr("T5Tokenizer"));
  }
}

TEST(SentencePiece, GgufKeysSayTheSame) {
  for (const std::string& name : kNames) {
    const TokenizerSpec spec = parse_sentencepiece(model_bytes(name), name);
    const Tokenizer own(spec), other(spec_from_gguf(gguf_from_spec(spec)));
    for (const char* text : {"The quick brown fox", "naïve café", "  two  blanks"})
      EXPECT_EQ(other.encode(text), own.encode(text)) << name << ": " << text;
  }
}

// A model cut anywhere is an Error or, at the end of a field, a smaller model.
TEST(SentencePiece, TruncationAtEveryByteEndsInAnErrorOrASmallerModel) {
  const std::string whole = model_bytes("unigram");
  const size_t pieces = parse_sentencepiece(whole, "whole").vocabulary.size();
  size_t refused = 0;
  for (size_t size = 0; size < whole.size(); ++size) try {
      const TokenizerSpec spec = parse_sentencepiece(whole.substr(0, size), "cut");
      EXPECT_LE(spec.vocabulary.size(), pieces);
      const Tokenizer tokenizer(spec);
      tokenizer.encode("a b");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data);
      ++refused;
    }
  EXPECT_GT(refused, whole.size() / 2);
}

std::string refusal_of(const std::string& model) {
  try {
    parse_sentencepiece(model, "spiece.model");
    return "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    return error.what();
  }
}

std::string with_field(uint32_t part, uint32_t field, uint64_t value) {
  std::string message, model = model_bytes("unigram");
  append_varint_field(field, value, message);
  append_bytes_field(part, message, model);
  return model;
}

TEST(SentencePiece, RefusesByNameWhatItCannotDo) {
  EXPECT_EQ(refusal_of(with_field(2, 24, 0)), "accepted");
  EXPECT_THAT(refusal_of(with_field(2, 24, 1)), HasSubstr("treat_whitespace_as_suffix"));
  EXPECT_THAT(refusal_of(with_field(2, 3, 4)), HasSubstr("unigram or BPE"));
  EXPECT_THAT(refusal_of(with_field(3, 5, 0)), HasSubstr("escape_whitespaces"));
  EXPECT_THAT(refusal_of(with_field(1, 3, 9)), HasSubstr("a piece with a spelling"));
  EXPECT_THAT(refusal_of(""), HasSubstr("none"));
  EXPECT_THAT(refusal_of("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), HasSubstr("are left"));
  EXPECT_THAT(refusal_of("{\"model\": 1}"), HasSubstr("byte"));
}

TEST(SentencePiece, BlanksCountAtTheEndsOfTheWholeTextOnly) {
  const Tokenizer tokenizer = load_tokenizer(golden("unigram.model"));
  const int32_t separator = tokenizer.id_of("<sep>");
  const auto ids = tokenizer.encode(" <sep> ");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), separator), 1);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a<sep>b")), "a<sep>b");
  EXPECT_THAT(tokenizer.encode("   "), IsEmpty());
}

}  // namespace
}  // namespace cairn
