#include "cairn/io/toml.h"

#include <fmt/core.h>

#include "tests/support/files.h"

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

}  // namespace
}  // namespace cairn
