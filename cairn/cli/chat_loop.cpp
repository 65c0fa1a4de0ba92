#include "cairn/cli/chat_loop.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/base/suggest.h"
#include "cairn/cli/program.h"
#include "cairn/infer/sampling_settings.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr std::string_view kBlock = "\"\"\"";

[[noreturn]] void refuse(const std::string& doing, const std::string& expected,
                         const std::string& found, const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing,
               .expected = expected,
               .found = found,
               .hint = hint});
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

const std::vector<ChatLoop::Command>& ChatLoop::commands() {
  static const std::vector<Command> list = {
      {"help", "", "this list", &ChatLoop::help},
      {"set", "[NAME VALUE]", "show or change how answers are generated", &ChatLoop::set},
      {"system", "[TEXT]", "show or replace the system message", &ChatLoop::system},
      {"show", "", "the conversation so far", &ChatLoop::show},
      {"regenerate", "", "another answer to the last message", &ChatLoop::regenerate},
      {"undo", "", "take the last message and its answer back", &ChatLoop::undo},
      {"reset", "", "forget all but the system message", &ChatLoop::reset},
      {"save", "FILE", "write the conversation as JSON", &ChatLoop::save},
      {"load", "FILE", "go on with a conversation that was saved", &ChatLoop::load},
      {"quit", "", "end; so does Ctrl-D", &ChatLoop::quit},
  };
  return list;
}

ChatLoop::ChatLoop(Chat& chat, ChatLoopOptions options)
    : chat_(chat), options_(std::move(options)) {}

int ChatLoop::run() {
  catch_interrupts();
  if (reader_.interactive()) notice("/help lists the commands; Ctrl-C stops an answer");
  std::string text;
  while (read_message(text)) {
    try {
      if (!handle(text)) break;
    } catch (const Error& error) {
      if (!reader_.interactive()) throw;
      fmt::print(stderr, "error: {}\n", error.what());
    }
    if (!reader_.interactive() && take_interrupt()) return kExitStopped;
  }
  return kExitDone;
}

bool ChatLoop::read_message(std::string& text) {
  using Outcome = LineReader::Outcome;
  while (true) {
    const Outcome outcome = read_block(text);
    if (outcome == Outcome::line) return true;
    if (reader_.interactive()) std::fputc('\n', stdout);
    if (outcome == Outcome::end || !reader_.interactive()) return false;
    // Ctrl-C takes back what was typed.
  }
}

// A line; a line that ends in a backslash goes on in the next one; lines between """ and """ are
// one text.
LineReader::Outcome ChatLoop::read_block(std::string& text) {
  using Outcome = LineReader::Outcome;
  std::string line;
  if (const Outcome outcome = reader_.read("> ", line); outcome != Outcome::line) return outcome;
  text.clear();
  if (line.starts_with(kBlock)) {
    line.erase(0, kBlock.size());
    while (line.find(kBlock) == line.npos) {
      if (!text.empty() || !line.empty()) text += line + "\n";
      if (const Outcome outcome = reader_.read("| ", line); outcome != Outcome::line)
        return outcome;
    }
    text += line.substr(0, line.find(kBlock));
    if (text.ends_with('\n')) text.pop_back();
  } else {
    while (line.ends_with('\\')) {
      line.back() = '\n';
      text += line;
      if (const Outcome outcome = reader_.read("| ", line); outcome != Outcome::line)
        return outcome;
    }
    text += line;
  }
  reader_.remember(text);
  return Outcome::line;
}

bool ChatLoop::handle(const std::string& text) {
  if (trimmed(text).empty()) return true;
  if (text.starts_with("//")) {  // a message that begins with a slash
    const std::string message = text.substr(1);
    answer(&message);
  } else if (text.starts_with('/')) {
    return run_command(text.substr(1));
  } else {
    answer(&text);
  }
  return true;
}

bool ChatLoop::run_command(const std::string& text) {
  const std::string name = text.substr(0, text.find_first_of(" \t\n"));
  const std::string argument(trimmed(std::string_view(text).substr(name.size())));
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (name == command.name) return (this->*command.act)(argument);
    names.emplace_back(command.name);
  }
  std::string hint = did_you_mean(name, names);
  if (hint.empty()) hint = "/help lists the commands; // begins a message with a slash";
  refuse("reading a command", "a command", "/" + name, hint);
}

void ChatLoop::answer(const std::string* text) {
  GenerateOptions how = options_.generation;
  attempt_ = text == nullptr ? attempt_ + 1 : 0;
  how.sampling.seed += attempt_ * 0x9E3779B97F4A7C15U;  // another text for the same message
  const bool terminal = is_terminal_output();
  const auto show = [&](std::string_view piece) {
    if (!options_.json && !piece.empty()) {
      fmt::print("{}", terminal ? without_controls(piece) : std::string(piece));
      std::fflush(stdout);
    }
    return !interrupted();
  };
  const ChatReply reply =
      text != nullptr ? chat_.say(*text, how, show) : chat_.regenerate(how, show);
  if (reader_.interactive()) take_interrupt();
  tell(reply);
}

void ChatLoop::tell(const ChatReply& reply) {
  const Generation& generation = reply.generation;
  if (options_.json) {
    const Json line = {{"role", "assistant"},
                       {"content", generation.text},
                       {"reason", stop_reason_name(generation.reason)},
                       {"prompt_tokens", reply.cached_tokens + generation.prompt_tokens},
                       {"cached_tokens", reply.cached_tokens},
                       {"tokens", generation.tokens.size()},
                       {"forgotten_messages", reply.forgotten_messages}};
    fmt::print("{}\n", line.dump(-1, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("\n");
  }
  std::fflush(stdout);
  if (reply.forgotten_messages > 0)
    notice(fmt::format("the context is full: the {} oldest messages are forgotten",
                       reply.forgotten_messages));
  if (generation.reason == StopReason::context_full)
    notice("the context is full: the answer was cut");
  if (generation.reason == StopReason::cancelled)
    notice(generation.text.empty() ? "stopped; the message is taken back" : "stopped");
  if (generation.reason == StopReason::max_tokens)
    notice(fmt::format("the answer was cut after {} tokens (/set max_tokens)",
                       generation.tokens.size()));
}

void ChatLoop::notice(const std::string& text) const {
  if (reader_.interactive())
    fmt::print("{}\n", coloured("[" + text + "]", "2"));
  else
    log_info(text);
}

bool ChatLoop::help(const std::string& /*argument*/) {
  for (const Command& command : commands())
    fmt::print("  {:24} {}\n", fmt::format("/{} {}", command.name, command.argument), command.does);
  fmt::print(
      "A line that ends in \\ goes on in the next one; lines between \"\"\" and \"\"\" are one\n"
      "message. // begins a message with a slash.\n");
  return true;
}

bool ChatLoop::set(const std::string& argument) {
  SamplingOptions& sampling = options_.generation.sampling;
  if (argument.empty()) {
    for (const SamplingSetting& setting : sampling_settings())
      fmt::print("  {:20} {:<8g} {}\n", setting.name, setting.get(sampling), setting.help);
    fmt::print("  {:20} {:<8} {}\n", "max_tokens", options_.generation.max_tokens,
               "most tokens of an answer");
    return true;
  }
  const size_t blank = std::min(argument.find_first_of(" \t="), argument.size());
  const std::string name = argument.substr(0, blank);
  const std::string word(
      trimmed(std::string_view(argument).substr(std::min(blank + 1, argument.size()))));
  double value = 0;
  const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (code != std::errc() || end != word.data() + word.size())
    refuse("reading /set " + name, "a number", "\"" + word + "\"", "as in /set temperature 0.7");
  if (name == "max_tokens") {
    if (!(value >= 1 && value <= 1e9))
      refuse("reading /set max_tokens", "1 or more", "\"" + word + "\"");
    options_.generation.max_tokens = static_cast<size_t>(value);
  } else {
    set_sampling(sampling, name, value);
  }
  return true;
}

bool ChatLoop::system(const std::string& argument) {
  const bool has = !chat_.messages().empty() && chat_.messages().front().role == "system";
  if (!argument.empty())
    chat_.set_system(argument);
  else
    fmt::print("{}\n", has ? chat_.messages().front().content : "there is no system message");
  return true;
}

bool ChatLoop::show(const std::string& /*argument*/) {
  for (const ChatMessage& message : chat_.messages())
    fmt::print("{} {}\n", coloured(message.role + ":", "1"),
               is_terminal_output() ? without_controls(message.content) : message.content);
  return true;
}

bool ChatLoop::regenerate(const std::string& /*argument*/) {
  answer(nullptr);
  return true;
}

bool ChatLoop::undo(const std::string& /*argument*/) {
  notice(chat_.undo() ? "the last message is taken back" : "there is nothing to take back");
  return true;
}

bool ChatLoop::reset(const std::string& /*argument*/) {
  chat_.reset();
  notice("a new conversation");
  return true;
}

bool ChatLoop::save(const std::string& argument) {
  if (argument.empty()) refuse("reading /save", "a file name", "none");
  chat_.save(argument);
  notice("saved to " + argument);
  return true;
}

bool ChatLoop::load(const std::string& argument) {
  if (argument.empty()) refuse("reading /load", "a file name", "none");
  chat_.load(argument);
  notice(fmt::format("{} messages from {}", chat_.messages().size(), argument));
  return true;
}

bool ChatLoop::quit(const std::string& /*argument*/) {
  return false;
}

}  // namespace cairn
