#include "cairn/text/grammar/json_schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/text/grammar/json_text.h"
#include "cairn/text/grammar/number_ranges.h"
#include "cairn/text/grammar/schema_merge.h"

namespace cairn {
namespace {

using grammar::Expression;

constexpr size_t kLargestText = size_t{4} << 20;
constexpr int kDeepest = 200;
constexpr size_t kMostRules = 100'000;
constexpr uint32_t kMostRepeats = 50'000;

Expression nothing() {
  return grammar::choice({});
}
bool matches_nothing(const Expression& e) {
  return e.kind == Expression::Kind::choice && e.parts.empty();
}

class Compiler {
 public:
  explicit Compiler(std::string source) : source_(std::move(source)) {}

  Grammar compile_document(const Schema& document) {
    document_ = &document;
    result_.root = reserve("root");
    result_.rules[result_.root].body = compile(document, "");
    if (matches_nothing(result_.rules[result_.root].body))
      refuse("", "values that satisfy the schema", "none");
    return std::move(result_);
  }
  Grammar compile_any_object() {
    result_.root = reserve("root");
    result_.rules[result_.root].body = grammar::rule(any_object());
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(const std::string& path, const std::string& expected,
                           const std::string& found, const std::string& hint = "") const;
  uint32_t reserve(std::string name);
  // What stands in a grammar more than once becomes a rule.
  Expression as_rule(Expression body);
  Expression shared(const char* name, Expression (Compiler::*make)());
  Expression blanks() { return shared("blanks", &Compiler::make_blanks); }
  Expression string_character() { return shared("character", &Compiler::make_character); }
  Expression any_value() { return shared("value", &Compiler::make_value); }
  Expression make_blanks();
  Expression make_character() { return any_json_character(); }
  Expression make_value();
  uint32_t any_object();

  Expression compile(const Schema& schema, const std::string& path);
  Expression compile_reference(const Schema& schema, const std::string& path);
  Expression compile_all_of(const Schema& schema, const std::string& path);
  Expression compile_alternatives(const Schema& schema, const std::string& keyword,
                                  const std::string& path);
  Expression compile_values(const Schema& schema, const std::string& path);
  Expression compile_types(const Schema& schema, const std::string& path);
  Expression compile_type(const std::string& type, const Schema& schema, const std::string& path);
  Expression compile_object(const Schema& schema, const std::string& path);
  Expression compile_array(const Schema& schema, const std::string& path);
  Expression compile_string(const Schema& schema, const std::string& path);
  Expression compile_number(bool whole, const Schema& schema, const std::string& path);

  struct Member {
    Expression pair;
    bool required;
  };
  std::vector<Member> members(const Schema& schema, const std::string& path);
  Expression additional(const Schema& schema, const std::string& path);
  Expression key_other_than(const std::vector<std::string>& names);
  Expression in_brackets(const char* open, Expression inside, const char* close);
  Expression comma_before(Expression part);

  void check_keywords(const Schema& schema, const std::string& path) const;
  Schema joined(const Schema& a, const Schema& b, const std::string& path);
  Schema without_references(Schema schema, const std::string& path);
  const Schema& resolve(const std::string& reference, const std::string& path) const;
  bool exclude_each_other(const Schema& a, const Schema& b, int depth);
  uint32_t count(const Schema& schema, const char* keyword, uint32_t otherwise,
                 const std::string& path) const;
  std::optional<DecimalBound> bound(const Schema& schema, const char* inclusive,
                                    const char* exclusive, bool low, const std::string& path) const;

  std::string source_;
  const Schema* document_ = nullptr;
  Grammar result_;
  std::map<std::string, uint32_t> references_, shared_;
  int depth_ = 0;
};

void Compiler::refuse(const std::string& path, const std::string& expected,
                      const std::string& found, const std::string& hint) const {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading the JSON Schema " + source_,
               .subject = path.empty() ? "the whole schema" : path,
               .expected = expected,
               .found = found,
               .hint = hint});
}

uint32_t Compiler::reserve(std::string name) {
  if (result_.rules.size() == kMostRules) refuse("", "a smaller schema", "more than 100000 parts");
  result_.rules.push_back({std::move(name), nothing()});
  return static_cast<uint32_t>(result_.rules.size() - 1);
}

Expression Compiler::as_rule(Expression body) {
  if (body.kind == Expression::Kind::rule || matches_nothing(body)) return body;
  const uint32_t number = reserve(fmt::format("part{}", result_.rules.size()));
  result_.rules[number].body = std::move(body);
  return grammar::rule(number);
}

Expression Compiler::shared(const char* name, Expression (Compiler::*make)()) {
  const auto known = shared_.find(name);
  if (known != shared_.end()) return grammar::rule(known->second);
  const uint32_t number = reserve(name);
  shared_.emplace(name, number);
  Expression body = (this->*make)();
  result_.rules[number].body = std::move(body);
  return grammar::rule(number);
}

// No endless white space, at which small models get stuck.
Expression Compiler::make_blanks() {
  return grammar::choice(
      {grammar::text(""), grammar::text(" "),
       grammar::sequence({grammar::text("\n"), grammar::repeat(grammar::text(" "), 0, 32)})});
}

Expression Compiler::make_value() {
  std::vector<Expression> kinds;
  kinds.push_back(grammar::rule(any_object()));
  for (const char* type : {"array", "string", "number", "boolean", "null"})
    kinds.push_back(compile_type(type, Schema::object(), ""));
  return grammar::choice(std::move(kinds));
}

uint32_t Compiler::any_object() {
  const auto known = shared_.find("object");
  if (known != shared_.end()) return known->second;
  const uint32_t number = reserve("object");
  shared_.emplace("object", number);
  Expression body = compile_object(Schema::object(), "");
  result_.rules[number].body = std::move(body);
  return number;
}

Expression Compiler::compile(const Schema& schema, const std::string& path) {
  if (schema.is_boolean()) return schema == true ? any_value() : nothing();
  if (!schema.is_object()) refuse(path, "a schema: an object, true or false", schema.dump());
  if (++depth_ > kDeepest) refuse(path, "schemas nested at most 200 deep", "more");
  check_keywords(schema, path);
  Expression result;
  if (schema.contains("$ref"))
    result = compile_reference(schema, path);
  else if (schema.contains("allOf"))
    result = compile_all_of(schema, path);
  else if (schema.contains("anyOf"))
    result = compile_alternatives(schema, "anyOf", path);
  else if (schema.contains("oneOf"))
    result = compile_alternatives(schema, "oneOf", path);
  else if (schema.contains("const") || schema.contains("enum"))
    result = compile_values(schema, path);
  else
    result = compile_types(schema, path);
  --depth_;
  return result;
}

void Compiler::check_keywords(const Schema& schema, const std::string& path) const {
  static const std::vector<std::string> kKnown = {"$ref",       "allOf",
                                                  "anyOf",      "oneOf",
                                                  "const",      "enum",
                                                  "type",       "required",
                                                  "items",      "pattern",
                                                  "properties", "additionalProperties",
                                                  "minItems",   "maxItems",
                                                  "minLength",  "format",
                                                  "maxLength",  "prefixItems",
                                                  "minimum",    "exclusiveMinimum",
                                                  "maximum",    "exclusiveMaximum"};
  for (const auto& [key, value] : schema.items()) {
    if (is_annotation(key) || std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end())
      continue;
    refuse(path.empty() ? key : path + "." + key, "a keyword that grammars can say",
           "\"" + key + "\"", "leave it out, or check the text afterwards");
  }
}

const Schema& Compiler::resolve(const std::string& reference, const std::string& path) const {
  if (document_ == nullptr || !reference.starts_with('#') ||
      (reference.size() > 1 && reference[1] != '/'))
    refuse(path + ".$ref", "a place in this document: #/$defs/NAME", "\"" + reference + "\"");
  try {
    return document_->at(nlohmann::ordered_json::json_pointer(reference.substr(1)));
  } catch (const nlohmann::json::exception&) {
    refuse(path + ".$ref", "a place in this document", "\"" + reference + "\"");
  }
}

Expression Compiler::compile_reference(const Schema& schema, const std::string& path) {
  if (!schema["$ref"].is_string()) refuse(path + ".$ref", "a text", schema["$ref"].dump());
  for (const auto& [key, value] : schema.items())
    if (key != "$ref" && !is_annotation(key))
      return compile(without_references(schema, path), path);
  const std::string reference = schema["$ref"].get<std::string>();
  const Schema& target = resolve(reference, path);
  const auto known = references_.find(reference);
  if (known != references_.end()) return grammar::rule(known->second);
  const uint32_t number = reserve(reference);
  references_.emplace(reference, number);
  Expression body = compile(target, reference);
  result_.rules[number].body = std::move(body);
  return grammar::rule(number);
}

Expression Compiler::compile_all_of(const Schema& schema, const std::string& path) {
  // One alone stays what it is: it may be a reference, and recursive.
  const Schema& list = schema["allOf"];
  bool alone = list.is_array() && list.size() == 1;
  for (const auto& [key, value] : schema.items())
    alone = alone && (key == "allOf" || is_annotation(key));
  return alone ? compile(list[0], path + (path.empty() ? "allOf[0]" : ".allOf[0]"))
               : compile(without_references(schema, path), path);
}

// The schema with what it refers to and all of allOf put in its place.
Schema Compiler::without_references(Schema schema, const std::string& path) {
  if (!schema.is_object()) return schema;
  if (++depth_ > kDeepest) refuse(path, "references that end", "a circle");
  std::vector<Schema> more;
  if (schema.contains("$ref")) {
    if (!schema["$ref"].is_string()) refuse(path + ".$ref", "a text", schema["$ref"].dump());
    more.push_back(resolve(schema["$ref"].get<std::string>(), path));
    schema.erase("$ref");
  }
  if (schema.contains("allOf")) {
    if (!schema["allOf"].is_array()) refuse(path + ".allOf", "a list", schema["allOf"].dump());
    for (const Schema& part : schema["allOf"]) more.push_back(part);
    schema.erase("allOf");
  }
  check_keywords(schema, path);
  for (const Schema& part : more) schema = joined(schema, without_references(part, path), path);
  --depth_;
  return schema;
}

Schema Compiler::joined(const Schema& a, const Schema& b, const std::string& path) {
  for (const Schema* schema : {&a, &b}) {
    if (!schema->is_object() && !schema->is_boolean())
      refuse(path, "a schema: an object, true or false", schema->dump());
    if (schema->is_object()) check_keywords(*schema, path);
  }
  return merge_schemas(a, b, path,
                       [this](const std::string& where, const std::string& expected,
                              const std::string& found) { refuse(where, expected, found); });
}

Expression Compiler::compile_alternatives(const Schema& schema, const std::string& keyword,
                                          const std::string& path) {
  const std::string here = path.empty() ? keyword : path + "." + keyword;
  Schema common = schema;
  common.erase(keyword);
  for (const auto& [key, value] : schema.items())
    if (is_annotation(key)) common.erase(key);
  const Schema& list = schema[keyword];
  if (!list.is_array() || list.empty()) refuse(here, "a list of schemas", list.dump());
  std::vector<Schema> parts;
  for (size_t i = 0; i < list.size(); ++i)
    parts.push_back(joined(common, without_references(list[i], here), here));
  if (keyword == "oneOf")
    for (size_t i = 0; i < parts.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (!exclude_each_other(parts[j], parts[i], 0))
          refuse(here,
                 "alternatives that exclude each other: by type, or by a required property with "
                 "different constants",
                 fmt::format("numbers {} and {}, which may both hold", j, i),
                 "say anyOf when either may hold");
  std::vector<Expression> alternatives;
  for (size_t i = 0; i < parts.size(); ++i) {
    // An alternative that is a reference alone stays one: it may be recursive.
    const bool alone =
        list[i].is_object() && list[i].contains("$ref") && parts[i] != false && common.empty();
    Expression one = compile(alone ? list[i] : parts[i], fmt::format("{}[{}]", here, i));
    if (!matches_nothing(one)) alternatives.push_back(std::move(one));
  }
  return grammar::choice(std::move(alternatives));
}

// Whether no value satisfies both, as far as types and constants tell.
bool Compiler::exclude_each_other(const Schema& a, const Schema& b, int depth) {
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object() || depth > 4) return false;
  const auto values = [](const Schema& schema) {
    Schema list = schema.contains("const")  ? Schema::array({schema["const"]})
                  : schema.contains("enum") ? schema["enum"]
                                            : Schema();
    return list;
  };
  const Schema of_a = values(a), of_b = values(b);
  if (of_a.is_array() || of_b.is_array()) {
    const Schema& list = of_a.is_array() ? of_a : of_b;
    const Schema& other = of_a.is_array() ? b : a;
    const Schema& others = of_a.is_array() ? of_b : of_a;
    return std::all_of(list.begin(), list.end(), [&](const Schema& value) {
      if (others.is_array() && std::find(others.begin(), others.end(), value) == others.end())
        return true;
      return !scalar_satisfies(value, other);
    });
  }
  const std::vector<std::string> types_a = types_of(a), types_b = types_of(b);
  if (types_a.empty() || types_b.empty()) return false;
  const auto is_number = [](const std::string& t) { return t == "number" || t == "integer"; };
  bool shared = false, objects = true;
  for (const std::string& x : types_a)
    for (const std::string& y : types_b)
      if (x == y || (is_number(x) && is_number(y))) {
        shared = true;
        objects = objects && x == "object";
      }
  if (!shared) return true;
  if (!objects) return false;
  const auto required = [](const Schema& schema, const std::string& name) {
    return schema.contains("required") &&
           std::find(schema["required"].begin(), schema["required"].end(), name) !=
               schema["required"].end();
  };
  const auto property = [](const Schema& schema, const std::string& name) -> Schema {
    if (schema.contains("properties") && schema["properties"].contains(name))
      return schema["properties"][name];
    return schema.contains("additionalProperties") ? schema["additionalProperties"] : Schema(true);
  };
  for (const Schema* schema : {&a, &b}) {
    if (!schema->contains("required")) continue;
    for (const Schema& name : (*schema)["required"]) {
      if (!name.is_string()) continue;
      const std::string key = name.get<std::string>();
      const Schema in_a = without_references(property(a, key), key);
      const Schema in_b = without_references(property(b, key), key);
      if (in_a == false || in_b == false) return true;
      if (required(a, key) && required(b, key) && exclude_each_other(in_a, in_b, depth + 1))
        return true;
    }
  }
  return false;
}

Expression Compiler::compile_values(const Schema& schema, const std::string& path) {
  for (const char* keyword : {"properties", "required", "additionalProperties", "items",
                              "prefixItems", "minItems", "maxItems", "pattern", "format"})
    if (schema.contains(keyword))
      refuse(path + "." + keyword, "no such keyword beside enum or const", "one");
  Schema list = schema.contains("enum") ? schema["enum"] : Schema::array({schema["const"]});
  if (!list.is_array()) refuse(path + ".enum", "a list", list.dump());
  std::vector<Expression> alternatives;
  for (const Schema& value : list)
    if (scalar_satisfies(value, schema) && (!schema.contains("const") || value == schema["const"]))
      alternatives.push_back(grammar::text(value.dump()));
  return grammar::choice(std::move(alternatives));
}

Expression Compiler::compile_types(const Schema& schema, const std::string& path) {
  constexpr std::pair<const char*, const char*> kTelling[] = {
      {"properties", "object"}, {"required", "object"},         {"additionalProperties", "object"},
      {"items", "array"},       {"prefixItems", "array"},       {"minItems", "array"},
      {"maxItems", "array"},    {"pattern", "string"},          {"format", "string"},
      {"minLength", "string"},  {"maxLength", "string"},        {"minimum", "number"},
      {"maximum", "number"},    {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"}};
  std::vector<std::string> types = types_of(schema);
  if (!schema.contains("type")) {
    for (const auto& [keyword, type] : kTelling)
      if (schema.contains(keyword) && std::find(types.begin(), types.end(), type) == types.end())
        types.emplace_back(type);
    if (types.empty()) return any_value();
  }
  std::vector<Expression> alternatives;
  for (const std::string& type : types) {
    // A whole number is a number already.
    if (type == "integer" && std::find(types.begin(), types.end(), "number") != types.end())
      continue;
    Expression one = compile_type(type, schema, path);
    if (!matches_nothing(one)) alternatives.push_back(std::move(one));
  }
  return grammar::choice(std::move(alternatives));
}

Expression Compiler::compile_type(const std::string& type, const Schema& schema,
                                  const std::string& path) {
  if (type == "object") return compile_object(schema, path);
  if (type == "array") return compile_array(schema, path);
  if (type == "string") return compile_string(schema, path);
  if (type == "number" || type == "integer") return compile_number(type == "integer", schema, path);
  if (type == "boolean") return grammar::choice({grammar::text("true"), grammar::text("false")});
  if (type == "null") return grammar::text("null");
  refuse(path.empty() ? "type" : path + ".type",
         "object, array, string, number, integer, boolean or null", "\"" + type + "\"");
}

Expression Compiler::in_brackets(const char* open, Expression inside, const char* close) {
  return grammar::sequence(
      {grammar::text(open), blanks(), std::move(inside), blanks(), grammar::text(close)});
}

Expression Compiler::comma_before(Expression part) {
  return grammar::sequence({grammar::text(","), blanks(), std::move(part)});
}

std::vector<Compiler::Member> Compiler::members(const Schema& schema, const std::string& path) {
  const Schema none = Schema::object();
  const Schema& properties = schema.contains("properties") ? schema["properties"] : none;
  if (!properties.is_object()) refuse(path + ".properties", "an object", properties.dump());
  std::vector<std::string> required;
  if (schema.contains("required"))
    for (const Schema& name : schema["required"]) {
      if (!name.is_string()) refuse(path + ".required", "a list of names", name.dump());
      required.push_back(name.get<std::string>());
    }
  std::vector<Member> result;
  const auto add = [&](const std::string& name, Expression value, bool needed) {
    if (matches_nothing(value) && !needed) return;
    Expression key = grammar::text("\"" + json_characters(name).text + "\":");
    Expression pair =
        matches_nothing(value)
            ? nothing()
            : as_rule(grammar::sequence({std::move(key), blanks(), std::move(value)}));
    result.push_back({std::move(pair), needed});
  };
  const auto is_required = [&](const std::string& name) {
    return std::find(required.begin(), required.end(), name) != required.end();
  };
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& [name, value] : properties.items())
    add(name, compile(value, prefix + "properties." + name), is_required(name));
  for (const std::string& name : required) {
    if (properties.contains(name)) continue;
    const Schema value =
        schema.contains("additionalProperties") ? schema["additionalProperties"] : Schema(true);
    add(name, compile(value, prefix + "additionalProperties"), true);
  }
  return result;
}

// A pair whose key the schema does not name; nothing when there is to be none.
Expression Compiler::additional(const Schema& schema, const std::string& path) {
  const bool named = schema.contains("properties") && !schema["properties"].empty();
  const bool said = schema.contains("additionalProperties");
  if (!said && (named || schema.contains("required"))) return nothing();
  Expression value =
      compile(said ? schema["additionalProperties"] : Schema(true),
              path.empty() ? "additionalProperties" : path + ".additionalProperties");
  if (matches_nothing(value)) return nothing();
  std::vector<std::string> names;
  if (named)
    for (const auto& [name, unused] : schema["properties"].items()) names.push_back(name);
  if (schema.contains("required"))
    for (const Schema& name : schema["required"]) names.push_back(name.get<std::string>());
  return as_rule(grammar::sequence({grammar::text("\""), key_other_than(names),
                                    grammar::text("\":"), blanks(), std::move(value)}));
}

// The characters of a key that is none of `names`: it leaves their trie somewhere, or ends inside.
Expression Compiler::key_other_than(const std::vector<std::string>& names) {
  if (names.empty()) return grammar::repeat(string_character(), 0);
  std::map<uint32_t, std::vector<std::string>> next;
  bool is_name = false;
  for (const std::string& name : names) {
    if (name.empty()) {
      is_name = true;
      continue;
    }
    size_t at = 0;
    const int64_t code = next_utf8(name, at);
    next[static_cast<uint32_t>(std::max<int64_t>(code, 0))].push_back(name.substr(at));
  }
  std::vector<Expression> alternatives;
  if (!is_name) alternatives.push_back(grammar::text(""));
  // Unescaped characters only: an escape could spell a name.
  std::vector<CharRange> taken = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
  const std::vector<CharRange> plain = taken;
  for (const auto& [code, rest] : next) {
    taken.push_back({code, code});
    alternatives.push_back(
        grammar::sequence({json_character({{code, code}}), key_other_than(rest)}));
  }
  alternatives.push_back(
      grammar::sequence({grammar::other_characters(taken),
                         as_rule(grammar::repeat(grammar::other_characters(plain), 0))}));
  return grammar::choice(std::move(alternatives));
}

Expression Compiler::compile_object(const Schema& schema, const std::string& path) {
  const std::vector<Member> all = members(schema, path);
  const Expression more = additional(schema, path);
  for (const Member& member : all)
    if (member.required && matches_nothing(member.pair)) return nothing();
  // From the last to the first: what follows when a pair came before (`behind`), and when none did.
  Expression behind = grammar::text(""), first = grammar::text("");
  if (!matches_nothing(more)) {
    behind = as_rule(grammar::repeat(comma_before(more), 0));
    first = grammar::optional(grammar::sequence({more, behind}));
  }
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    Expression with = grammar::sequence({it->pair, behind});
    first = it->required ? as_rule(with) : as_rule(grammar::choice({with, std::move(first)}));
    Expression next = comma_before(it->pair);
    if (!it->required) next = grammar::optional(std::move(next));
    behind = as_rule(grammar::sequence({std::move(next), std::move(behind)}));
  }
  return in_brackets("{", std::move(first), "}");
}

uint32_t Compiler::count(const Schema& schema, const char* keyword, uint32_t otherwise,
                         const std::string& path) const {
  if (!schema.contains(keyword)) return otherwise;
  const Schema& value = schema[keyword];
  if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > kMostRepeats ||
      value.get<double>() != std::floor(value.get<double>()))
    refuse(path.empty() ? keyword : path + "." + keyword,
           fmt::format("a whole number from 0 to {}", kMostRepeats), value.dump());
  return static_cast<uint32_t>(value.get<double>());
}

Expression Compiler::compile_array(const Schema& schema, const std::string& path) {
  constexpr size_t kMostPrefix = 200;
  const std::string prefix_path = path.empty() ? "" : path + ".";
  const uint32_t least = count(schema, "minItems", 0, path);
  const uint32_t most = count(schema, "maxItems", Expression::kUnbounded, path);
  if (most < least) return nothing();
  const Schema none = Schema::array();
  const Schema& prefix = schema.contains("prefixItems") ? schema["prefixItems"] : none;
  if (!prefix.is_array() || prefix.size() > kMostPrefix)
    refuse(prefix_path + "prefixItems", "a list of at most 200 schemas",
           prefix.dump().substr(0, 60));
  std::vector<Expression> items;
  for (size_t i = 0; i < prefix.size() && i < most; ++i)
    items.push_back(as_rule(compile(prefix[i], fmt::format("{}prefixItems[{}]", prefix_path, i))));
  // Items behind the prefix come where the schema speaks of them.
  const bool wanted = schema.contains("items") || prefix.empty() || least > prefix.size();
  Expression rest = nothing();
  if (wanted && most > items.size())
    rest = as_rule(
        compile(schema.contains("items") ? schema["items"] : Schema(true), prefix_path + "items"));
  // From the last item to the first: what may follow when `i` items came before.
  const auto n = static_cast<uint32_t>(items.size());
  Expression tail = least <= n ? grammar::text("") : nothing();
  if (!matches_nothing(rest) && n > 0)
    tail = grammar::repeat(comma_before(rest), least > n ? least - n : 0,
                           most == Expression::kUnbounded ? most : most - n);
  if (n == 0) {
    if (matches_nothing(rest))
      return least == 0 ? in_brackets("[", grammar::text(""), "]") : nothing();
    Expression list = grammar::sequence(
        {rest, grammar::repeat(comma_before(rest), least > 1 ? least - 1 : 0,
                               most == Expression::kUnbounded ? most : most - 1)});
    if (least == 0) list = grammar::optional(std::move(list));
    return in_brackets("[", std::move(list), "]");
  }
  for (uint32_t i = n; i-- > 0;) {
    Expression item = i == 0 ? std::move(items[i]) : comma_before(std::move(items[i]));
    const bool possible = !matches_nothing(tail) && !matches_nothing(item);
    Expression step = possible ? grammar::sequence({std::move(item), std::move(tail)}) : nothing();
    if (i >= least)
      tail = matches_nothing(step) ? grammar::text("") : grammar::optional(std::move(step));
    else
      tail = std::move(step);
    tail = as_rule(std::move(tail));
  }
  if (matches_nothing(tail)) return nothing();
  return in_brackets("[", std::move(tail), "]");
}

Expression Compiler::compile_string(const Schema& schema, const std::string& path) {
  constexpr std::pair<const char*, const char*> kFormats[] = {
      {"date",
       "^[12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"
       "02-(0[1-9]|1\\d|2[0-8]))$"},
      {"time",
       "^([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)$"},
      {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
      {"ipv4",
       "^((25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)\\.){3}(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)$"},
  };
  const std::string prefix = path.empty() ? "" : path + ".";
  std::string pattern;
  if (schema.contains("pattern")) {
    if (!schema["pattern"].is_string())
      refuse(prefix + "pattern", "a text", schema["pattern"].dump());
    pattern = schema["pattern"].get<std::string>();
  }
  if (schema.contains("format")) {
    if (schema.contains("pattern")) refuse(prefix + "format", "format or pattern", "both");
    const Schema& name = schema["format"];
    std::string both;  // date-time is a date, T and a time
    for (const auto& [known, text] : kFormats) {
      if (name == known) pattern = text;
      if (std::string_view(known) == "date")
        both = std::string(text, std::string_view(text).size() - 1);
      if (std::string_view(known) == "time") both += std::string("T") + (text + 1);
    }
    if (name == "date-time") pattern = both;
    if (pattern.empty())
      refuse(prefix + "format", "date, time, date-time, uuid or ipv4", name.dump(),
             "leave it out, or say it as a pattern");
  }
  const bool bounded = schema.contains("minLength") || schema.contains("maxLength");
  Expression inside;
  if (!pattern.empty() || schema.contains("pattern")) {
    if (bounded)
      refuse(prefix + "pattern", "a pattern without minLength and maxLength", "both",
             "bound the length in the pattern: ^[a-z]{1,8}$");
    try {
      inside = json_pattern(pattern);
    } catch (const std::invalid_argument& error) {
      refuse(prefix + "pattern", "a regular expression that grammars can say", error.what());
    }
  } else {
    const uint32_t least = count(schema, "minLength", 0, path);
    const uint32_t most = count(schema, "maxLength", Expression::kUnbounded, path);
    if (most < least) return nothing();
    inside = grammar::repeat(string_character(), least, most);
  }
  return grammar::sequence({grammar::text("\""), std::move(inside), grammar::text("\"")});
}

std::optional<DecimalBound> Compiler::bound(const Schema& schema, const char* inclusive,
                                            const char* exclusive, bool low,
                                            const std::string& path) const {
  std::optional<DecimalBound> result;
  for (const char* keyword : {inclusive, exclusive}) {
    if (!schema.contains(keyword)) continue;
    const Schema& value = schema[keyword];
    const auto decimal = value.is_number() ? read_decimal(value.dump()) : std::nullopt;
    if (!decimal)
      refuse(path.empty() ? keyword : path + "." + keyword,
             "a number up to 10^12 with at most 6 digits behind the point", value.dump());
    const DecimalBound found = {*decimal, keyword == inclusive};
    const double other = keyword == exclusive && result ? schema[inclusive].get<double>() : 0;
    const auto mine = value.get<double>();
    // Of two bounds the narrower; of equal ones the exclusive.
    if (!result || (low ? mine >= other : mine <= other)) result = found;
  }
  return result;
}

Expression Compiler::compile_number(bool whole, const Schema& schema, const std::string& path) {
  const auto low = bound(schema, "minimum", "exclusiveMinimum", true, path);
  const auto high = bound(schema, "maximum", "exclusiveMaximum", false, path);
  if (low || high) return as_rule(whole ? whole_numbers(low, high) : decimal_numbers(low, high));
  const auto digits = [](uint32_t least, uint32_t most) {
    return grammar::repeat(grammar::characters({{'0', '9'}}), least, most);
  };
  std::vector<Expression> parts;
  parts.push_back(grammar::optional(grammar::text("-")));
  parts.push_back(grammar::choice(
      {grammar::text("0"), grammar::sequence({grammar::characters({{'1', '9'}}), digits(0, 15)})}));
  if (!whole) {
    parts.push_back(grammar::optional(grammar::sequence({grammar::text("."), digits(1, 16)})));
    parts.push_back(grammar::optional(grammar::sequence(
        {grammar::characters({{'e', 'e'}, {'E', 'E'}}),
         grammar::optional(grammar::characters({{'+', '+'}, {'-', '-'}})), digits(1, 2)})));
  }
  return as_rule(grammar::sequence(std::move(parts)));
}

}  // namespace

Grammar grammar_from_json_schema(std::string_view text, const std::string& source) {
  if (text.size() > kLargestText)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading the JSON Schema " + source,
                 .expected = "at most 4 MiB",
                 .found = fmt::format("{} bytes", text.size())});
  static_cast<void>(parse_json(text, source));  // strict, with lines in its errors
  const Schema document = Schema::parse(text);  // again, as properties keep their order
  return Compiler(source).compile_document(document);
}

Grammar any_json_object() {
  return Compiler("any object").compile_any_object();
}

}  // namespace cairn
