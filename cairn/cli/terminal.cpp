#include "cairn/cli/terminal.h"

#include <histedit.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cwchar>

#include "cairn/base/error.h"

namespace cairn {
namespace {

std::atomic<bool> g_interrupted{false};

void note_interrupt(int /*signal*/) {
  g_interrupted = true;
}

// One character for libedit. Its own function swallows the first interrupt.
int read_character(EditLine* /*editor*/, wchar_t* character) {
  std::mbstate_t state = {};
  while (true) {
    char byte = 0;
    const ssize_t count = interrupted() ? -1 : ::read(STDIN_FILENO, &byte, 1);
    if (count == 0) return 0;
    if (count < 0) {
      if (errno == EINTR && !interrupted()) continue;
      return -1;
    }
    const size_t used = std::mbrtowc(character, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;  // the character goes on
    if (used == static_cast<size_t>(-1)) {          // no UTF-8
      *character = L'\uFFFD';
      return 1;
    }
    return 1;
  }
}

}  // namespace

struct LineReader::Editor {
  Editor() {
    // Characters wider than a byte; numbers stay as they are in C.
    if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1)
      std::setlocale(LC_CTYPE, "C.UTF-8");
    line = el_init("cairn", stdin, stdout, stderr);
    past = history_init();
    if (line == nullptr || past == nullptr)
      throw Error({.doing = "preparing the terminal", .found = "libedit does not start"});
    HistEvent event;
    history(past, &event, H_SETSIZE, 1000);
    history(past, &event, H_SETUNIQUE, 1);
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_HIST, history, past);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_SIGNAL, 0);
    el_set(line, EL_GETCFN, read_character);
    el_set(line, EL_PROMPT_ESC, show_prompt, '\1');
    // Between lines Ctrl-D stays a character, or one that is typed ahead would be lost when the
    // next line begins: a terminal that edits lines itself takes it out.
    el_set(line, EL_SETTY, "-x", "eof=", nullptr);
    el_set(line, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_source(line, nullptr);  // the user's ~/.editrc
  }
  ~Editor() {
    history_end(past);
    el_end(line);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  static char* show_prompt(EditLine* line) {
    void* self = nullptr;
    el_get(line, EL_CLIENTDATA, &self);
    return static_cast<Editor*>(self)->prompt.data();
  }

  EditLine* line = nullptr;
  History* past = nullptr;
  std::string prompt;
};

LineReader::LineReader() {
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) editor_ = std::make_unique<Editor>();
}

LineReader::~LineReader() = default;

LineReader::Outcome LineReader::read(const std::string& prompt, std::string& line) {
  if (editor_ == nullptr) return read_plain(line);
  const std::string colour = coloured(prompt, "1;32");
  editor_->prompt = prompt;
  if (colour != prompt)  // \1 encloses what takes no room on the screen
    editor_->prompt = "\1\x1b[1;32m\1" + prompt + "\1\x1b[0m\1";
  int count = 0;
  const char* text = el_gets(editor_->line, &count);
  if (take_interrupt()) return Outcome::interrupted;
  if (text == nullptr || count <= 0) return Outcome::end;
  line.assign(text, static_cast<size_t>(count));
  if (line.ends_with('\n')) line.pop_back();
  return Outcome::line;
}

LineReader::Outcome LineReader::read_plain(std::string& line) {
  line.clear();
  while (true) {
    const int next = std::fgetc(stdin);
    if (interrupted()) {
      std::clearerr(stdin);
      take_interrupt();
      return Outcome::interrupted;
    }
    if (next == '\n') return Outcome::line;
    if (next != EOF) {
      line += static_cast<char>(next);
      continue;
    }
    return line.empty() ? Outcome::end : Outcome::line;
  }
}

void LineReader::remember(const std::string& text) {
  if (editor_ == nullptr || text.empty()) return;
  HistEvent event;
  history(editor_->past, &event, H_ENTER, text.c_str());
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = note_interrupt;  // no SA_RESTART: what waits for a line returns
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() {
  return g_interrupted;
}

bool take_interrupt() {
  return g_interrupted.exchange(false);
}

bool is_terminal_output() {
  return isatty(STDOUT_FILENO) != 0;
}

std::string coloured(std::string_view text, std::string_view code) {
  static const bool wanted = [] {
    const char* refused = std::getenv("NO_COLOR");
    return is_terminal_output() && (refused == nullptr || *refused == '\0');
  }();
  if (!wanted) return std::string(text);
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

std::string without_controls(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // C1 control characters are 0xC2 0x80 to 0xC2 0x9F.
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) ++i;
    if (c1 || (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F)
      result += "\xEF\xBF\xBD";
    else
      result += static_cast<char>(byte);
  }
  return result;
}

}  // namespace cairn
