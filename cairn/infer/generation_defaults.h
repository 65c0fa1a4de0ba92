// What the makers of a model recommend for generating with it: generation_config.json beside the
// weights of a Hugging Face folder.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/infer/sampler.h"

namespace cairn {

struct GenerationDefaults {
  std::vector<int32_t> end_ids;                          // tokens that end a text
  std::vector<std::pair<std::string, double>> sampling;  // by the names of sampling_settings()
  std::string source;                                    // the file; empty: none

  // Throws Error (data) naming the file when a value is out of range.
  void apply(SamplingOptions& options) const;
};

// Those of a model folder; nothing for a folder without the file and for GGUF files, whose
// tokenizer knows the ends of texts. Throws Error (data) for a file that is damaged.
GenerationDefaults read_generation_defaults(const Path& model);

}  // namespace cairn
