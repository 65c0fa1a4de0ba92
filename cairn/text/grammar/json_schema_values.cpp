#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "cairn/text/grammar/json_schema_compiler.h"

namespace cairn {
namespace {

using grammar::Expression;

constexpr uint32_t kMostRepeats = 50'000;

}  // namespace

Expression SchemaCompiler::compile_values(const Schema& schema, const std::string& path) {
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

Expression SchemaCompiler::compile_types(const Schema& schema, const std::string& path) {
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

Expression SchemaCompiler::compile_type(const std::string& type, const Schema& schema,
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

Expression SchemaCompiler::in_brackets(const char* open, Expression inside, const char* close) {
  return grammar::sequence(
      {grammar::text(open), blanks(), std::move(inside), blanks(), grammar::text(close)});
}

Expression SchemaCompiler::comma_before(Expression part) {
  return grammar::sequence({grammar::text(","), blanks(), std::move(part)});
}

std::vector<SchemaCompiler::Member> SchemaCompiler::members(const Schema& schema,
                                                            const std::string& path) {
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
Expression SchemaCompiler::additional(const Schema& schema, const std::string& path) {
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
Expression SchemaCompiler::key_other_than(const std::vector<std::string>& names) {
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

Expression SchemaCompiler::compile_object(const Schema& schema, const std::string& path) {
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

uint32_t SchemaCompiler::count(const Schema& schema, const char* keyword, uint32_t otherwise,
                               const std::string& path) const {
  if (!schema.contains(keyword)) return otherwise;
  const Schema& value = schema[keyword];
  if (!value.is_number() || value.get<double>() < 0 || value.get<double>() > kMostRepeats ||
      value.get<double>() != std::floor(value.get<double>()))
    refuse(path.empty() ? keyword : path + "." + keyword,
           fmt::format("a whole number from 0 to {}", kMostRepeats), value.dump());
  return static_cast<uint32_t>(value.get<double>());
}

Expression SchemaCompiler::compile_array(const Schema& schema, const std::string& path) {
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

Expression SchemaCompiler::compile_string(const Schema& schema, const std::string& path) {
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

std::optional<DecimalBound> SchemaCompiler::bound(const Schema& schema, const char* inclusive,
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

Expression SchemaCompiler::compile_number(bool whole, const Schema& schema,
                                          const std::string& path) {
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

}  // namespace cairn
