#include "cairn/attention/relative_bias/options.h"

#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/options.h"

namespace cairn {
namespace {

constexpr size_t kMostBuckets = 1024;
constexpr size_t kFurthest = size_t{1} << 20;

void check_together(std::string_view doing, const RelativeBiasOptions& parsed) {
  const bool both = parsed.mask == AttentionMask::bidirectional;
  if (both && (parsed.buckets % 2 != 0 || parsed.buckets < 4))
    refuse(doing, "option buckets", "an even number from 4 on for mask \"bidirectional\"",
           std::to_string(parsed.buckets));
  const size_t exact = parsed.buckets / (both ? 4 : 2);
  if (parsed.max_distance <= exact)
    refuse(doing, "option max_distance",
           "more than " + std::to_string(exact) + ", the distances with a bucket of their own",
           std::to_string(parsed.max_distance));
}

}  // namespace

RelativeBiasOptions read_relative_bias_options(std::string_view doing,
                                               const AttentionOptions& options) {
  RelativeBiasOptions parsed;
  for (const auto& [key, value] : options.values) {
    if (key == "mask") {
      const std::string word = word_option(doing, key, value, {"causal", "bidirectional", "cross"});
      parsed.mask = word == "causal"          ? AttentionMask::causal
                    : word == "bidirectional" ? AttentionMask::bidirectional
                                              : AttentionMask::cross;
    } else if (key == "buckets") {
      parsed.buckets = whole_option(doing, key, value, 2, kMostBuckets);
    } else if (key == "max_distance") {
      parsed.max_distance = whole_option(doing, key, value, 2, kFurthest);
    } else {
      refuse(doing, "option " + key, "mask, buckets, max_distance", key);
    }
  }
  if (parsed.mask == AttentionMask::cross && options.values.size() > 1)
    refuse(doing, "options buckets and max_distance", "none for mask \"cross\", which has no bias",
           "some");
  check_together(doing, parsed);
  return parsed;
}

}  // namespace cairn
