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

TokenSource token_source(std::vector<int32_t> tokens) {
  const auto held = std::make_shared<const std::vector<int32_t>>(std::move(tokens));
  return {.size = held->size(), .read = [held](uint64_t begin, std::span<int32_t> out) {
            std::copy_n(held->begin() + static_cast<std::ptrdiff_t>(begin), out.size(),
                        out.begin());
          }};
}

EvaluationWindows::EvaluationWindows(TokenSource source, size_t length, size_t stride)
    : source_(std::move(source)), length_(length), stride_(stride) {
  if (stride == 0 || stride > length)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "cutting a text into windows",
                 .subject = "stride",
                 .expected = "1 to the window's length, " + std::to_string(length),
                 .found = std::to_string(stride)});
  if (source_.size < 2)
    throw Error({.kind = ErrorKind::data,
                 .doing = "cutting a text into windows",
                 .expected = "at least two tokens",
                 .found = std::to_string(source_.size)});
  const uint64_t targets = source_.size - 1;
  // The first window scores `length` targets, each later one `stride`.
  windows_ = targets <= length ? 1 : 1 + (targets - length + stride - 1) / stride;
}

Batch EvaluationWindows::batch(uint64_t first, uint64_t count) const {
  if (count > windows_ || first > windows_ - count)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading evaluation windows",
                 .expected = "windows below " + std::to_string(windows_),
                 .found = std::to_string(first) + " + " + std::to_string(count)});
  Batch batch{.sequences = count, .length = length_};
  std::vector<int32_t> tokens(length_ + 1);
  for (uint64_t window = first; window < first + count; ++window) {
    const uint64_t begin = window * stride_;
    const auto inside = static_cast<size_t>(std::min<uint64_t>(length_, source_.size - 1 - begin));
    source_.read(begin, std::span(tokens).first(inside + 1));
    std::fill(tokens.begin() + static_cast<std::ptrdiff_t>(inside) + 1, tokens.end(), tokens[0]);
    const size_t scored_before = window == 0 ? 0 : length_ - stride_;
    batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
    for (size_t i = 0; i < length_; ++i) {
      batch.tokens.push_back(tokens[i]);
      batch.targets.push_back(i >= scored_before && i < inside ? tokens[i + 1] : kIgnoredTarget);
      batch.positions.push_back(static_cast<int32_t>(i));
    }
  }
  batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  return batch;
}

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
