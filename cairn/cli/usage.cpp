#include "cairn/cli/usage.h"

#include "cairn/base/error.h"

namespace cairn {

void refuse_argument(const std::string& verb, const std::string& subject,
                     const std::string& expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line of " + verb,
               .subject = subject,
               .expected = expected,
               .found = found});
}

size_t at_least_argument(const std::string& verb, const std::string& name, int64_t value,
                         size_t least) {
  if (value < 0 || static_cast<size_t>(value) < least)
    refuse_argument(verb, name, std::to_string(least) + " or more", std::to_string(value));
  return static_cast<size_t>(value);
}

}  // namespace cairn
