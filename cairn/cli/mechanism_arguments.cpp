#include "cairn/cli/mechanism_arguments.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cairn/base/error.h"
#include "cairn/cli/usage.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& found) {
  refuse_argument("cairn bench", "--option", expected, found);
}

OptionValue option_value(const std::string& text) {
  Json value;
  try {
    value = parse_json(text, "--option");
  } catch (const Error&) {
    return text;
  }
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  const bool numbers = value.is_array() && std::all_of(value.begin(), value.end(),
                                                       [](const Json& v) { return v.is_number(); });
  if (!numbers) refuse("true, false, a number, a word or a list of numbers", text);
  return value.get<std::vector<double>>();
}

}  // namespace

void MechanismArguments::declare(Arguments& arguments) {
  arguments.option("--mechanism", "which attention", name);
  arguments.option("--option", "an option of it, as key=value; may be repeated", options);
}

AttentionOptions MechanismArguments::parsed() const {
  AttentionOptions mechanism;
  mechanism.mechanism = name;
  for (const std::string& option : options) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos || equals == 0) refuse("key=value", option);
    mechanism.values[option.substr(0, equals)] = option_value(option.substr(equals + 1));
  }
  return mechanism;
}

MechanismArguments mechanism_in_words(const std::string& words) {
  std::istringstream stream(words);
  MechanismArguments arguments;
  std::getline(stream, arguments.name, ',');
  for (std::string option; std::getline(stream, option, ',');) arguments.options.push_back(option);
  return arguments;
}

}  // namespace cairn
