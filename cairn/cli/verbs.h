// The verbs of the program, in the order and under the headings in which `cairn --help` shows them.
// A new verb: its own file cli/NAME.cpp that includes this header and defines kNameVerb, one
// declaration here, one line in verbs.cpp.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cairn/cli/verb.h"

namespace cairn {

extern const Verb kAttentionVerb;
extern const Verb kBenchVerb;
extern const Verb kChatVerb;
extern const Verb kConvertVerb;
extern const Verb kDataVerb;
extern const Verb kEvalVerb;
extern const Verb kInspectVerb;
extern const Verb kPlotVerb;
extern const Verb kPullVerb;
extern const Verb kQuantizeVerb;
extern const Verb kRunVerb;
extern const Verb kRunsVerb;
extern const Verb kStudyVerb;
extern const Verb kTokenizerVerb;
extern const Verb kTrainVerb;

struct VerbGroup {
  std::string_view title;
  std::vector<const Verb*> verbs;  // not owned: the constants above
};

// All verbs; every one appears exactly once. Lives as long as the program.
std::span<const VerbGroup> verb_groups();

}  // namespace cairn
