#include "cairn/io/toml.h"

#include <fmt/core.h>

#include "cairn/base/error.h"
#include "tests/support/files.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

using testing::HasSubstr;

std::string parse_message(const std::string& text) {
  return message_of([&] { parse_toml(text, "run.toml"); }, ErrorKind::usage);
}

std::string repeated(const std::string& part, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += part;
  return text;
}

template <class T>
T get(const TomlDocument& document, const std::string& path) {
  return std::get<T>(document.values.at(path).value);
}

TEST(Toml, FlattensTablesHoweverTheyAreWritten) {
  const TomlDocument document = parse_toml(
      "name = \"a\"\n[model]\nlayers = 4\nattention.mechanism = \"softmax\"\n"
      "[train.adam]\nbeta = 0.9\nfused = true\npoint = {x = 1, y = 2}\n",
      "run.toml");
  EXPECT_EQ(get<std::string>(document, "name"), "a");
  EXPECT_EQ(get<int64_t>(document, "model.layers"), 4);
  EXPECT_EQ(get<std::string>(document, "model.attention.mechanism"), "softmax");
  EXPECT_EQ(get<double>(document, "train.adam.beta"), 0.9);
  EXPECT_TRUE(get<bool>(document, "train.adam.fused"));
  EXPECT_EQ(get<int64_t>(document, "train.adam.point.y"), 2);
  EXPECT_EQ(document.values.size(), 7U);
}

TEST(Toml, KeepsLineAndColumnOfEachValue) {
  const TomlDocument document = parse_toml("[a]\nb = 1\n  cc = [1, 2]\n", "run.toml");
  EXPECT_EQ(document.place(document.values.at("a.b")), "run.toml:2:5");
  EXPECT_EQ(document.place(document.values.at("a.cc")), "run.toml:3:8");
}

TEST(Toml, NumbersArraysOfTables) {
  const TomlDocument document = parse_toml(
      "[[data.sources]]\npath = \"x\"\n[[data.sources]]\npath = \"y\"\nweight = 2\n", "run.toml");
  EXPECT_EQ(get<std::string>(document, "data.sources.0.path"), "x");
  EXPECT_EQ(get<int64_t>(document, "data.sources.1.weight"), 2);
}

TEST(Toml, ReadsArraysOfAnyValues) {
  const TomlDocument document = parse_toml("a = [1, \"b\", [true, 2.5]]\nnone = []\n", "run.toml");
  const auto items = get<TomlArray>(document, "a");
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(std::get<int64_t>(items[0].value), 1);
  EXPECT_EQ(std::get<std::string>(items[1].value), "b");
  EXPECT_EQ(std::get<double>(std::get<TomlArray>(items[2].value)[1].value), 2.5);
  EXPECT_TRUE(get<TomlArray>(document, "none").empty());
}

TEST(Toml, RefusesADuplicateKeyWithItsPlace) {
  EXPECT_THAT(parse_message("[a]\nb = 1\nc = 2\nb = 3\n"), HasSubstr("run.toml:4:"));
  EXPECT_THAT(parse_message("[a]\nb = 1\n[a]\nc = 1\n"), HasSubstr("run.toml:3:"));
  EXPECT_THAT(parse_message("a.b = 1\na.b = 2\n"), HasSubstr("run.toml:2:"));
}

TEST(Toml, RefusesWhatIsNotToml) {
  for (const std::string text : {"a", "a =", "= 1", "a = 1 b = 2", "[a", "a = \"x", "a = 01",
                                 "a = \"\\q\"", "a = [1", "a = {b = 1", "a = \"\xff\"", "a = tru",
                                 "a = 1\x01", "a b = 1", "a = 99999999999999999999"})
    EXPECT_THAT(parse_message(text), HasSubstr("run.toml:1:")) << text;
}

TEST(Toml, RefusesDatesAndKeysThatLookLikePaths) {
  EXPECT_THAT(parse_message("a = 2024-05-01\n"), HasSubstr("date"));
  EXPECT_THAT(parse_message("\"a.b\" = 1\n"), HasSubstr("without dots"));
}

TEST(Toml, BoundsDepth) {
  const std::string many = repeated(".a", 200'000);
  for (const std::string& text :
       {fmt::format("a{} = 1\n", many), fmt::format("[a{}]\nb = 1\n", many),
        fmt::format("a = {}", repeated("[", 400'000)), repeated("a = {", 100'000)})
    EXPECT_THAT(parse_message(text), HasSubstr("nesting"));
}

TEST(Toml, DoesNotTakeDotsInTextAndNumbersForDepth) {
  const std::string text = "a = \"" + repeated(".", 100) + "\"\nb = [" + repeated("0.5, ", 100) +
                           "1.5]\nc = '''\n" + repeated("[", 100) + "'''\n# " + repeated(".", 100) +
                           "\nd = 1\n";
  EXPECT_EQ(get<int64_t>(parse_toml(text, "run.toml"), "d"), 1);
}

TEST(Toml, BoundsSize) {
  EXPECT_THAT(parse_message(repeated("\n", kMaxTomlBytes + 1)), HasSubstr("at most"));
}

TEST(Toml, SurvivesEveryTruncation) {
  const std::string text =
      "a = \"x\\u00e9\"\n[b.c]\nd = [1, 2.5, '''\n]''']\ne = {f = true, g = -1e5}\n[[h]]\ni = 1\n";
  for (size_t length = 0; length <= text.size(); ++length) {
    try {
      parse_toml(text.substr(0, length), "run.toml");
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("run.toml:")) << length;
    }
  }
}

TEST(TomlValue, ReadsWhatStandsRightOfAnEqualsSign) {
  EXPECT_EQ(std::get<double>(parse_toml_value("1e-3", "--lr").value), 1e-3);
  EXPECT_EQ(std::get<int64_t>(parse_toml_value("12", "--n").value), 12);
  EXPECT_TRUE(std::get<bool>(parse_toml_value("true", "--b").value));
  EXPECT_EQ(std::get<std::string>(parse_toml_value("\"q\"", "--s").value), "q");
  EXPECT_EQ(std::get<TomlArray>(parse_toml_value("[1, 2]", "--a").value).size(), 2U);
}

TEST(TomlValue, TakesAnythingElseForText) {
  for (const std::string text : {"try-1", "runs/a.b", "a = 1", "1 # x", "", "x\ny = 1", "[1"})
    EXPECT_EQ(std::get<std::string>(parse_toml_value(text, "--s").value), text);
}

// Files that build upon others.
class TomlIncludes : public testing::Test {
 protected:
  Path write(const std::string& name, const std::string& text) {
    const Path path = folder_ / name;
    make_folders(path.parent_path());
    write_file_atomically(path, text);
    return path;
  }
  std::string message(const Path& path) {
    return message_of([&] { read_toml_with_includes(path); }, ErrorKind::usage);
  }
  TemporaryFolder folder_;
};

TEST_F(TomlIncludes, LaterFilesWinAndEachValueKnowsItsFile) {
  write("bases/deep.toml", "[a]\nx = 1\ny = 1\nz = 1\n");
  write("bases/base.toml", "include = [\"deep.toml\"]\n[a]\ny = 2\nz = 2\n");
  write("other.toml", "[a]\nw = 4\n");
  const Path top =
      write("top.toml", "include = [\"bases/base.toml\", \"other.toml\"]\n[a]\nz = 3\n");
  const TomlDocument document = read_toml_with_includes(top);
  ASSERT_EQ(document.values.size(), 4U);
  const auto check = [&](const char* key, int64_t value, const std::string& place) {
    EXPECT_EQ(get<int64_t>(document, key), value) << key;
    EXPECT_EQ(document.place(document.values.at(key)), (folder_ / place).string()) << key;
  };
  check("a.x", 1, "bases/deep.toml:2:5");
  check("a.y", 2, "bases/base.toml:3:5");
  check("a.z", 3, "top.toml:3:5");
  check("a.w", 4, "other.toml:2:5");
}

TEST_F(TomlIncludes, ACircleIsRefusedButOneFileMayBeIncludedTwice) {
  write("a.toml", "include = [\"b.toml\"]\n");
  write("b.toml", "include = [\"./a.toml\"]\n");
  EXPECT_THAT(message(folder_ / "a.toml"), HasSubstr("in a circle"));
  write("self.toml", "include = [\"self.toml\"]\n");
  EXPECT_THAT(message(folder_ / "self.toml"), HasSubstr("self.toml:1"));
  write("leaf.toml", "x = 1\n");
  write("left.toml", "include = [\"leaf.toml\"]\n");
  write("right.toml", "include = [\"leaf.toml\"]\n");
  const Path both = write("both.toml", "include = [\"left.toml\", \"right.toml\"]\n");
  EXPECT_EQ(get<int64_t>(read_toml_with_includes(both), "x"), 1);
}

TEST_F(TomlIncludes, FilesThatDoubleAtEachLevelEnd) {
  write("0.toml", "x = 1\n");
  for (int level = 1; level < 40; ++level) {
    const std::string below = std::to_string(level - 1) + ".toml";
    write(std::to_string(level) + ".toml", "include = [\"" + below + "\", \"" + below + "\"]\n");
  }
  EXPECT_THAT(message(folder_ / "39.toml"), HasSubstr("at most 32 included files"));
}

TEST_F(TomlIncludes, WhatIsNoListOfFilesIsRefused) {
  for (const char* text : {"include = 3\n", "include = [1]\n", "include = \"a\"\n",
                           "include = [\"\"]\n", "include = [[\"a\"]]\n"})
    EXPECT_THAT(message(write("wrong.toml", text)), HasSubstr("include = [\"base.toml\"]")) << text;
  EXPECT_THROW(read_toml_with_includes(write("lost.toml", "include = [\"none.toml\"]\n")), Error);
}

}  // namespace
}  // namespace cairn
