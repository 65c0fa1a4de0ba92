// A verb of the program: plain data, one file each. A verb names its arguments through Arguments;
// the command-line library stays behind main.cpp.
//
//   struct Options { std::string file; bool json = false; };
//   std::function<int()> prepare(Arguments& arguments) {
//     auto options = std::make_shared<Options>();
//     arguments.positional("FILE", "the file to look into", options->file);
//     arguments.flag("--json", "print JSON", options->json);
//     return [options] { return run_inspect(*options); };
//   }
//   const Verb kInspectVerb{.name = "inspect", .does = "Show what a file holds, without loading
//   it",
//                           .example = "cairn inspect smol.gguf --json", .prepare = prepare};
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cairn {

// Collects the arguments of one verb. Targets keep their value when the argument is not given and
// must live until the action has run.
class Arguments {
 public:
  virtual ~Arguments() = default;
  virtual void positional(const std::string& name, const std::string& help, std::string& target,
                          bool required = true) = 0;
  virtual void positionals(const std::string& name, const std::string& help,
                           std::vector<std::string>& target, bool required = true) = 0;
  virtual void option(const std::string& name, const std::string& help, std::string& target) = 0;
  virtual void option(const std::string& name, const std::string& help, int64_t& target) = 0;
  virtual void option(const std::string& name, const std::string& help, double& target) = 0;
  // Stays empty when not given: for what has its default elsewhere, which `help` tells.
  virtual void option(const std::string& name, const std::string& help,
                      std::optional<double>& target) = 0;
  // May be given several times.
  virtual void option(const std::string& name, const std::string& help,
                      std::vector<std::string>& target) = 0;
  virtual void flag(const std::string& name, const std::string& help, bool& target) = 0;
  // Takes every --section.key=value (and "--section.key value") that no option claims, as
  // "section.key=value".
  virtual void overrides(const std::string& help, std::vector<std::string>& target) = 0;
};

struct Verb {
  const char* name = nullptr;
  const char* does = nullptr;     // one line
  const char* example = nullptr;  // one or more command lines, shown by --help
  // Declares the arguments and returns what runs after parsing; its result is the exit code.
  // Null for a verb that only groups subverbs.
  std::function<int()> (*prepare)(Arguments& arguments) = nullptr;
  std::vector<Verb> subverbs = {};
};

}  // namespace cairn
