#include "cairn/text/grammar/json_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "cairn/text/grammar/automaton.h"
#include "cairn/text/grammar/json_text.h"
#include "cairn/text/grammar/number_ranges.h"
#include "cairn/text/grammar/states.h"
#include "tests/support/files.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Acceptor {
 public:
  explicit Acceptor(Grammar grammar)
      : states_(std::make_shared<GrammarAutomaton>(std::move(grammar), "test")) {}
  bool operator()(std::string_view text) {
    uint32_t at = states_.start();
    for (const char byte : text) at = states_.step(at, static_cast<uint8_t>(byte));
    return states_.complete(at);
  }

 private:
  GrammarStates states_;
};

Acceptor schema(std::string_view text) {
  return Acceptor(grammar_from_json_schema(text, "schema.json"));
}

std::string refusal(std::string_view text) {
  return message_of([&] { grammar_from_json_schema(text, "schema.json"); });
}

TEST(JsonSchema, ObjectsHaveTheirPropertiesInOrder) {
  Acceptor accepts = schema(R"({"type": "object", "required": ["name", "age"],
      "properties": {"name": {"type": "string"}, "nick": {"type": "string"},
                     "age": {"type": "integer"}, "x": {"type": "null"}}})");
  EXPECT_TRUE(accepts(R"({"name":"Ann","age":3})"));
  EXPECT_TRUE(accepts(R"({"name": "Ann", "nick": "é\n\u00e9", "age": -30, "x": null})"));
  EXPECT_TRUE(accepts("{\n  \"name\": \"\",\n  \"age\": 0\n}"));
  EXPECT_FALSE(accepts(R"({"name":"Ann"})"));
  EXPECT_FALSE(accepts(R"({"age":3,"name":"Ann"})"));
  EXPECT_FALSE(accepts(R"({"name":"Ann","age":3,})"));
  EXPECT_FALSE(accepts(R"({"name":"Ann","age":3,"y":1})"));
  EXPECT_FALSE(accepts(R"({"name":"Ann","age":03})"));
  EXPECT_FALSE(accepts("{\"name\":\"A\nB\",\"age\":3}"));
  EXPECT_FALSE(accepts(R"({"name":"\ud800","age":3})"));
}

TEST(JsonSchema, OptionalPropertiesTakeTheirCommasAlong) {
  Acceptor accepts = schema(R"({"properties": {"a": {"const": 1}, "b": {"const": 2},
                                                "c": {"const": 3}}})");
  for (const char* good :
       {"{}", R"({"a":1})", R"({"b":2})", R"({"a":1,"c":3})", R"({"b":2,"c":3})"})
    EXPECT_TRUE(accepts(good)) << good;
  for (const char* bad : {"{,}", R"({,"b":2})", R"({"a":1 "c":3})", R"({"c":3,"b":2})"})
    EXPECT_FALSE(accepts(bad)) << bad;
}

TEST(JsonSchema, AdditionalPropertiesHaveOtherNames) {
  Acceptor accepts = schema(R"({"properties": {"ab": {"const": 1}, "abc": {"const": 2}},
                                "additionalProperties": {"type": "boolean"}})");
  EXPECT_TRUE(accepts(R"({"ab":1,"x":true,"":false,"a":true,"abcd":true,"b":false})"));
  EXPECT_FALSE(accepts(R"({"ab":true})"));
  EXPECT_FALSE(accepts(R"({"x":true,"abc":false})"));
  EXPECT_FALSE(accepts(R"({"\u0061b":true})"));
  Acceptor map = schema(R"({"type": "object", "additionalProperties": {"type": "integer"}})");
  EXPECT_TRUE(map(R"({"any":1,"thing":2})"));
  EXPECT_FALSE(map(R"({"any":"x"})"));
  Acceptor closed = schema(R"({"type": "object", "additionalProperties": false})");
  EXPECT_TRUE(closed("{}"));
  EXPECT_FALSE(closed(R"({"a":1})"));
}

TEST(JsonSchema, ArraysCountTheirItems) {
  Acceptor accepts = schema(R"({"type": "array", "items": {"type": "boolean"},
                                "minItems": 1, "maxItems": 3})");
  EXPECT_FALSE(accepts("[]"));
  EXPECT_TRUE(accepts("[true]"));
  EXPECT_TRUE(accepts("[true, false, true]"));
  EXPECT_FALSE(accepts("[true, false, true, true]"));
  Acceptor tuple = schema(R"({"prefixItems": [{"const": 1}, {"const": 2}, {"const": 3}],
                              "items": {"const": 0}, "minItems": 2, "maxItems": 5})");
  for (const char* good : {"[1,2]", "[1,2,3]", "[1,2,3,0,0]"}) EXPECT_TRUE(tuple(good)) << good;
  for (const char* bad : {"[]", "[1]", "[1,2,0]", "[1,2,3,0,0,0]", "[2,1]"})
    EXPECT_FALSE(tuple(bad)) << bad;
  Acceptor exact = schema(R"({"prefixItems": [{"const": 1}], "items": false})");
  EXPECT_TRUE(exact("[]"));
  EXPECT_TRUE(exact("[1]"));
  EXPECT_FALSE(exact("[1,1]"));
  Acceptor more = schema(R"({"prefixItems": [{"const": 1}], "minItems": 2, "maxItems": 2})");
  EXPECT_TRUE(more(R"([1,{"any":[null]}])"));
  EXPECT_FALSE(more("[1]"));
}

TEST(JsonSchema, StringsHaveLengthsPatternsAndFormats) {
  Acceptor length = schema(R"({"type": "string", "minLength": 2, "maxLength": 3})");
  EXPECT_FALSE(length("\"a\""));
  EXPECT_TRUE(length("\"\xF0\x9F\xA6\x99\\n\""));
  EXPECT_TRUE(length("\"abc\""));
  EXPECT_FALSE(length("\"abcd\""));
  Acceptor pattern =
      schema(R"({"type": "string", "pattern": "^[A-Z]{2}-\\d+(\\.[^a-z\"]|\\\\)?$"})");
  for (const char* good : {R"("AB-1")", R"("AB-12.X")", R"("AB-1\\")"})
    EXPECT_TRUE(pattern(good)) << good;
  for (const char* bad : {R"("AB-")", R"("xAB-1")", R"("AB-1.x")", R"("AB-1.\"")"})
    EXPECT_FALSE(pattern(bad)) << bad;
  Acceptor open = schema(R"({"type": "string", "pattern": "b|^c"})");
  for (const char* good : {R"("abc")", R"("b")", R"("cd")"}) EXPECT_TRUE(open(good)) << good;
  EXPECT_FALSE(open(R"("ac")"));
  Acceptor date = schema(R"({"type": "string", "format": "date-time"})");
  EXPECT_TRUE(date(R"("2024-02-28T23:59:59.5Z")"));
  EXPECT_TRUE(date(R"("2024-12-31T00:00:00+01:30")"));
  EXPECT_FALSE(date(R"("2024-02-30T00:00:00Z")"));
  EXPECT_FALSE(date(R"("2024-01-01")"));
}

TEST(JsonSchema, NumbersKeepTheirBounds) {
  const std::vector<std::pair<int, int>> ranges = {{0, 0},     {3, 7},     {-5, 12}, {95, 1203},
                                                   {-130, -7}, {-99, 100}, {10, 19}, {999, 1000}};
  for (const auto& [low, high] : ranges) {
    Acceptor whole = schema("{\"type\": \"integer\", \"minimum\": " + std::to_string(low) +
                            ", \"maximum\": " + std::to_string(high) + "}");
    Acceptor open =
        schema("{\"type\": \"integer\", \"exclusiveMinimum\": " + std::to_string(low) + "}");
    Acceptor number = schema("{\"type\": \"number\", \"exclusiveMinimum\": " + std::to_string(low) +
                             ".25, \"maximum\": " + std::to_string(high) + ".5}");
    const double least = low < 0 ? low - 0.25 : low + 0.25,
                 most = high < 0 ? high - 0.5 : high + 0.5;
    for (int value = -1300; value <= 1300; ++value) {
      const std::string text = std::to_string(value);
      ASSERT_EQ(whole(text), value >= low && value <= high) << low << " " << high << " " << text;
      ASSERT_EQ(open(text), value > low) << low << " " << text;
      for (const auto& [digits, more] : {std::pair(".0", 0.0), std::pair(".25", 0.25),
                                         std::pair(".500", 0.5), std::pair(".501", 0.501)}) {
        const double real = value < 0 ? value - more : value + more;
        ASSERT_EQ(number(text + digits), real > least && real <= most)
            << low << " " << high << " " << text << digits;
      }
    }
    EXPECT_FALSE(whole("-0"));
    EXPECT_FALSE(whole("007"));
  }
  Acceptor unit = schema(R"({"type": "number", "minimum": 0, "exclusiveMaximum": 1})");
  EXPECT_TRUE(unit("0.99"));
  EXPECT_TRUE(unit("0"));
  EXPECT_FALSE(unit("1"));
  EXPECT_FALSE(unit("1.0"));
  EXPECT_FALSE(unit("-0.1"));
  EXPECT_FALSE(unit("00.1"));
  Acceptor any = schema(R"({"type": "number"})");
  for (const char* good : {"0", "-1.5", "2e10", "12.25E-3"}) EXPECT_TRUE(any(good)) << good;
  for (const char* bad : {"01", "+1", ".5", "1.", "1e", "NaN"}) EXPECT_FALSE(any(bad)) << bad;
}

TEST(JsonSchema, DecimalsAreReadExactly) {
  const auto read = [](const char* text) {
    const auto decimal = read_decimal(text);
    return decimal ? std::pair(decimal->mantissa, decimal->digits)
                   : std::pair<int64_t, int>(-1, -1);
  };
  EXPECT_EQ(read("12.50"), (std::pair<int64_t, int>(125, 1)));
  EXPECT_EQ(read("-1e3"), (std::pair<int64_t, int>(-1000, 0)));
  EXPECT_EQ(read("1.5e-3"), (std::pair<int64_t, int>(15, 4)));
  EXPECT_EQ(read("0.0"), (std::pair<int64_t, int>(0, 0)));
  EXPECT_EQ(read("1e13"), (std::pair<int64_t, int>(-1, -1)));
  EXPECT_EQ(read("1e-7"), (std::pair<int64_t, int>(-1, -1)));
  EXPECT_EQ(read("123456789012345678901234567890"), (std::pair<int64_t, int>(-1, -1)));
}

TEST(JsonSchema, ValuesAreThoseNamed) {
  Acceptor accepts = schema(R"({"enum": ["a", 1, null, {"k": [true]}, "é\n"]})");
  for (const char* good : {"\"a\"", "1", "null", "{\"k\":[true]}", "\"é\\n\""})
    EXPECT_TRUE(accepts(good)) << good;
  EXPECT_FALSE(accepts("2"));
  Acceptor some = schema(R"({"type": "string", "enum": ["a", 1, "bcd"], "maxLength": 2})");
  EXPECT_TRUE(some("\"a\""));
  EXPECT_FALSE(some("1"));
  EXPECT_FALSE(some("\"bcd\""));
}

TEST(JsonSchema, SchemasAreJoined) {
  Acceptor all = schema(R"({"allOf": [
      {"type": "object", "properties": {"a": {"type": "number", "minimum": 1}}, "required": ["a"]},
      {"properties": {"a": {"type": "integer", "maximum": 3}, "b": {"const": 0}}}]})");
  EXPECT_TRUE(all(R"({"a":2,"b":0})"));
  EXPECT_FALSE(all(R"({"a":0})"));
  EXPECT_FALSE(all(R"({"a":2.5})"));
  EXPECT_FALSE(all(R"({"b":0})"));
  Acceptor any = schema(R"({"type": ["string", "integer", "null"],
                            "anyOf": [{"type": "integer", "minimum": 8, "maximum": 9},
                                      {"type": "string", "maxLength": 1}]})");
  EXPECT_TRUE(any("8"));
  EXPECT_TRUE(any("\"x\""));
  EXPECT_FALSE(any("null"));
  Acceptor one = schema(R"({"oneOf": [
      {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "null"}},
       "required": ["kind", "x"]},
      {"type": "object", "properties": {"kind": {"const": "b"}}, "required": ["kind"]},
      {"type": "string"}]})");
  EXPECT_TRUE(one(R"({"kind":"a","x":null})"));
  EXPECT_TRUE(one(R"({"kind":"b"})"));
  EXPECT_TRUE(one(R"("s")"));
  EXPECT_FALSE(one(R"({"kind":"a"})"));
}

TEST(JsonSchema, ReferencesMayBeRecursive) {
  Acceptor tree = schema(R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object",
      "properties": {"value": {"type": "integer"},
                     "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}],
                              "description": "the rest"},
                     "children": {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/node"}]}}},
      "required": ["value"]}}})");
  EXPECT_TRUE(tree(R"({"value":1,"next":{"value":2,"next":null},"children":[{"value":3}]})"));
  EXPECT_FALSE(tree(R"({"value":1,"next":{}})"));
  Acceptor self = schema(R"({"type": "array", "items": {"$ref": "#"}})");
  EXPECT_TRUE(self("[[],[[]]]"));
  EXPECT_FALSE(self("[1]"));
}

TEST(JsonSchema, AnyValueIsAnyJson) {
  Acceptor any = schema("true");
  for (const char* good : {"null", "[]", "{}", R"({"a":[1,{"b":"\u00e9"}],"c":-1.5e3})", "\"\""})
    EXPECT_TRUE(any(good)) << good;
  for (const char* bad : {"", "[", "{\"a\"}", "tru", "[1,]"}) EXPECT_FALSE(any(bad)) << bad;
  Acceptor object{any_json_object()};
  EXPECT_TRUE(object(R"({"a":[null]})"));
  EXPECT_FALSE(object("[]"));
}

TEST(JsonSchema, RefusesByNameAndPath) {
  EXPECT_THAT(refusal(R"({"properties": {"a": {"items": {"uniqueItems": true}}}})"),
              AllOf(HasSubstr("schema.json"), HasSubstr("properties.a.items.uniqueItems")));
  EXPECT_THAT(refusal(R"({"type": "strin"})"), HasSubstr("\"strin\""));
  EXPECT_THAT(refusal(R"j({"pattern": "a(?=b)"})j"),
              AllOf(HasSubstr("pattern"), HasSubstr("look ahead")));
  EXPECT_THAT(refusal(R"({"pattern": "a\\bc"})"), HasSubstr("\\b"));
  EXPECT_THAT(refusal(R"({"pattern": "a", "maxLength": 3})"), HasSubstr("pattern"));
  EXPECT_THAT(refusal(R"({"format": "hostname"})"), HasSubstr("hostname"));
  EXPECT_THAT(refusal(R"({"$ref": "#/$defs/none"})"), HasSubstr("#/$defs/none"));
  EXPECT_THAT(refusal(R"({"$ref": "https://example.com/x"})"), HasSubstr("example.com"));
  EXPECT_THAT(refusal(R"({"oneOf": [{"type": "number"}, {"type": "integer"}]})"),
              AllOf(HasSubstr("oneOf"), HasSubstr("anyOf")));
  EXPECT_THAT(refusal(R"({"allOf": [{"$ref": "#"}, {"type": "null"}]})"), HasSubstr("circle"));
  EXPECT_THAT(refusal(R"({"type": "array", "minItems": 99999999})"), HasSubstr("minItems"));
  EXPECT_THAT(refusal("false"), HasSubstr("none"));
  EXPECT_THAT(refusal(R"({"enum": ["a"], "type": "number"})"), HasSubstr("none"));
  EXPECT_THAT(refusal("{\"type\": }"), HasSubstr("schema.json"));
  EXPECT_THAT(refusal("7"), HasSubstr("a schema"));
}

}  // namespace
}  // namespace cairn
