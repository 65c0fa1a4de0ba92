#include "cairn/text/grammar/schema_merge.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace cairn {
namespace {

constexpr size_t kMostAlternatives = 256;

Schema list_of(const Schema& value) {
  return value.is_array() ? value : Schema::array({value});
}

// The types in both, "integer" being a "number".
Schema common_types(const Schema& a, const Schema& b) {
  Schema result = Schema::array();
  for (const Schema& x : list_of(a))
    for (const Schema& y : list_of(b)) {
      if (x == y) result.push_back(x);
      if ((x == "integer" && y == "number") || (x == "number" && y == "integer"))
        result.push_back("integer");
    }
  return result;
}

Schema common_values(const Schema& a, const Schema& b) {
  Schema result = Schema::array();
  for (const Schema& value : a)
    if (std::find(b.begin(), b.end(), value) != b.end()) result.push_back(value);
  return result;
}

// Every alternative of one with every alternative of the other.
Schema cross(const Schema& a, const Schema& b, const std::string& path,
             const RefuseSchema& refuse) {
  if (a.size() * b.size() > kMostAlternatives)
    refuse(path, "at most 256 alternatives together", std::to_string(a.size() * b.size()));
  Schema result = Schema::array();
  for (const Schema& x : a)
    for (const Schema& y : b) result.push_back(Schema{{"allOf", Schema::array({x, y})}});
  return result;
}

// What a schema of objects says about a property that it does not name.
Schema unnamed(const Schema& schema) {
  return schema.contains("additionalProperties") ? schema["additionalProperties"] : Schema(true);
}

Schema both(const Schema& a, const Schema& b) {
  if (a == true || a == b) return b;
  if (b == true) return a;
  if (a == false || b == false) return false;
  return Schema{{"allOf", Schema::array({a, b})}};
}

void merge_properties(Schema& a, const Schema& b) {
  Schema result = Schema::object();
  const Schema none = Schema::object();
  const Schema& first = a.contains("properties") ? a["properties"] : none;
  const Schema& second = b.contains("properties") ? b["properties"] : none;
  for (const auto& [name, schema] : first.items())
    result[name] = both(schema, second.contains(name) ? second[name] : unnamed(b));
  for (const auto& [name, schema] : second.items())
    if (!first.contains(name)) result[name] = both(unnamed(a), schema);
  const Schema more = both(unnamed(a), unnamed(b));
  const bool said = a.contains("additionalProperties") || b.contains("additionalProperties");
  a["properties"] = std::move(result);
  if (said) a["additionalProperties"] = more;
}

void merge_items(Schema& a, const Schema& b) {
  const Schema none = Schema::array();
  const Schema first = a.contains("prefixItems") ? a["prefixItems"] : none;
  const Schema second = b.contains("prefixItems") ? b["prefixItems"] : none;
  const Schema a_rest = a.contains("items") ? a["items"] : Schema(true);
  const Schema b_rest = b.contains("items") ? b["items"] : Schema(true);
  Schema prefix = Schema::array();
  for (size_t i = 0; i < std::max(first.size(), second.size()); ++i)
    prefix.push_back(
        both(i < first.size() ? first[i] : a_rest, i < second.size() ? second[i] : b_rest));
  if (!prefix.empty()) a["prefixItems"] = prefix;
  if (a.contains("items") || b.contains("items")) a["items"] = both(a_rest, b_rest);
}

bool is_one_of(const std::string& key, std::initializer_list<const char*> keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

size_t characters_in(const std::string& text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

}  // namespace

bool is_annotation(const std::string& keyword) {
  return is_one_of(keyword, {"title", "description", "default", "examples", "example", "$schema",
                             "$id", "$comment", "deprecated", "readOnly", "writeOnly", "$defs",
                             "definitions", "discriminator"});
}

std::vector<std::string> types_of(const Schema& schema) {
  std::vector<std::string> result;
  if (!schema.is_object() || !schema.contains("type")) return result;
  for (const Schema& type : list_of(schema["type"]))
    if (type.is_string()) result.push_back(type.get<std::string>());
  return result;
}

bool has_type(const Schema& value, const std::string& type) {
  if (type == "integer")
    return value.is_number_integer() ||
           (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "object") return value.is_object();
  return type == "array" && value.is_array();
}

bool scalar_satisfies(const Schema& value, const Schema& schema) {
  const std::vector<std::string> types = types_of(schema);
  const auto fits = [&](const std::string& type) { return has_type(value, type); };
  if (schema.contains("type") && std::none_of(types.begin(), types.end(), fits)) return false;
  const auto bounded = [&](const char* keyword, double actual, auto holds) {
    return !schema.contains(keyword) || !schema[keyword].is_number() ||
           holds(actual, schema[keyword].get<double>());
  };
  const auto at_least = [](double a, double b) { return a >= b; };
  const auto at_most = [](double a, double b) { return a <= b; };
  if (value.is_string()) {
    const auto length = static_cast<double>(characters_in(value.get<std::string>()));
    return bounded("minLength", length, at_least) && bounded("maxLength", length, at_most);
  }
  if (!value.is_number()) return true;
  const auto number = value.get<double>();
  return bounded("minimum", number, at_least) && bounded("maximum", number, at_most) &&
         bounded("exclusiveMinimum", number, std::greater<double>()) &&
         bounded("exclusiveMaximum", number, std::less<double>());
}

Schema merge_schemas(const Schema& a, const Schema& b, const std::string& path,
                     const RefuseSchema& refuse) {
  if (a == true) return b;
  if (b == true) return a;
  if (a == false || b == false) return false;
  Schema result = a;
  if (b.contains("properties") || b.contains("additionalProperties") || a.contains("properties") ||
      a.contains("additionalProperties"))
    merge_properties(result, b);
  if (b.contains("items") || b.contains("prefixItems")) merge_items(result, b);
  for (const auto& [key, value] : b.items()) {
    if (is_annotation(key) ||
        is_one_of(key, {"properties", "additionalProperties", "items", "prefixItems"}))
      continue;
    if (!result.contains(key)) {
      result[key] = value;
      continue;
    }
    Schema& mine = result[key];
    if (mine == value) continue;
    if (key == "type") {
      mine = common_types(mine, value);
    } else if (key == "required") {
      for (const Schema& name : value)
        if (std::find(mine.begin(), mine.end(), name) == mine.end()) mine.push_back(name);
    } else if (key == "enum") {
      mine = common_values(mine, value);
    } else if (is_one_of(key, {"minimum", "exclusiveMinimum", "minLength", "minItems"})) {
      mine = std::max(mine, value);
    } else if (is_one_of(key, {"maximum", "exclusiveMaximum", "maxLength", "maxItems"})) {
      mine = std::min(mine, value);
    } else if (is_one_of(key, {"anyOf", "oneOf"})) {
      mine = cross(mine, value, path + "." + key, refuse);
    } else if (key == "const") {
      return false;  // two different values
    } else {
      refuse(path + "." + key, "one value where schemas are joined", "two");
    }
  }
  return result;
}

}  // namespace cairn
