#include "cairn/cli/verbs.h"

namespace cairn {

std::span<const VerbGroup> verb_groups() {
  static const std::vector<VerbGroup> groups = {
      {"Make a model", {&kTokenizerVerb, &kDataVerb, &kTrainVerb}},
      {"Use a model",
       {&kPullVerb, &kRunVerb, &kChatVerb, &kInspectVerb, &kAttentionVerb, &kConvertVerb,
        &kQuantizeVerb}},
      {"Measure", {&kEvalVerb, &kRunsVerb, &kPlotVerb, &kBenchVerb, &kStudyVerb}},
  };
  return groups;
}

}  // namespace cairn
