#include "cairn/cli/arguments.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string_view>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const std::string& title, const std::string& subject,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line of " + title,
               .subject = subject,
               .hint = hint.empty() ? title + " --help shows the arguments" : hint});
}

// "--section.key" or "--section.key=value": how configuration keys look on the command line.
bool looks_like_override(std::string_view word) {
  if (!word.starts_with("--")) return false;
  const std::string_view key = word.substr(2, word.find('=') - 2);
  if (key.find('.') == std::string_view::npos || key.starts_with('.') || key.ends_with('.'))
    return false;
  for (const char c : key) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!plain && c != '_' && c != '-' && c != '.') return false;
  }
  return true;
}

// Removes the overrides from `words`, each as "section.key=value".
std::vector<std::string> take_overrides(std::vector<std::string>& words, const CLI::App& app,
                                        const std::string& title) {
  std::vector<std::string> rest, taken;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {  // what follows is positional
      rest.insert(rest.end(), words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      break;
    }
    const std::string name = word.substr(0, word.find('='));
    if (!looks_like_override(word) || app.get_option_no_throw(name) != nullptr) {
      rest.push_back(word);
    } else if (name.size() != word.size()) {
      taken.push_back(word.substr(2));
    } else {
      if (i + 1 == words.size()) refuse(title, word, "give it a value: " + word + "=VALUE");
      taken.push_back(word.substr(2) + "=" + words[++i]);
    }
  }
  words = std::move(rest);
  return taken;
}

// "500", "1e6", "64k", "10M": exact whole numbers. Suffixes are powers of 1000.
bool read_whole(std::string_view text, int64_t& value) {
  double scale = 1;
  if (!text.empty()) {
    const char suffix = text.back();
    scale = suffix == 'k' ? 1e3 : suffix == 'M' ? 1e6 : suffix == 'G' ? 1e9 : 1;
  }
  if (scale == 1) {
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code == std::errc() && end == text.data() + text.size()) return true;
  } else {
    text.remove_suffix(1);
  }
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  number *= scale;
  // Beyond 2^53 a double does not hold every whole number.
  if (code != std::errc() || end != text.data() + text.size() || number != std::floor(number) ||
      std::abs(number) > 0x1p53)
    return false;
  value = static_cast<int64_t>(number);
  return true;
}

bool read_real(std::string_view text, double& value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

class CommandLine final : public Arguments {
 public:
  CommandLine(const Verb& verb, std::string title)
      : title_(std::move(title)), app_(verb.does, title_) {
    app_.set_help_flag("-h,--help", "show this page");
    app_.get_formatter()->column_width(32);
    app_.footer(example_text(verb));
  }

  void positional(const std::string& name, const std::string& help, std::string& target,
                  bool required) override {
    app_.add_option(name, target, help)->type_name("")->required(required);
  }
  void positionals(const std::string& name, const std::string& help,
                   std::vector<std::string>& target, bool required) override {
    app_.add_option(name, target, help)->type_name("")->required(required);
  }
  void option(const std::string& name, const std::string& help, std::string& target) override {
    app_.add_option(name, target, help)->type_name("TEXT")->capture_default_str();
  }
  void option(const std::string& name, const std::string& help, int64_t& target) override {
    number(name, help, "NUMBER", "a whole number", target, read_whole);
  }
  void option(const std::string& name, const std::string& help, double& target) override {
    number(name, help, "REAL", "a number", target, read_real);
  }
  void option(const std::string& name, const std::string& help,
              std::optional<double>& target) override {
    number<std::optional<double>>(name, help, "REAL", "a number", target,
                                  [](std::string_view text, std::optional<double>& value) {
                                    return read_real(text, value.emplace());
                                  });
  }
  void option(const std::string& name, const std::string& help,
              std::vector<std::string>& target) override {
    app_.add_option(name, target, help)->type_name("TEXT")->allow_extra_args(false)->take_all();
  }
  void flag(const std::string& name, const std::string& help, bool& target) override {
    app_.add_flag(name, target, help);
  }
  void overrides(const std::string& help, std::vector<std::string>& target) override {
    overrides_ = &target;
    overrides_help_ = help;
  }

  // Reads the words; false when --help was asked for and has been answered.
  bool read(std::vector<std::string> words) {
    add_common_options();
    if (overrides_ != nullptr) *overrides_ = take_overrides(words, app_, title_);
    // The library takes the words from the back.
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    try {
      app_.parse(std::move(reversed));
    } catch (const CLI::CallForHelp&) {
      print_help();
      return false;
    } catch (const CLI::ExtrasError&) {
      refuse_extra();
    } catch (const CLI::ParseError& error) {
      refuse(title_, error.what());
    }
    apply_common_options();
    return true;
  }

 private:
  template <class Number>
  void number(const std::string& name, const std::string& help, const char* type,
              const std::string& expected, Number& target,
              bool (*parse)(std::string_view, Number&)) {
    const std::string title = title_;
    auto* option = app_.add_option_function<std::string>(
        name,
        [&target, name, expected, title, parse](const std::string& text) {
          if (parse(text, target)) return;
          throw Error({.kind = ErrorKind::usage,
                       .doing = "reading the command line of " + title,
                       .subject = name,
                       .expected = expected,
                       .found = "\"" + text + "\""});
        },
        help);
    option->type_name(type);
    if constexpr (std::is_same_v<Number, double>) {
      char buffer[32];
      std::snprintf(buffer, sizeof buffer, "%g", target);
      option->default_str(buffer);
    } else if constexpr (std::is_same_v<Number, int64_t>) {
      option->default_str(std::to_string(target));
    }
  }

  void add_common_options() {
    if (app_.get_option_no_throw("--quiet") == nullptr)
      app_.add_flag("--quiet", quiet_, "no progress, only results, warnings and errors");
    app_.add_option("--log-level", log_level_, "debug, info, warning, error or off")
        ->type_name("TEXT")
        ->capture_default_str();
  }

  void apply_common_options() {
    constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kLevels = {{
        {"debug", LogLevel::debug},
        {"info", LogLevel::info},
        {"warning", LogLevel::warning},
        {"error", LogLevel::error},
        {"off", LogLevel::off},
    }};
    if (quiet_) set_progress_quiet(true);
    for (const auto& level : kLevels) {
      if (level.first != log_level_) continue;
      set_log_level(quiet_ && level.second < LogLevel::warning ? LogLevel::warning : level.second);
      return;
    }
    refuse(title_, "--log-level " + log_level_, "debug, info, warning, error or off");
  }

  void print_help() const {
    std::fputs(app_.help().c_str(), stdout);
    if (overrides_ != nullptr)
      std::printf("\n--section.key=VALUE\n  %s\n", overrides_help_.c_str());
  }

  [[noreturn]] void refuse_extra() const {
    const std::vector<std::string> extras = app_.remaining();
    const std::string word =
        extras.empty() ? "" : extras.front().substr(0, extras.front().find('='));
    std::vector<std::string> known = {"--help"};
    for (const CLI::Option* option : app_.get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    refuse(title_, "unknown argument \"" + word + "\"",
           word.starts_with("-") ? did_you_mean(word, known) : "");
  }

  std::string title_;
  CLI::App app_;
  std::vector<std::string>* overrides_ = nullptr;
  std::string overrides_help_;
  bool quiet_ = false;
  std::string log_level_ = "info";
};

}  // namespace

std::string example_text(const Verb& verb) {
  if (verb.example == nullptr) return "";
  std::string text = "Example:";
  std::string_view rest = verb.example;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    text += "\n  " + std::string(line);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return text;
}

int parse_and_run(const Verb& verb, const std::string& title,
                  std::span<const std::string> arguments) {
  CommandLine line(verb, title);
  const std::function<int()> action = verb.prepare(line);
  if (!line.read({arguments.begin(), arguments.end()})) return 0;
  return action();
}

}  // namespace cairn
