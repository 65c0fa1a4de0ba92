#include "cairn/base/error.h"

#include <system_error>
#include <utility>

namespace cairn {
namespace {

std::string format_message(const Problem& problem) {
  std::string text = problem.doing;
  if (!problem.subject.empty()) text += ": " + problem.subject;
  if (!problem.expected.empty()) text += "\n  expected " + problem.expected;
  if (!problem.found.empty()) {
    text += problem.expected.empty() ? "\n  found " : ", found ";
    text += problem.found;
  }
  if (!problem.hint.empty()) text += "\n  " + problem.hint;
  return text;
}

}  // namespace

Error::Error(Problem problem) : problem_(std::move(problem)), message_(format_message(problem_)) {}

std::string describe_errno(int code) {
  return std::generic_category().message(code);
}

}  // namespace cairn
