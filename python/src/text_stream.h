// Text that is generated in the background while Python iterates over its pieces.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cairn/infer/generate.h"

namespace cairn::python {

// Runs a generation in a thread of its own. It does not wait for whoever reads the pieces: they may
// ask the model something between two pieces, and get their turn when the text is complete. Any
// thread may call; the interpreter lock must not be held meanwhile.
class TextStream {
 public:
  // What generates, calling back as generate() does; the callback answers whether to go on.
  using Work = std::function<Generation(TextCallback on_text)>;

  explicit TextStream(Work work);
  // close() first.
  ~TextStream();
  TextStream(const TextStream&) = delete;
  TextStream& operator=(const TextStream&) = delete;

  // The next piece, none for now (after 50 ms: time to look for signals) or the end. Throws what
  // the generation threw, once.
  enum class State { piece, waiting, ended };
  State next(std::string& piece);
  // Ends the text where it is; pieces that nobody has read are dropped. Waits for the thread.
  void close();
  // Empty until the text has ended, and after an error.
  std::optional<Generation> result();

 private:
  bool put(std::string_view piece);
  void run(const Work& work);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> pieces_;
  std::optional<Generation> result_;
  std::exception_ptr error_;
  bool closed_ = false, ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace cairn::python
