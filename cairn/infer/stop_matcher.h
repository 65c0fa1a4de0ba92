// Ends a text at the first of several stop strings while it arrives in pieces. What could still
// become a stop string is held back until it is decided, so that nothing of one is ever shown.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cairn {

class StopMatcher {
 public:
  // Throws Error (usage) when a stop string is empty.
  explicit StopMatcher(std::vector<std::string> stops);

  // Takes more text and returns what is now certain to come before any stop string. Of several stop
  // strings the one that is complete first ends the text (of these the longest), however the text
  // is cut. After that, nothing more is returned.
  std::string push(std::string_view text);
  // What was held back, at the end of a text that did not stop.
  std::string finish();

  bool stopped() const { return !found_.empty(); }
  // The stop string that ended the text; empty before.
  const std::string& found() const { return found_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string found_;
};

}  // namespace cairn
