// The program around the verbs: finds the verb that the command line names, shows help, and turns
// every exception into a message on standard error and an exit code. Knows no verb itself.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cairn/cli/verbs.h"

namespace cairn {

// Exit codes that no Error carries; the others are ErrorKind's.
inline constexpr int kExitDone = 0;
inline constexpr int kExitWrongUse = 2;
inline constexpr int kExitStopped = 75;  // stopped on request, can be resumed (EX_TEMPFAIL)

// Runs `cairn ARGUMENTS...` (without the program's own name) and returns its exit code. Throws
// nothing. Help and the version go to standard output, errors to standard error.
int run_program(std::span<const VerbGroup> groups, const std::vector<std::string>& arguments);

}  // namespace cairn
