#include "cairn/text/jinja/evaluator.h"

#include <algorithm>
#include <array>

#include "cairn/io/json.h"

namespace cairn::jinja {
namespace {

using EKind = Expression::Kind;
using SKind = Statement::Kind;

constexpr size_t kLongestRange = 100'000;  // as Jinja's sandbox

class Level {
 public:
  Level(int& depth, Context& context) : depth_(depth) {
    if (depth >= context.limits().depth) context.fail("deeper recursion", "less of it");
    ++depth_;
  }
  ~Level() { --depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int& depth_;
};

Value range_of(Context& context, Arguments& arguments) {
  std::array<int64_t, 3> bounds = {0, 0, 1};
  const size_t given = arguments.values.size();
  if (given < 1 || given > 3)
    context.fail("wrong arguments", "range(stop) or range(start, stop, step)");
  for (size_t i = 0; i < given; ++i) {
    bounds[given == 1 ? 1 : i] = integer_argument(context, arguments.values[i], "range");
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) context.fail("a range with a step of 0");
  List list;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (list.items.size() == kLongestRange)
      context.fail("a longer range", "at most 100000 numbers");
    list.items.push_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  context.step(list.items.size() / 4);
  return context.made(std::move(list));
}

Value dict_of(Context& context, Arguments& arguments) {
  Dict dict;
  if (!arguments.values.empty()) {
    if (!arguments.values[0].is_dict()) context.fail("wrong arguments", "dict(name=value)");
    dict.items = arguments.values[0].dict().items;
  }
  for (auto& [name, value] : arguments.named) dict.set(Value(std::string_view(name)), value);
  return context.made(std::move(dict));
}

std::string strftime_now(Context& context, Arguments& arguments, std::time_t now) {
  if (arguments.values.size() != 1) context.fail("wrong arguments", "strftime_now(format)");
  const std::string& format = text_argument(context, arguments.values[0], "strftime_now").bytes;
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 1024> buffer{};
  const std::string padded = format.substr(0, 256) + " ";  // so that an empty result is no failure
  const size_t size = std::strftime(buffer.data(), buffer.size(), padded.c_str(), &local);
  return std::string(buffer.data(), size == 0 ? 0 : size - 1);
}

}  // namespace

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outside.get()) {
    for (const auto& [known, value] : scope->names) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(const std::string& name, Value value) {
  for (auto& [known, old] : names) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  names.emplace_back(name, std::move(value));
}

Evaluator::Evaluator(const std::string& name, const RenderOptions& options)
    : options_(options), context_(name, options.limits) {}

Evaluator::~Evaluator() {
  for (const ScopePtr& scope : captured_) scope->names.clear();
}

Rendered Evaluator::run(const Body& body, const Dict& globals) {
  auto outer = std::make_shared<Scope>();
  add_functions(*outer);
  for (const auto& [name, value] : globals.items) outer->set(name.text().bytes, value);
  auto scope = std::make_shared<Scope>();
  scope->outside = outer;
  Text out;
  output_ = &out;
  execute(body, scope, out);
  return {.text = std::move(out.bytes), .user = std::move(out.user), .generated = generated_};
}

void Evaluator::add_functions(Scope& scope) {
  scope.set("range", Function([this](Arguments& given) { return range_of(context_, given); }));
  scope.set("dict", Function([this](Arguments& given) { return dict_of(context_, given); }));
  scope.set("namespace", Function([this](Arguments& given) { return make_namespace(given); }));
  scope.set("raise_exception", Function([this](Arguments& given) -> Value {
              context_.fail(given.values.empty() ? "raise_exception"
                                                 : context_.text_of(given.values[0]).bytes,
                            "a conversation that the template accepts");
            }));
  scope.set("strftime_now", Function([this](Arguments& given) {
              return Value(Text(strftime_now(context_, given, options_.now)));
            }));
}

Value Evaluator::make_namespace(Arguments& arguments) {
  const Value made = dict_of(context_, arguments);
  Dict names;
  names.items = made.dict().items;
  names.is_namespace = names.settable = true;
  Value result(std::move(names));
  context_.keep(result);
  return result;
}

// ---- statements ----

Evaluator::Flow Evaluator::execute(const Body& body, const ScopePtr& scope, Text& out) {
  for (const auto& statement : body) {
    const Flow flow = execute(*statement, scope, out);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Evaluator::Flow Evaluator::execute(const Statement& statement, const ScopePtr& scope, Text& out) {
  context_.place = statement.place;
  const Level level(depth_, context_);
  context_.step();
  switch (statement.kind) {
    case SKind::text:
      emit(Value(std::string_view(statement.text)), out);
      break;
    case SKind::print:
      emit(evaluate(*statement.value, scope), out);
      break;
    case SKind::if_:
      return run_if(statement, scope, out);
    case SKind::for_:
      run_for(statement, evaluate(*statement.value, scope), scope, out, 0);
      break;
    case SKind::set:
      assign(*statement.target, evaluate(*statement.value, scope), scope);
      break;
    case SKind::set_block:
    case SKind::filter: {
      auto inner = std::make_shared<Scope>();
      inner->outside = scope;
      Text body;
      execute(statement.body, inner, body);
      Value value = context_.made(std::move(body));
      if (statement.value) value = evaluate_filter(*statement.value, scope, &value);
      if (statement.kind == SKind::filter) {
        emit(value, out);
      } else {
        assign(*statement.target, std::move(value), scope);
      }
      break;
    }
    case SKind::macro:
      scope->set(statement.text,
                 make_macro(statement.text, statement.parameters, statement.body, scope));
      break;
    case SKind::call:
      run_call(statement, scope, out);
      break;
    case SKind::with: {
      auto inner = std::make_shared<Scope>();
      inner->outside = scope;
      for (const auto& [name, value] : statement.parameters) {
        Value found = evaluate(*value, scope);
        inner->set(name, std::move(found));
      }
      return execute(statement.body, inner, out);
    }
    case SKind::generation:
      run_generation(statement, scope, out);
      break;
    case SKind::break_:
      return Flow::break_;
    case SKind::continue_:
      return Flow::continue_;
  }
  return Flow::next;
}

void Evaluator::emit(const Value& value, Text& out) {
  const Text text = context_.text_of(value);
  if (out.bytes.size() + text.bytes.size() > context_.limits().output) {
    context_.fail("more output than a template may make", "a shorter text");
  }
  out.append(text);
}

Evaluator::Flow Evaluator::run_if(const Statement& statement, const ScopePtr& scope, Text& out) {
  for (const auto& [condition, body] : statement.branches) {
    if (evaluate(*condition, scope).truth()) return execute(body, scope, out);
  }
  return execute(statement.other, scope, out);
}

// What `loop` is made of.
struct Evaluator::Loop {
  const List& items;
  size_t index = 0;
  int depth = 0;
};

void Evaluator::run_for(const Statement& statement, const Value& over, const ScopePtr& scope,
                        Text& out, int depth) {
  List items = items_of(context_, over);
  if (statement.condition) {  // filtered first: loop.length counts what is left
    List kept;
    for (Value& item : items.items) {
      auto inner = std::make_shared<Scope>();
      inner->outside = scope;
      assign(*statement.target, item, inner);
      context_.step();
      if (evaluate(*statement.condition, inner).truth()) kept.items.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  if (items.items.empty()) {
    execute(statement.other, scope, out);
    return;
  }
  Loop loop{.items = items, .depth = depth};
  if (statement.recursive) capture(scope);
  for (; loop.index < items.items.size(); ++loop.index) {
    context_.step();
    auto inner = std::make_shared<Scope>();
    inner->outside = scope;
    inner->set("loop", loop_value(statement, scope, loop));
    assign(*statement.target, items.items[loop.index], inner);
    if (execute(statement.body, inner, out) == Flow::break_) return;
  }
}

Value Evaluator::loop_value(const Statement& statement, const ScopePtr& scope, Loop& loop) {
  const auto& items = loop.items.items;
  const size_t index = loop.index;
  Dict value;
  value.is_namespace = true;  // prints and compares as itself
  value.settable = false;
  const auto add = [&](const char* name, Value what) {
    value.items.emplace_back(name, std::move(what));
  };
  add("index", index + 1);
  add("index0", index);
  add("revindex", items.size() - index);
  add("revindex0", items.size() - index - 1);
  add("first", index == 0);
  add("last", index + 1 == items.size());
  add("length", items.size());
  add("depth", loop.depth + 1);
  add("depth0", loop.depth);
  add("previtem", index > 0 ? items[index - 1] : Value(Undefined{"previtem"}));
  add("nextitem", index + 1 < items.size() ? items[index + 1] : Value(Undefined{"nextitem"}));
  add("cycle", Function([this, index](Arguments& given) -> Value {
        if (given.values.empty()) context_.fail("cycle without values");
        return given.values[index % given.values.size()];
      }));
  if (statement.recursive) {
    add("", Function([this, &statement, scope, depth = loop.depth](Arguments& given) -> Value {
          if (given.values.size() != 1) context_.fail("wrong arguments", "loop(items)");
          const Level level(depth_, context_);
          Text out;
          run_for(statement, given.values[0], scope, out, depth + 1);
          return context_.made(std::move(out));
        }));
  }
  return context_.made(std::move(value));
}

void Evaluator::run_call(const Statement& statement, const ScopePtr& scope, Text& out) {
  const Expression& call = *statement.value;
  const Value function = evaluate(*call.parts[0], scope);
  if (!function.is_function())
    context_.fail(std::string("a call of ") + function.type_name(), "a macro");
  Arguments arguments = arguments_of(call, scope);
  arguments.named.emplace_back("caller",
                               make_macro("caller", statement.parameters, statement.body, scope));
  emit(function.function()(arguments), out);
}

void Evaluator::run_generation(const Statement& statement, const ScopePtr& scope, Text& out) {
  const size_t begin = out.bytes.size();
  execute(statement.body, scope, out);
  // Inside a macro or a set block the place is not known yet.
  if (&out == output_ && out.bytes.size() > begin) generated_.push_back({begin, out.bytes.size()});
}

void Evaluator::assign(const Expression& target, Value value, const ScopePtr& scope) {
  if (target.kind == EKind::name) return scope->set(target.text, std::move(value));
  if (target.kind == EKind::attribute) {
    const Value object = evaluate(*target.parts[0], scope);
    if (!object.is_dict() || !object.dict().settable) {
      context_.fail(std::string("an attribute of ") + object.type_name() + " set", "a namespace");
    }
    return object.dict().set(Value(std::string_view(target.text)), std::move(value));
  }
  const List items = items_of(context_, value);
  if (items.items.size() != target.parts.size()) {
    context_.fail(std::to_string(items.items.size()) + " values to unpack",
                  std::to_string(target.parts.size()));
  }
  for (size_t i = 0; i < target.parts.size(); ++i) assign(*target.parts[i], items.items[i], scope);
}

void Evaluator::capture(const ScopePtr& scope) {
  context_.spend(256);
  captured_.push_back(scope);
}

Value Evaluator::make_macro(const std::string& name, const Parameters& parameters, const Body& body,
                            const ScopePtr& scope) {
  capture(scope);
  return Function([this, &name, &parameters, &body, scope](Arguments& arguments) {
    return call_macro(name, parameters, body, scope, arguments);
  });
}

Value Evaluator::call_macro(const std::string& name, const Parameters& parameters, const Body& body,
                            const ScopePtr& scope, Arguments& arguments) {
  const Level level(depth_, context_);
  const Place place = context_.place;
  auto inner = std::make_shared<Scope>();
  inner->outside = scope;
  if (arguments.values.size() > parameters.size()) {
    context_.fail(
        std::to_string(arguments.values.size()) + " arguments for macro " + in_quotes(name),
        "at most " + std::to_string(parameters.size()));
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [parameter, otherwise] = parameters[i];
    const Value* const given = argument(arguments, i, parameter);
    inner->set(parameter, given != nullptr ? *given
                          : otherwise      ? evaluate(*otherwise, inner)
                                           : Value(Undefined{parameter}));
  }
  for (const auto& named : arguments.named) {
    const std::string& given = named.first;
    const bool known = std::any_of(parameters.begin(), parameters.end(),
                                   [&](const auto& parameter) { return parameter.first == given; });
    if (given == "caller") {
      inner->set("caller", named.second);
    } else if (!known) {
      context_.fail("argument " + in_quotes(given) + " for macro " + in_quotes(name),
                    "one it takes");
    }
  }
  Text out;
  execute(body, inner, out);
  context_.place = place;
  return context_.made(std::move(out));
}

// ---- expressions ----

Value Evaluator::evaluate_or_none(const ExpressionPtr& expression, const ScopePtr& scope) {
  return expression ? evaluate(*expression, scope) : Value();
}

Value Evaluator::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Level level(depth_, context_);
  context_.step();
  context_.place = expression.place;
  const auto part = [&](size_t i) { return evaluate(*expression.parts[i], scope); };
  switch (expression.kind) {
    case EKind::constant:
      return expression.value;
    case EKind::name: {
      const Value* const found = scope->find(expression.text);
      return found != nullptr ? *found : Value(Undefined{expression.text});
    }
    case EKind::list:
    case EKind::tuple:
      return evaluate_list(expression, scope);
    case EKind::dict:
      return evaluate_dict(expression, scope);
    case EKind::attribute: {
      const Value object = part(0);
      context_.place = expression.place;
      return attribute_of(context_, object, expression.text);
    }
    case EKind::subscript: {
      const Value object = part(0);
      const Value key = part(1);
      context_.place = expression.place;
      return item_of(context_, object, key);
    }
    case EKind::slice: {
      const Value object = part(0);
      const Value start = evaluate_or_none(expression.parts[1], scope);
      const Value stop = evaluate_or_none(expression.parts[2], scope);
      return slice_of(context_, object, start, stop, evaluate_or_none(expression.parts[3], scope));
    }
    case EKind::call:
      return evaluate_call(expression, scope);
    case EKind::filter:
      return evaluate_filter(expression, scope, nullptr);
    case EKind::test: {
      const Value value = part(0);
      Arguments arguments = arguments_of(expression, scope);
      context_.place = expression.place;
      return apply_test(context_, expression.text, value, arguments);
    }
    case EKind::unary:
      return evaluate_unary(expression, scope);
    case EKind::binary:
      return evaluate_binary(expression, scope);
    case EKind::compare:
      return evaluate_compare(expression, scope);
    case EKind::conditional:
      if (part(1).truth()) return part(0);
      return expression.parts[2] ? part(2) : Value(Undefined{"else"});
  }
  return Value();
}

Value Evaluator::evaluate_unary(const Expression& expression, const ScopePtr& scope) {
  const Value value = evaluate(*expression.parts[0], scope);
  context_.place = expression.place;
  if (expression.text == "not") return !value.truth();
  if (expression.text == "-") return binary(context_, "-", Value(0), value);
  return binary(context_, "+", Value(0), value);
}

Value Evaluator::evaluate_binary(const Expression& expression, const ScopePtr& scope) {
  const Value left = evaluate(*expression.parts[0], scope);
  if (expression.text == "and" || expression.text == "or") {
    const bool decided = left.truth() == (expression.text == "or");
    return decided ? left : evaluate(*expression.parts[1], scope);
  }
  const Value right = evaluate(*expression.parts[1], scope);
  context_.place = expression.place;
  return binary(context_, expression.text, left, right);
}

Value Evaluator::evaluate_compare(const Expression& expression, const ScopePtr& scope) {
  Value left = evaluate(*expression.parts[0], scope);
  for (size_t i = 0; i < expression.names.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1], scope);
    context_.place = expression.place;
    if (!compare(context_, expression.names[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Evaluator::evaluate_list(const Expression& expression, const ScopePtr& scope) {
  List list{.items = {}, .tuple = expression.kind == EKind::tuple};
  for (const ExpressionPtr& part : expression.parts) list.items.push_back(evaluate(*part, scope));
  return context_.made(std::move(list));
}

Value Evaluator::evaluate_dict(const Expression& expression, const ScopePtr& scope) {
  Dict dict;
  for (size_t i = 0; i + 1 < expression.parts.size(); i += 2) {
    Value key = evaluate(*expression.parts[i], scope);
    context_.step(dict.items.size() / 16);
    dict.set(std::move(key), evaluate(*expression.parts[i + 1], scope));
  }
  return context_.made(std::move(dict));
}

Arguments Evaluator::arguments_of(const Expression& expression, const ScopePtr& scope) {
  Arguments arguments;
  for (size_t i = 1; i < expression.parts.size(); ++i) {
    arguments.values.push_back(evaluate(*expression.parts[i], scope));
  }
  for (const auto& [name, value] : expression.named) {
    arguments.named.emplace_back(name, evaluate(*value, scope));
  }
  return arguments;
}

Value Evaluator::evaluate_call(const Expression& expression, const ScopePtr& scope) {
  const Expression& callee = *expression.parts[0];
  Value function;
  if (callee.kind == EKind::attribute) {
    const Value object = evaluate(*callee.parts[0], scope);
    context_.place = callee.place;
    function = method_of(context_, object, callee.text);
    if (function.is_none()) function = attribute_of(context_, object, callee.text);
  } else {
    function = evaluate(callee, scope);
  }
  if (function.is_dict() && function.dict().is_namespace) {  // loop(...) of a recursive loop
    if (const Value* const recursion = function.dict().find_name("")) {
      const Value copy = *recursion;
      function = copy;
    }
  }
  context_.place = expression.place;
  if (function.is_undefined()) {
    context_.fail(in_quotes(function.undefined_name()) + " is undefined", "a function");
  }
  if (!function.is_function()) {
    context_.fail(std::string("a call of ") + function.type_name(), "a function");
  }
  Arguments arguments = arguments_of(expression, scope);
  context_.place = expression.place;
  return function.function()(arguments);
}

Value Evaluator::evaluate_filter(const Expression& expression, const ScopePtr& scope,
                                 const Value* block) {
  Value value;
  if (!expression.parts[0]) {
    if (block != nullptr) value = *block;
  } else if (block != nullptr && expression.parts[0]->kind == EKind::filter) {
    value = evaluate_filter(*expression.parts[0], scope, block);
  } else {
    value = evaluate(*expression.parts[0], scope);
  }
  Arguments arguments = arguments_of(expression, scope);
  context_.place = expression.place;
  return apply_filter(context_, expression.text, value, arguments);
}

}  // namespace cairn::jinja
