#include "cairn/io/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::HasSubstr;

std::string parse_message(const std::string& text) {
  return message_of([&] { parse_json(text, "a.json"); });
}

TEST(Json, ReadsEveryKindOfValue) {
  const Json value = parse_json(
      R"( {"a": [1, -2, 3.5, 1e-05, true, false, null], "b": {"c": "\u00e9\n\ud83e\udd99"}} )",
      "a.json");
  EXPECT_EQ(value["a"], Json::array({1, -2, 3.5, 1e-05, true, false, nullptr}));
  EXPECT_EQ(value["b"]["c"], "é\n🦙");
}

TEST(Json, ReadsWhatItWrote) {
  const Json value = {{"z", 1},
                      {"a", {1.5, 1e300, -0.1, 5e-324}},
                      {"ключ", "été 🦙"},
                      {"empty", Json::object()},
                      {"none", nullptr},
                      {"big", UINT64_MAX}};
  EXPECT_EQ(parse_json(write_json(value), "a.json"), value);
  EXPECT_EQ(parse_json(json_line(value), "a.json"), value);
}

TEST(Json, WritesTheSameBytesForTheSameValue) {
  const Json value = {{"b", {1, 2.0}}, {"a", "é"}};
  EXPECT_EQ(write_json(value), "{\n  \"a\": \"é\",\n  \"b\": [\n    1,\n    2.0\n  ]\n}\n");
  EXPECT_EQ(json_line(value), "{\"a\":\"é\",\"b\":[1,2.0]}\n");
}

TEST(Json, WritesNullForNumbersThatJsonLacks) {
  EXPECT_EQ(json_line(Json{{"loss", std::nan("")}, {"norm", INFINITY}}),
            "{\"loss\":null,\"norm\":null}\n");
}

TEST(Json, RefusesToWriteTextThatIsNotUtf8) {
  EXPECT_THAT(message_of([] { write_json(Json("\xff")); }), HasSubstr("UTF-8"));
}

TEST(Json, NamesLineAndByteOfAMistake) {
  EXPECT_THAT(parse_message("{\n  \"a\": 1,\n  \"b\": x\n}"),
              HasSubstr("reading a.json: line 3, byte 19"));
}

TEST(Json, RefusesADuplicateKeyAndNamesIt) {
  const std::string message = parse_message("{\"a\": {\"b\": 1,\n\"b\": 2}}");
  EXPECT_THAT(message, HasSubstr("line 2"));
  EXPECT_THAT(message, HasSubstr("key \"b\" again"));
}

TEST(Json, RefusesADuplicateKeyThatIsSpelledWithAnEscape) {
  EXPECT_THAT(parse_message(R"({"a": 1, "\u0061": 2})"), HasSubstr("key \"a\" again"));
}

TEST(Json, RefusesWhatTheStandardDoesNotAllow) {
  for (const std::string text : {"",
                                 " ",
                                 "{",
                                 "[1,]",
                                 "{\"a\":1,}",
                                 "{a:1}",
                                 "{'a':1}",
                                 "[01]",
                                 "[+1]",
                                 "[.5]",
                                 "[1.]",
                                 "NaN",
                                 "[Infinity]",
                                 "[1] 2",
                                 "[1]]",
                                 "\"\t\"",
                                 "\"\\x\"",
                                 "tru",
                                 "// c\n1",
                                 "/* c */ 1",
                                 "\"\xff\"",
                                 "\"\xc0\xaf\"",
                                 "\"\xed\xa0\x80\"",
                                 "\"\\ud800\"",
                                 "\"\\ud800\\u0041\"",
                                 "[1e999]",
                                 "[-]",
                                 "\"abc"})
    EXPECT_THAT(parse_message(text), HasSubstr("a.json")) << text;
}

TEST(Json, RefusesANulByteEvenAfterTheValue) {
  EXPECT_THAT(parse_message(std::string("{}\0garbage", 10)), HasSubstr("NUL"));
}

TEST(Json, RefusesEveryTruncationOfADocument) {
  const std::string text = R"({"a": [1, {"b": "\u00e9\\ é"}], "c": {"d": [true, null, -1.5e3]}})";
  EXPECT_NO_THROW(parse_json(text, "a.json"));
  for (size_t length = 0; length < text.size(); ++length)
    EXPECT_THAT(parse_message(text.substr(0, length)), HasSubstr("a.json")) << length;
}

TEST(Json, BoundsNesting) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(kMaxJsonDepth), "a.json"));
  EXPECT_THAT(parse_message(nested(kMaxJsonDepth + 1)), HasSubstr("nesting"));
  EXPECT_THAT(parse_message(std::string(10'000'000, '[')), HasSubstr("nesting"));
}

TEST(Json, BoundsMemory) {
  // Empty objects are the densest text there is; an array that has just grown holds them twice.
  size_t count = 0;
  while (count < 1'000'000) count += count / 2 + 1;
  std::string text = "[{}";
  for (size_t i = 0; i < count; ++i) text += ",{}";
  EXPECT_THAT(parse_message(text + "]"), HasSubstr("memory"));
  std::string numbers = "[0";
  for (int i = 0; i < 1'000'000; ++i) numbers += ",0";
  EXPECT_EQ(parse_json(numbers + "]", "a.json").size(), 1'000'001U);
}

TEST(Json, ReadsALargeVocabulary) {
  std::string text = "{\"t0\":0";
  for (int i = 1; i < 200'000; ++i) text += ",\"t" + std::to_string(i) + "\":" + std::to_string(i);
  const Json value = parse_json(text + "}", "a.json");
  EXPECT_EQ(value.size(), 200'000U);
  EXPECT_EQ(value["t123456"], 123456);
}

TEST(JsonField, NamesPathExpectedAndFound) {
  const Json document =
      parse_json(R"({"hidden_size": "abc", "rope": {"theta": []}, "ids": [1, -7]})", "config.json");
  const JsonField field(document, "config.json");
  const std::string message = message_of([&] { field.member("hidden_size").as_positive(); });
  EXPECT_THAT(message, HasSubstr("config.json: hidden_size"));
  EXPECT_THAT(message, HasSubstr("expected a positive integer, found \"abc\""));
  EXPECT_THAT(message_of([&] { field.member("rope").member("theta").as_number(); }),
              HasSubstr("rope.theta\n  expected a number, found an array of 0 elements"));
  EXPECT_THAT(message_of([&] { field.member("ids").elements()[1].as_integer(0, 9); }),
              HasSubstr("ids[1]\n  expected an integer from 0 to 9, found -7"));
  EXPECT_THAT(message_of([&] { field.member("missing"); }), HasSubstr("missing"));
}

TEST(JsonField, TakesIntegersForFloatsAndWholeFloatsForIntegers) {
  const Json document = parse_json(R"([10000000, 1e-05, 4.0, 4.5, 18446744073709551615])", "a");
  const auto elements = JsonField(document, "a").elements();
  EXPECT_EQ(elements[0].as_number(), 1e7);
  EXPECT_EQ(elements[1].as_number(), 1e-5);
  EXPECT_EQ(elements[2].as_integer(), 4);
  EXPECT_THAT(message_of([&] { elements[3].as_integer(); }), HasSubstr("an integer, found 4.5"));
  EXPECT_THAT(message_of([&] { elements[4].as_integer(); }), HasSubstr("an integer"));
}

TEST(JsonField, FindsNothingWhereAKeyIsAbsentOrNull) {
  const Json document = parse_json(R"({"a": null, "b": false})", "a");
  const JsonField field(document, "a");
  EXPECT_FALSE(field.find("a"));
  EXPECT_FALSE(field.find("c"));
  ASSERT_TRUE(field.find("b"));
  EXPECT_FALSE(field.find("b")->as_bool());
}

TEST(JsonField, RefusesTheWrongKind) {
  const Json document = parse_json(R"({"a": 1})", "a");
  const JsonField a = JsonField(document, "a").member("a");
  EXPECT_THAT(message_of([&] { a.as_string(); }), HasSubstr("a string"));
  EXPECT_THAT(message_of([&] { a.as_bool(); }), HasSubstr("true or false"));
  EXPECT_THAT(message_of([&] { a.elements(); }), HasSubstr("an array"));
  EXPECT_THAT(message_of([&] { a.keys(); }), HasSubstr("an object"));
  EXPECT_THAT(message_of([&] { a.member("b"); }), HasSubstr("an object"));
}

TEST(InQuotes, CutsLongTextBetweenCharactersAndEscapesTheRest) {
  EXPECT_EQ(in_quotes("a\nb\x01"), "\"a\\nb\\u0001\"");
  EXPECT_EQ(in_quotes("éé", 3), "\"é...\"");
  EXPECT_EQ(in_quotes("\xff"), "\"\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace cairn
