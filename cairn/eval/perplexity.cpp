#include "cairn/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

uint64_t scored_bytes(const Batch& batch, std::span<const uint32_t> byte_counts) {
  uint64_t bytes = 0;
  for (const int32_t target : batch.targets)
    if (target >= 0 && static_cast<size_t>(target) < byte_counts.size())
      bytes += byte_counts[static_cast<size_t>(target)];
  return bytes;
}

}  // namespace

double TextScore::nats_per_token() const {
  return tokens == 0 ? 0.0 : nats / static_cast<double>(tokens);
}

double TextScore::perplexity() const {
  return std::exp(nats_per_token());
}

double TextScore::bits_per_byte() const {
  if (bytes == 0) return std::numeric_limits<double>::infinity();
  return nats / std::numbers::ln2 / static_cast<double>(bytes);
}

std::vector<uint32_t> token_byte_counts(const Tokenizer& tokenizer) {
  std::vector<uint32_t> counts(tokenizer.vocab_size());
  for (size_t id = 0; id < counts.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    if (!tokenizer.is_special(token))
      counts[id] = static_cast<uint32_t>(tokenizer.token_bytes(token).size());
  }
  return counts;
}

TextScore score_windows(const EvaluationWindows& windows, uint64_t limit, size_t sequences,
                        std::span<const uint32_t> byte_counts,
                        FunctionRef<LossSum(const Batch&)> loss_of,
                        const std::function<void(uint64_t tokens)>& done) {
  if (sequences == 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "evaluating",
                 .expected = "at least one window at a time"});
  const uint64_t end = limit == 0 ? windows.size() : std::min(limit, windows.size());
  TextScore score;
  for (uint64_t first = 0; first < end; first += sequences) {
    const Batch batch = windows.batch(first, std::min<uint64_t>(sequences, end - first));
    const LossSum sum = loss_of(batch);
    if (!std::isfinite(sum.loss))
      throw Error({.kind = ErrorKind::data,
                   .doing = "evaluating",
                   .subject = "window " + std::to_string(first),
                   .expected = "a finite loss",
                   .found = std::to_string(sum.loss),
                   .hint = "are the model's weights damaged?"});
    score.nats += sum.loss;
    score.tokens += sum.targets;
    score.bytes += scored_bytes(batch, byte_counts);
    if (done) done(sum.targets);
  }
  return score;
}

}  // namespace cairn
