// `cairn tokenizer` on small folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/cli/program.h"
#include "cairn/io/json.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class TokenizerVerb : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    make_folders(folder_ / "text");
    for (int i = 0; i < 40; ++i) {
      std::string text;
      for (int line = 0; line < 30; ++line) {
        text += "the number " + std::to_string(i * 31 + line) + " in file " + std::to_string(i);
        text += "\n";
      }
      write_file_atomically(folder_ / "text" / (std::to_string(i) + ".txt"), text);
    }
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // What the program prints and its exit code.
  std::pair<std::string, int> run(std::vector<std::string> words) {
    words.insert(words.begin(), "tokenizer");
    const std::vector<VerbGroup> groups = {{"Verbs", {&kTokenizerVerb}}};
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_program(groups, words);
    error_ = testing::internal::GetCapturedStderr();
    return {testing::internal::GetCapturedStdout(), code};
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  int train() {
    return run({"train", "--from", at("text"), "--out", at("out"), "--vocab-size", "300"}).second;
  }

  Path folder_;
  std::string error_;
};

TEST_F(TokenizerVerb, TrainsEncodesAndDecodes) {
  ASSERT_EQ(train(), 0) << error_;
  EXPECT_EQ(load_tokenizer(at("out")).vocab_size(), 300u);
  const std::string text = "the number 7<|endoftext|>\nö";
  write_file_atomically(at("in.txt"), text);
  const auto [ids, code] = run({"encode", at("out"), at("in.txt")});
  ASSERT_EQ(code, 0);
  write_file_atomically(at("ids.txt"), ids);
  EXPECT_EQ(run({"decode", at("out"), at("ids.txt")}).first, text);
  EXPECT_THAT(run({"encode", at("out"), at("in.txt"), "--parse-special", "--json"}).first,
              HasSubstr(",0,"));
}

TEST_F(TokenizerVerb, DecodesToJsonWhatIsTextAndWhatIsNot) {
  ASSERT_EQ(train(), 0) << error_;
  const Tokenizer tokenizer = load_tokenizer(at("out"));
  const auto decode = [&](std::string_view bytes) {
    std::string ids;
    for (const int32_t id : tokenizer.encode(bytes)) ids += std::to_string(id) + " ";
    write_file_atomically(at("ids.txt"), ids);
    return parse_json(run({"decode", at("out"), at("ids.txt"), "--json"}).first, "the output");
  };
  const Json text = decode("one \xC3\xA9t\xC3\xA9\n");
  EXPECT_EQ(text.at("text"), "one \xC3\xA9t\xC3\xA9\n");
  EXPECT_EQ(text.at("bytes"), 10);
  const Json bytes = decode("\xC3");
  EXPECT_FALSE(bytes.contains("text"));
  EXPECT_EQ(bytes.at("base64"), "ww==");
  EXPECT_EQ(bytes.at("tokens"), 1);
}

TEST_F(TokenizerVerb, TrainsOnTheTrainingPartOnly) {
  // Every file repeats a letter that stands nowhere else.
  for (int i = 0; i < 40; ++i) {
    std::string letters;
    append_utf8(0x4E00 + static_cast<uint32_t>(i), letters);
    std::string text = std::to_string(i) + "\n";
    for (int n = 0; n < 400; ++n) text += letters + (n % 8 == 7 ? "\n" : "");
    write_file_atomically(folder_ / "text" / (std::to_string(i) + ".txt"), text);
  }
  const auto [line, code] = run({"train", "--from", at("text"), "--out", at("out"), "--vocab-size",
                                 "2000", "--held-out-fraction", "0.5", "--json"});
  ASSERT_EQ(code, 0) << error_;
  const Tokenizer tokenizer = load_tokenizer(at("out"));
  int whole = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    std::string letter;
    append_utf8(0x4E00 + i, letter);
    whole += tokenizer.encode(letter).size() == 1;
  }
  EXPECT_GT(whole, 5);
  EXPECT_LT(whole, 35);
}

TEST_F(TokenizerVerb, InfoTellsTheFacts) {
  ASSERT_EQ(train(), 0) << error_;
  EXPECT_THAT(run({"info", at("out")}).first, HasSubstr("300 tokens, 43 merges"));
  EXPECT_THAT(run({"info", at("out"), "--json"}).first, HasSubstr("\"vocab_size\":300"));
}

TEST_F(TokenizerVerb, WrongUseAndBadDataHaveTheirExitCodes) {
  EXPECT_EQ(run({"train", "--from", at("text")}).second, 2);
  EXPECT_EQ(run({"train", "--from", at("text"), "-o", at("out"), "--vocab-size", "9"}).second, 2);
  EXPECT_EQ(run({"train", "--from", at("text"), "-o", at("out"), "--rule", "gpt9"}).second, 2);
  EXPECT_EQ(run({"train", "--from", at("none"), "-o", at("out")}).second, 3);
  EXPECT_EQ(run({"info", at("none")}).second, 3);
  ASSERT_EQ(train(), 0) << error_;
  write_file_atomically(at("ids.txt"), "1 2 x");
  EXPECT_EQ(run({"decode", at("out"), at("ids.txt")}).second, 3);
  EXPECT_THAT(error_, HasSubstr("byte 4"));
  EXPECT_THAT(error_, HasSubstr("ids.txt"));
  write_file_atomically(at("ids.txt"), "99999999999");
  EXPECT_EQ(run({"decode", at("out"), at("ids.txt")}).second, 3);
}

TEST_F(TokenizerVerb, ABrokenConversationIsNamedWithItsPlace) {
  ASSERT_EQ(train(), 0) << error_;
  write_file_atomically(at("out/chat_template.jinja"), "{{ messages[0].content }}");
  write_file_atomically(at("chat.json"), "{\"messages\":\n[1,}");
  EXPECT_EQ(run({"encode", at("out"), at("chat.json"), "--chat"}).second, 3);
  EXPECT_THAT(error_, AllOf(HasSubstr("chat.json"), HasSubstr("line 2")));
  write_file_atomically(at("chat.json"), "[]");
  EXPECT_EQ(run({"encode", at("out"), at("chat.json"), "--chat"}).second, 3);
  EXPECT_THAT(error_, AllOf(HasSubstr("chat.json"), HasSubstr("messages")));
}

}  // namespace
}  // namespace cairn
