#include "cairn/text/grammar/json_schema.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/text/grammar/json_schema_compiler.h"

namespace cairn {
namespace {

using grammar::Expression;

constexpr size_t kLargestText = size_t{4} << 20;
constexpr int kDeepest = 200;
constexpr size_t kMostRules = 100'000;

}  // namespace

void SchemaCompiler::refuse(const std::string& path, const std::string& expected,
                            const std::string& found, const std::string& hint) const {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading the JSON Schema " + source_,
               .subject = path.empty() ? "the whole schema" : path,
               .expected = expected,
               .found = found,
               .hint = hint});
}

uint32_t SchemaCompiler::reserve(std::string name) {
  if (result_.rules.size() == kMostRules) refuse("", "a smaller schema", "more than 100000 parts");
  result_.rules.push_back({std::move(name), nothing()});
  return static_cast<uint32_t>(result_.rules.size() - 1);
}

Expression SchemaCompiler::as_rule(Expression body) {
  if (body.kind == Expression::Kind::rule || matches_nothing(body)) return body;
  const uint32_t number = reserve(fmt::format("part{}", result_.rules.size()));
  result_.rules[number].body = std::move(body);
  return grammar::rule(number);
}

Expression SchemaCompiler::shared(const char* name, Expression (SchemaCompiler::*make)()) {
  const auto known = shared_.find(name);
  if (known != shared_.end()) return grammar::rule(known->second);
  const uint32_t number = reserve(name);
  shared_.emplace(name, number);
  Expression body = (this->*make)();
  result_.rules[number].body = std::move(body);
  return grammar::rule(number);
}

// No endless white space, at which small models get stuck.
Expression SchemaCompiler::make_blanks() {
  return grammar::choice(
      {grammar::text(""), grammar::text(" "),
       grammar::sequence({grammar::text("\n"), grammar::repeat(grammar::text(" "), 0, 32)})});
}

Expression SchemaCompiler::make_value() {
  std::vector<Expression> kinds;
  kinds.push_back(grammar::rule(any_object()));
  for (const char* type : {"array", "string", "number", "boolean", "null"})
    kinds.push_back(compile_type(type, Schema::object(), ""));
  return grammar::choice(std::move(kinds));
}

uint32_t SchemaCompiler::any_object() {
  const auto known = shared_.find("object");
  if (known != shared_.end()) return known->second;
  const uint32_t number = reserve("object");
  shared_.emplace("object", number);
  Expression body = compile_object(Schema::object(), "");
  result_.rules[number].body = std::move(body);
  return number;
}

Expression SchemaCompiler::compile(const Schema& schema, const std::string& path) {
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

void SchemaCompiler::check_keywords(const Schema& schema, const std::string& path) const {
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

const Schema& SchemaCompiler::resolve(const std::string& reference, const std::string& path) const {
  if (document_ == nullptr || !reference.starts_with('#') ||
      (reference.size() > 1 && reference[1] != '/'))
    refuse(path + ".$ref", "a place in this document: #/$defs/NAME", "\"" + reference + "\"");
  try {
    return document_->at(nlohmann::ordered_json::json_pointer(reference.substr(1)));
  } catch (const nlohmann::json::exception&) {
    refuse(path + ".$ref", "a place in this document", "\"" + reference + "\"");
  }
}

Expression SchemaCompiler::compile_reference(const Schema& schema, const std::string& path) {
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

Expression SchemaCompiler::compile_all_of(const Schema& schema, const std::string& path) {
  // One alone stays what it is: it may be a reference, and recursive.
  const Schema& list = schema["allOf"];
  bool alone = list.is_array() && list.size() == 1;
  for (const auto& [key, value] : schema.items())
    alone = alone && (key == "allOf" || is_annotation(key));
  return alone ? compile(list[0], path + (path.empty() ? "allOf[0]" : ".allOf[0]"))
               : compile(without_references(schema, path), path);
}

// The schema with what it refers to and all of allOf put in its place.
Schema SchemaCompiler::without_references(Schema schema, const std::string& path) {
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

Schema SchemaCompiler::joined(const Schema& a, const Schema& b, const std::string& path) {
  for (const Schema* schema : {&a, &b}) {
    if (!schema->is_object() && !schema->is_boolean())
      refuse(path, "a schema: an object, true or false", schema->dump());
    if (schema->is_object()) check_keywords(*schema, path);
  }
  return merge_schemas(a, b, path,
                       [this](const std::string& where, const std::string& expected,
                              const std::string& found) { refuse(where, expected, found); });
}

Expression SchemaCompiler::compile_alternatives(const Schema& schema, const std::string& keyword,
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
bool SchemaCompiler::exclude_each_other(const Schema& a, const Schema& b, int depth) {
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

Grammar grammar_from_json_schema(std::string_view text, const std::string& source) {
  if (text.size() > kLargestText)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading the JSON Schema " + source,
                 .expected = "at most 4 MiB",
                 .found = fmt::format("{} bytes", text.size())});
  static_cast<void>(parse_json(text, source));  // strict, with lines in its errors
  const Schema document = Schema::parse(text);  // again, as properties keep their order
  return SchemaCompiler(source).compile_document(document);
}

Grammar any_json_object() {
  return SchemaCompiler("any object").compile_any_object();
}

}  // namespace cairn
