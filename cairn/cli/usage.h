// What verbs say of words on their command line that cannot be used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cairn {

// Throws Error (usage). `verb` is what the user typed to get there ("cairn run").
[[noreturn]] void refuse_argument(const std::string& verb, const std::string& subject,
                                  const std::string& expected, const std::string& found);

// `value` of the option `name`. Throws Error (usage) when it is below `least`.
size_t at_least_argument(const std::string& verb, const std::string& name, int64_t value,
                         size_t least);

}  // namespace cairn
