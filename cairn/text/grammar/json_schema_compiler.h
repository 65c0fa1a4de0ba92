// A JSON Schema becoming a grammar, rule by rule. Internal to json_schema.
//   json_schema.cpp         schemas of schemas: references, combinations, alternatives
//   json_schema_values.cpp  values by their type: objects, arrays, strings, numbers
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cairn/text/grammar/grammar.h"
#include "cairn/text/grammar/json_text.h"
#include "cairn/text/grammar/number_ranges.h"
#include "cairn/text/grammar/schema_merge.h"

namespace cairn {

inline grammar::Expression nothing() {
  return grammar::choice({});
}
inline bool matches_nothing(const grammar::Expression& e) {
  return e.kind == grammar::Expression::Kind::choice && e.parts.empty();
}

class SchemaCompiler {
 public:
  using Expression = grammar::Expression;

  explicit SchemaCompiler(std::string source) : source_(std::move(source)) {}

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
  Expression shared(const char* name, Expression (SchemaCompiler::*make)());
  Expression blanks() { return shared("blanks", &SchemaCompiler::make_blanks); }
  Expression string_character() { return shared("character", &SchemaCompiler::make_character); }
  Expression any_value() { return shared("value", &SchemaCompiler::make_value); }
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

}  // namespace cairn
