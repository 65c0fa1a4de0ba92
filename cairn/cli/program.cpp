#include "cairn/cli/program.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/base/suggest.h"
#include "cairn/cli/arguments.h"

namespace cairn {
namespace {

constexpr const char* kHelpFoot =
    "\n"
    "cairn VERB --help shows a verb's arguments and an example.\n"
    "Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 data, 4 diverged,\n"
    "5 checkpoint, 75 stopped and resumable.\n";

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h" || word == "help";
}

void print_verbs(std::span<const Verb* const> verbs) {
  size_t width = 10;
  for (const Verb* verb : verbs) width = std::max(width, std::string_view(verb->name).size());
  for (const Verb* verb : verbs) fmt::print("  {:{}}  {}\n", verb->name, width, verb->does);
}

void print_program_help(std::span<const VerbGroup> groups) {
  fmt::print(
      "cairn {}: trains and runs small language models on ordinary CPUs\n\n"
      "  cairn VERB [ARGUMENTS]\n",
      CAIRN_VERSION);
  for (const VerbGroup& group : groups) {
    fmt::print("\n{}\n", group.title);
    print_verbs(group.verbs);
  }
  fmt::print("{}", kHelpFoot);
}

void print_subverbs(const Verb& verb, const std::string& title) {
  fmt::print("{}: {}\n\n  {} VERB [ARGUMENTS]\n\n", title, verb.does, title);
  std::vector<const Verb*> subverbs;
  for (const Verb& subverb : verb.subverbs) subverbs.push_back(&subverb);
  print_verbs(subverbs);
  fmt::print("\n{}\n", example_text(verb));
}

[[noreturn]] void throw_unknown_verb(const std::string& title, const std::string& word,
                                     std::span<const Verb* const> verbs) {
  std::vector<std::string> names;
  for (const Verb* verb : verbs) names.emplace_back(verb->name);
  std::string hint = did_you_mean(word, names);
  if (hint.empty()) hint = title + " --help lists what there is";
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line",
               .subject = "no verb \"" + word + "\" after \"" + title + "\"",
               .hint = hint});
}

// Runs `verb`, or the subverb that the next argument names.
int run_verb(const Verb& verb, const std::string& title, std::span<const std::string> arguments) {
  if (!verb.subverbs.empty()) {
    const std::string next = arguments.empty() ? "" : arguments.front();
    std::vector<const Verb*> subverbs;
    for (const Verb& subverb : verb.subverbs) {
      if (next == subverb.name) return run_verb(subverb, title + " " + next, arguments.subspan(1));
      subverbs.push_back(&subverb);
    }
    if (asks_for_help(next)) {
      print_subverbs(verb, title);
      return kExitDone;
    }
    if (verb.prepare == nullptr) {
      if (!next.empty()) throw_unknown_verb(title, next, subverbs);
      print_subverbs(verb, title);
      return kExitWrongUse;
    }
  }
  return parse_and_run(verb, title, arguments);
}

int dispatch(std::span<const VerbGroup> groups, std::span<const std::string> arguments) {
  if (arguments.empty()) {
    print_program_help(groups);
    return kExitWrongUse;
  }
  const std::string& first = arguments.front();
  if (asks_for_help(first)) {
    print_program_help(groups);
    return kExitDone;
  }
  if (first == "--version") {
    fmt::print("cairn {}\n", CAIRN_VERSION);
    return kExitDone;
  }
  std::vector<const Verb*> verbs;
  for (const VerbGroup& group : groups)
    for (const Verb* verb : group.verbs) {
      if (first == verb->name) return run_verb(*verb, "cairn " + first, arguments.subspan(1));
      verbs.push_back(verb);
    }
  throw_unknown_verb("cairn", first, verbs);
}

void print_error(std::string_view message) {
  fmt::print(stderr, "error: {}\n", message);
}

}  // namespace

int run_program(std::span<const VerbGroup> groups, const std::vector<std::string>& arguments) try {
  const int code = dispatch(groups, arguments);
  // A full disk behind a redirected standard output shows only here.
  if (std::fflush(stdout) != 0)
    throw Error({.doing = "writing to standard output", .found = describe_errno(errno)});
  return code;
} catch (const Error& error) {
  std::fflush(stdout);
  print_error(error.what());
  return error.exit_code();
} catch (const std::bad_alloc&) {
  std::fflush(stdout);
  // No formatting here: it may allocate.
  std::fputs("error: out of memory\n  a smaller batch, context or model needs less\n", stderr);
  return static_cast<int>(ErrorKind::failed);
} catch (const std::exception& error) {
  std::fflush(stdout);
  print_error(error.what());
  return static_cast<int>(ErrorKind::failed);
}

}  // namespace cairn
