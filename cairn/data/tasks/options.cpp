#include "cairn/data/tasks/options.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"

namespace cairn {

const OptionValue* TaskOptionReader::find(const std::string& key) {
  known_.push_back(key);
  const auto found = options_.values.find(key);
  return found == options_.values.end() ? nullptr : &found->second;
}

void TaskOptionReader::refuse(const std::string& key, const std::string& expected,
                              const std::string& found, const std::string& hint) const {
  throw Error({.kind = ErrorKind::usage,
               .doing = "making the task " + options_.name,
               .subject = "option " + key,
               .expected = expected,
               .found = found,
               .hint = hint});
}

size_t TaskOptionReader::whole(const std::string& key, size_t otherwise, size_t low, size_t high) {
  const OptionValue* value = find(key);
  if (value == nullptr) return otherwise;
  const std::string expected = fmt::format("a whole number from {} to {}", low, high);
  const auto* number = std::get_if<int64_t>(value);
  if (number == nullptr) refuse(key, expected, "something else");
  if (*number < 0 || static_cast<size_t>(*number) < low || static_cast<size_t>(*number) > high)
    refuse(key, expected, std::to_string(*number));
  return static_cast<size_t>(*number);
}

double TaskOptionReader::real(const std::string& key, double otherwise, double low, double high) {
  const OptionValue* value = find(key);
  if (value == nullptr) return otherwise;
  const std::string expected = fmt::format("a number from {} to {}", low, high);
  double number = 0;
  if (const auto* given = std::get_if<double>(value))
    number = *given;
  else if (const auto* integer = std::get_if<int64_t>(value))
    number = static_cast<double>(*integer);
  else
    refuse(key, expected, "something else");
  if (!(number >= low && number <= high)) refuse(key, expected, fmt::format("{}", number));
  return number;
}

bool TaskOptionReader::flag(const std::string& key, bool otherwise) {
  const OptionValue* value = find(key);
  if (value == nullptr) return otherwise;
  const auto* given = std::get_if<bool>(value);
  if (given == nullptr) refuse(key, "true or false", "something else");
  return *given;
}

std::string TaskOptionReader::word(const std::string& key, const std::vector<std::string>& words) {
  const OptionValue* value = find(key);
  if (value == nullptr) return words.front();
  std::string expected;
  for (const std::string& word : words) expected += (expected.empty() ? "" : " or ") + word;
  const auto* given = std::get_if<std::string>(value);
  if (given == nullptr) refuse(key, expected, "something else");
  if (std::find(words.begin(), words.end(), *given) == words.end())
    refuse(key, expected, *given, did_you_mean(*given, words));
  return *given;
}

void TaskOptionReader::finish() const {
  std::string list;
  for (const std::string& key : known_) list += (list.empty() ? "" : ", ") + key;
  for (const auto& [key, value] : options_.values)
    if (std::find(known_.begin(), known_.end(), key) == known_.end())
      refuse(key, "one of " + list, "no such option", did_you_mean(key, known_));
}

}  // namespace cairn
