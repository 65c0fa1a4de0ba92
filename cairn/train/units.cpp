#include "cairn/train/units.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace cairn {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// Digits may be grouped with underscores, as in TOML.
std::optional<double> plain_number(std::string_view text) {
  std::string digits(trimmed(text));
  std::erase(digits, '_');
  double value = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, code] = std::from_chars(digits.data(), end, value);
  if (code != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

// Removes `suffix` from the end of `text`.
bool take_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

}  // namespace

std::optional<uint64_t> parse_whole(std::string_view text) {
  text = trimmed(text);
  double scale = 1;
  if (take_suffix(text, "k"))
    scale = 1e3;
  else if (take_suffix(text, "M"))
    scale = 1e6;
  else if (take_suffix(text, "G"))
    scale = 1e9;
  const auto number = plain_number(text);
  if (!number) return std::nullopt;
  const double value = *number * scale;
  // Beyond 2^53 a double does not hold every whole number.
  if (value < 0 || value != std::floor(value) || value > 0x1p53) return std::nullopt;
  return static_cast<uint64_t>(value);
}

std::optional<double> parse_real(std::string_view text) {
  text = trimmed(text);
  const bool percent = take_suffix(text, "%");
  const auto number = plain_number(text);
  if (!number) return std::nullopt;
  return percent ? *number / 100 : *number;
}

std::optional<Duration> parse_duration(std::string_view text) {
  text = trimmed(text);
  if (text.empty()) return std::nullopt;
  double seconds = 0;
  double last = INFINITY;  // units must shrink: "30m2h" is a slip
  while (!text.empty()) {
    const size_t digits = text.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return std::nullopt;
    const auto number = plain_number(text.substr(0, digits));
    const char letter = text[digits];
    const double unit = letter == 'd'   ? 86400
                        : letter == 'h' ? 3600
                        : letter == 'm' ? 60
                        : letter == 's' ? 1
                                        : 0;
    if (!number || unit == 0 || unit >= last) return std::nullopt;
    seconds += *number * unit;
    last = unit;
    text.remove_prefix(digits + 1);
  }
  return Duration{seconds};
}

std::optional<Portion> parse_portion(std::string_view text) {
  text = trimmed(text);
  if (text.ends_with('%')) {
    const auto share = parse_real(text);
    if (!share || *share < 0 || *share > 1) return std::nullopt;
    return Portion{*share, Portion::Unit::share};
  }
  const bool tokens = take_suffix(text, "tokens");
  if (!tokens) take_suffix(text, "steps");
  const auto whole = parse_whole(text);
  if (!whole) return std::nullopt;
  return Portion{static_cast<double>(*whole),
                 tokens ? Portion::Unit::tokens : Portion::Unit::steps};
}

std::string format_real(double value) {
  return fmt::format("{}", value);
}

std::string format_duration_exact(Duration duration) {
  double rest = duration.seconds;
  std::string text;
  constexpr std::array<std::pair<double, char>, 3> kUnits = {
      {{86400, 'd'}, {3600, 'h'}, {60, 'm'}}};
  for (const auto& [seconds, letter] : kUnits) {
    const double count = std::floor(rest / seconds);
    if (count > 0) text += fmt::format("{:.0f}{}", count, letter);
    rest -= count * seconds;
  }
  if (rest > 0 || text.empty()) text += fmt::format("{}s", rest);
  return text;
}

std::string format_portion(const Portion& portion) {
  switch (portion.unit) {
    case Portion::Unit::share:
      return fmt::format("{}%", portion.value * 100);
    case Portion::Unit::tokens:
      return fmt::format("{:.0f} tokens", portion.value);
    case Portion::Unit::steps:
      return fmt::format("{:.0f} steps", portion.value);
  }
  return "";
}

}  // namespace cairn
