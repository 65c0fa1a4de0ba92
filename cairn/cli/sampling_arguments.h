// The arguments with which `cairn run` and `cairn chat` choose how to sample. What the command line
// does not say is the model's own (generation_config.json), and else the program's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cairn/cli/verb.h"
#include "cairn/infer/generation_defaults.h"

namespace cairn {

class SamplingArguments {
 public:
  SamplingArguments();
  // The target must live until the action has run, like every other.
  void declare(Arguments& arguments);
  // Throws Error (usage) for a value out of range, before any model is read.
  void check() const;
  SamplingOptions resolve(const GenerationDefaults& model) const;

 private:
  void apply(SamplingOptions& options) const;

  std::vector<std::optional<double>> values_;  // by sampling_settings()
  std::vector<std::string> biases_;            // "ID=BIAS"
};

}  // namespace cairn
