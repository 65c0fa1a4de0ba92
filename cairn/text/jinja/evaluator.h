// Runs the syntax tree of a template (template.h is the public face).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cairn/text/jinja/ast.h"
#include "cairn/text/jinja/context.h"
#include "cairn/text/jinja/template.h"

namespace cairn::jinja {

// Names and values; what is not found here is looked for outside.
struct Scope {
  std::shared_ptr<Scope> outside;
  std::vector<std::pair<std::string, Value>> names;

  const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

// One a rendering.
class Evaluator {
 public:
  Evaluator(const std::string& name, const RenderOptions& options);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  Rendered run(const Body& body, const Dict& globals);

 private:
  enum class Flow { next, break_, continue_ };
  struct Loop;

  void add_functions(Scope& scope);
  Value make_namespace(Arguments& arguments);

  Flow execute(const Body& body, const ScopePtr& scope, Text& out);
  Flow execute(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow run_if(const Statement& statement, const ScopePtr& scope, Text& out);
  void run_for(const Statement& statement, const Value& over, const ScopePtr& scope, Text& out,
               int depth);
  Value loop_value(const Statement& statement, const ScopePtr& scope, Loop& loop);
  void run_call(const Statement& statement, const ScopePtr& scope, Text& out);
  void run_generation(const Statement& statement, const ScopePtr& scope, Text& out);
  void assign(const Expression& target, Value value, const ScopePtr& scope);
  Value make_macro(const std::string& name, const Parameters& parameters, const Body& body,
                   const ScopePtr& scope);
  Value call_macro(const std::string& name, const Parameters& parameters, const Body& body,
                   const ScopePtr& scope, Arguments& arguments);
  void emit(const Value& value, Text& out);
  void capture(const ScopePtr& scope);

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  Value evaluate_or_none(const ExpressionPtr& expression, const ScopePtr& scope);
  Value evaluate_binary(const Expression& expression, const ScopePtr& scope);
  Value evaluate_compare(const Expression& expression, const ScopePtr& scope);
  Value evaluate_unary(const Expression& expression, const ScopePtr& scope);
  Value evaluate_list(const Expression& expression, const ScopePtr& scope);
  Value evaluate_dict(const Expression& expression, const ScopePtr& scope);
  Value evaluate_call(const Expression& expression, const ScopePtr& scope);
  Value evaluate_filter(const Expression& expression, const ScopePtr& scope, const Value* block);
  Arguments arguments_of(const Expression& expression, const ScopePtr& scope);

  const RenderOptions& options_;
  Context context_;
  int depth_ = 0;
  Text* output_ = nullptr;  // the rendering itself, for the places of generation blocks
  std::vector<TextRange> generated_;
  // By macros and recursive loops: emptied at the end, as they may hold themselves.
  std::vector<ScopePtr> captured_;
};

}  // namespace cairn::jinja
