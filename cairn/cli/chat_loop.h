// The conversation of `cairn chat`: messages and /commands in, answers out.
#pragma once

#include <string>
#include <vector>

#include "cairn/cli/terminal.h"
#include "cairn/infer/chat.h"

namespace cairn {

struct ChatLoopOptions {
  GenerateOptions generation;
  bool json = false;  // a line of JSON for each answer, and nothing else on standard output
};

class ChatLoop {
 public:
  // Borrows the chat.
  ChatLoop(Chat& chat, ChatLoopOptions options);

  // Reads and answers until the input ends or /quit. Returns the exit code: of a pipe, that of the
  // first Error; where someone types, errors are told and the conversation goes on.
  int run();

 private:
  struct Command {
    const char* name;
    const char* argument;  // what it takes, for the help; empty: nothing
    const char* does;
    bool (ChatLoop::*act)(const std::string& argument);  // answers whether to go on
  };
  static const std::vector<Command>& commands();

  // The next message or command, of several lines where the input says so. False at the end.
  bool read_message(std::string& text);
  LineReader::Outcome read_block(std::string& text);
  bool handle(const std::string& text);
  bool run_command(const std::string& text);
  void answer(const std::string* text);  // nullptr: the last message once more
  void tell(const ChatReply& reply);
  void notice(const std::string& text) const;  // to whoever reads along, not part of the answer

  bool help(const std::string& argument);
  bool set(const std::string& argument);
  bool system(const std::string& argument);
  bool show(const std::string& argument);
  bool regenerate(const std::string& argument);
  bool undo(const std::string& argument);
  bool reset(const std::string& argument);
  bool save(const std::string& argument);
  bool load(const std::string& argument);
  bool quit(const std::string& argument);

  Chat& chat_;
  ChatLoopOptions options_;
  LineReader reader_;
  size_t attempt_ = 0;  // how often the last message was answered again
};

}  // namespace cairn
