#include "cairn/data/evaluation_windows.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {

TokenSource token_source(std::vector<int32_t> tokens) {
  const auto held = std::make_shared<const std::vector<int32_t>>(std::move(tokens));
  return {.size = held->size(), .read = [held](uint64_t begin, std::span<int32_t> out) {
            std::copy_n(held->begin() + static_cast<std::ptrdiff_t>(begin), out.size(),
                        out.begin());
          }};
}

TokenSource token_source(const TokenStream& stream) {
  return {
      .size = stream.tokens(),
      .read = [&stream](uint64_t begin, std::span<int32_t> out) { stream.read(begin, out); },
      .document_starts = [&stream](uint64_t begin,
                                   uint64_t end) { return stream.document_starts(begin, end); }};
}

EvaluationWindows::EvaluationWindows(TokenSource source, const WindowOptions& options)
    : source_(std::move(source)), options_(options) {
  if (options_.stride == 0) options_.stride = options_.length;
  if (options_.stride == 0 || options_.stride > options_.length)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "cutting a text into windows",
                 .subject = "stride",
                 .expected = "1 to the window's length, " + std::to_string(options_.length),
                 .found = std::to_string(options_.stride)});
  if (source_.size < 2)
    throw Error({.kind = ErrorKind::data,
                 .doing = "cutting a text into windows",
                 .expected = "at least two tokens",
                 .found = std::to_string(source_.size)});
  const uint64_t targets = source_.size - 1;
  // The first window scores `length` targets, each later one `stride`.
  windows_ = targets <= options_.length
                 ? 1
                 : 1 + (targets - options_.length + options_.stride - 1) / options_.stride;
}

Batch EvaluationWindows::batch(uint64_t first, uint64_t count) const {
  if (count > windows_ || first > windows_ - count)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading evaluation windows",
                 .expected = "windows below " + std::to_string(windows_),
                 .found = std::to_string(first) + " + " + std::to_string(count)});
  Batch batch{.sequences = count, .length = options_.length};
  for (uint64_t window = first; window < first + count; ++window) add_window(window, batch);
  batch.offsets.push_back(static_cast<int32_t>(batch.tokens.size()));
  return batch;
}

void EvaluationWindows::add_window(uint64_t window, Batch& batch) const {
  const size_t length = options_.length;
  const uint64_t begin = window * options_.stride;
  const auto inside = static_cast<size_t>(std::min<uint64_t>(length, source_.size - 1 - begin));
  std::vector<int32_t> tokens(length + 1);
  source_.read(begin, std::span(tokens).first(inside + 1));
  std::fill(tokens.begin() + static_cast<std::ptrdiff_t>(inside) + 1, tokens.end(), tokens[0]);
  const size_t scored_before = window == 0 ? 0 : length - options_.stride;
  const auto row = static_cast<int32_t>(batch.tokens.size());
  batch.offsets.push_back(row);
  if (options_.mask_documents)
    for (const uint64_t start : source_.document_starts(begin + 1, begin + length))
      if (const int32_t cut = row + static_cast<int32_t>(start - begin); cut > batch.offsets.back())
        batch.offsets.push_back(cut);  // documents may be empty
  for (size_t i = 0; i < length; ++i) {
    batch.tokens.push_back(tokens[i]);
    batch.targets.push_back(i >= scored_before && i < inside ? tokens[i + 1] : kIgnoredTarget);
    batch.positions.push_back(static_cast<int32_t>(i));
  }
}

}  // namespace cairn
