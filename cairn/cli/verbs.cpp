#include "cairn/cli/verbs.h"

namespace cairn {

std::span<const VerbGroup> verb_groups() {
  static const std::vector<VerbGroup> groups = {
      {"Make a model", {&kTokenizerVerb, &kDataVerb}},
      {"Use a model", {&kRunVerb, &kInspectVerb}},
      {"Measure", {&kEvalVerb, &kBenchVerb}},
  };
  return groups;
}

}  // namespace cairn
