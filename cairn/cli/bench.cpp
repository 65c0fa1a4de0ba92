#include "cairn/cli/bench.h"

#include "cairn/cli/verbs.h"

namespace cairn {

const Verb kBenchVerb{
    .name = "bench",
    .does = "Measure speed, beside the limits of this machine",
    .example = "cairn bench peak\ncairn bench train --shape d512-l8 --json",
    .prepare = nullptr,
    .subverbs = {kBenchPeakVerb, kBenchTrainVerb, kBenchAttentionVerb, kBenchExitVerb,
                 kBenchDecodeVerb, kBenchPrefillVerb, kBenchLoadVerb, kBenchLookupVerb,
                 kBenchTokenizerVerb, kBenchQuantizeVerb, kBenchGemvVerb, kBenchAblationVerb,
                 kBenchDrawVerb}};

}  // namespace cairn
