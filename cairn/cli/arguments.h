// Reads one verb's command line. The only place that knows the command-line library (CLI11).
#pragma once

#include <span>
#include <string>

#include "cairn/cli/verb.h"

namespace cairn {

// The example of `verb` under a heading, each line of it indented; empty when it has none.
std::string example_text(const Verb& verb);

// Declares the arguments of `verb`, reads `arguments` into them and runs its action; returns the
// action's exit code. `title` is what the user typed to get here ("cairn data pack"). --help prints
// the verb's page and returns 0. Every verb also takes --quiet and --log-level.
// Throws Error (usage) for an unknown, missing or malformed argument, with the nearest known one.
int parse_and_run(const Verb& verb, const std::string& title,
                  std::span<const std::string> arguments);

}  // namespace cairn
