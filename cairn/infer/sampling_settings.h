// The settings of sampling by name, as generation_config.json, the command line (top_k becomes
// --top-k), the chat and HTTP requests know them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cairn/infer/sampler.h"

namespace cairn {

struct SamplingSetting {
  std::string_view name;      // "top_k"
  std::string_view help;      // one line
  std::string_view expected;  // "0 (all) or more"
  bool whole;                 // takes whole numbers only
  double (*get)(const SamplingOptions& options);
  void (*set)(SamplingOptions& options, double value);
  bool (*good)(double value);
};

// All but logit_bias and dry_breakers, which are lists.
std::span<const SamplingSetting> sampling_settings();

// nullptr when there is none of this name.
const SamplingSetting* find_sampling_setting(std::string_view name);

// Throws Error (usage), with the nearest known name, for an unknown name or a value out of range.
void set_sampling(SamplingOptions& options, std::string_view name, double value);

// Throws Error (usage) naming the setting outside its range.
void check_sampling(const SamplingOptions& options);

}  // namespace cairn
