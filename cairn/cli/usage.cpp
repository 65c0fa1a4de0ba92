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

size_t not_negative_argument(const std::string& verb, const std::string& name, int64_t value) {
  if (value < 0) refuse_argument(verb, name, "0 or more", std::to_string(value));
  return static_cast<size_t>(value);
}

}  // namespace cairn
