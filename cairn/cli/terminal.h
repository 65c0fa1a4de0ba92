// The terminal of a conversation: lines with editing and history (libedit) from whoever types, or
// plain ones from a pipe; colours and control characters.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace cairn {

class LineReader {
 public:
  enum class Outcome { line, interrupted, end };

  // Edits lines where standard input and output are a terminal. One at a time in a process.
  LineReader();
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  bool interactive() const { return editor_ != nullptr; }
  // The next line without its end. `prompt` is shown where someone types. Interrupted when
  // take_interrupt() has something to take.
  Outcome read(const std::string& prompt, std::string& line);
  // Makes a text come back with the up arrow.
  void remember(const std::string& text);

 private:
  struct Editor;
  Outcome read_plain(std::string& line);
  std::unique_ptr<Editor> editor_;
};

// From now on Ctrl-C only leaves a note; a system call that waits returns early.
void catch_interrupts();
bool interrupted();
// The same, and forgets the note.
bool take_interrupt();

bool is_terminal_output();
// `text` in the colour of an SGR code ("1;32") where standard output is a terminal and NO_COLOR is
// not set (no-color.org); else as it is.
std::string coloured(std::string_view text, std::string_view code);

// What a model says, safe to show on a terminal: control characters other than line ends and
// tabs, which could move the cursor or worse, become U+FFFD. UTF-8 in, whole characters.
std::string without_controls(std::string_view text);

}  // namespace cairn
