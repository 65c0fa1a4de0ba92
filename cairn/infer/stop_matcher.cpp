#include "cairn/infer/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// Length of the longest end of `text` that is the beginning of `stop` and not all of it.
size_t open_end(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  return 0;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    if (stop.empty())
      throw Error({.kind = ErrorKind::usage,
                   .doing = "preparing to generate",
                   .subject = "stop string",
                   .expected = "at least one character",
                   .found = "an empty string"});
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped()) return {};
  held_ += text;
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t complete = at + stop.size();
    if (complete > end || (complete == end && at >= begin)) continue;
    begin = at;
    end = complete;
    found_ = stop;
  }
  if (!stopped()) {
    size_t open = 0;
    for (const std::string& stop : stops_) open = std::max(open, open_end(held_, stop));
    begin = held_.size() - open;
  }
  std::string certain = held_.substr(0, begin);
  held_.erase(0, begin);
  return certain;
}

std::string StopMatcher::finish() {
  if (stopped()) return {};
  return std::exchange(held_, {});
}

}  // namespace cairn
