// An attention mechanism and its options on the command line of verbs that measure.
#pragma once

#include <string>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/cli/verb.h"

namespace cairn {

struct MechanismArguments {
  std::string name = "softmax";
  std::vector<std::string> options;  // "key=value"

  // --mechanism and --option.
  void declare(Arguments& arguments);
  // Values are what config.json would say: JSON, or else a plain word. Throws Error (usage) on an
  // option that is no key and value; what the mechanism thinks of them, make_attention() tells.
  AttentionOptions parsed() const;
};

// "stick_breaking,exit_threshold=0": a name and options behind commas.
MechanismArguments mechanism_in_words(const std::string& words);

}  // namespace cairn
