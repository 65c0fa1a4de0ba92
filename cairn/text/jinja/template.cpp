#include "cairn/text/jinja/template.h"

#include <set>

#include "cairn/text/jinja/evaluator.h"
#include "cairn/text/jinja/parser.h"

namespace cairn::jinja {
namespace {

// Names that a tree looks up, and those it sets.
class Names {
 public:
  void visit(const Body& body) {
    for (const auto& statement : body) visit(*statement);
  }

  std::vector<std::string> free_names() const {
    std::vector<std::string> result;
    for (const std::string& name : read_) {
      if (set_.count(name) == 0) result.push_back(name);
    }
    return result;
  }

 private:
  void visit(const Statement& statement) {
    visit(statement.value.get());
    visit(statement.condition.get());
    if (statement.target) assign(*statement.target);
    if (statement.kind == Statement::Kind::macro) set_.insert(statement.text);
    for (const auto& [name, value] : statement.parameters) {
      set_.insert(name);
      visit(value.get());
    }
    for (const auto& [condition, body] : statement.branches) {
      visit(condition.get());
      visit(body);
    }
    visit(statement.body);
    visit(statement.other);
  }

  void visit(const Expression* expression) {
    if (expression == nullptr) return;
    if (expression->kind == Expression::Kind::name) read_.insert(expression->text);
    for (const ExpressionPtr& part : expression->parts) visit(part.get());
    for (const auto& [name, value] : expression->named) visit(value.get());
  }

  void assign(const Expression& target) {
    if (target.kind == Expression::Kind::name) set_.insert(target.text);
    for (const ExpressionPtr& part : target.parts) assign(*part);
  }

  std::set<std::string> read_;
  std::set<std::string> set_ = {"loop",      "caller", "range",           "dict",
                                "namespace", "true",   "raise_exception", "strftime_now"};
};

}  // namespace

Template::Template(std::string_view source, std::string name)
    : name_(std::move(name)), body_(parse(source, name_)) {
  Names names;
  names.visit(body_);
  variables_ = names.free_names();
}

Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

Rendered Template::render(const Dict& globals, const RenderOptions& options) const {
  return Evaluator(name_, options).run(body_, globals);
}

}  // namespace cairn::jinja
