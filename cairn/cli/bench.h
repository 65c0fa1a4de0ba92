// The benchmarks behind `cairn bench`: one file each. Every one prints JSON lines with --json, and
// each figure beside a limit measured in the same run.
#pragma once

#include <algorithm>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/cli/verb.h"
#include "cairn/model/config.h"
#include "cairn/tensor/block_type.h"
#include "cairn/tensor/dtype.h"

namespace cairn {

extern const Verb kBenchPeakVerb;
extern const Verb kBenchTrainVerb;
extern const Verb kBenchAttentionVerb;
extern const Verb kBenchExitVerb;
extern const Verb kBenchTokenizerVerb;
extern const Verb kBenchDecodeVerb;
extern const Verb kBenchPrefillVerb;
extern const Verb kBenchLoadVerb;
extern const Verb kBenchLookupVerb;
extern const Verb kBenchQuantizeVerb;
extern const Verb kBenchGemvVerb;
extern const Verb kBenchAblationVerb;
extern const Verb kBenchDrawVerb;

// `bench train --products`: prints each product of training with its ratio to one call of oneDNN.
int run_products(DType dtype, int64_t times, ThreadTeam& team, bool json);

// Bytes of keys and values that a token at `depth` reads.
size_t cache_bytes_at(const ModelConfig& config, size_t depth, BlockType type);

// The middle of some measurements; they are sorted in place. Not empty.
inline double median(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace cairn
