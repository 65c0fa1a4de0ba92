#include "cairn/base/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>

namespace cairn {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(200);
constexpr auto kPlainInterval = std::chrono::seconds(10);

std::atomic<bool> g_quiet{false};
// A terminal has one last line, so there is one such flag.
std::atomic<bool> g_open_line{false};

// As much of `text` as fits on one line of the terminal: a wrapped line cannot be rewritten.
std::string_view fitting(std::string_view text) {
  struct winsize size {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return text;
  return text.substr(0, size.ws_col - 1U);
}

}  // namespace

void set_progress_quiet(bool quiet) {
  g_quiet.store(quiet, std::memory_order_relaxed);
}

ProgressLine::ProgressLine(Style style)
    : terminal_(::isatty(STDERR_FILENO) == 1),
      quiet_(style == Style::quiet || g_quiet.load(std::memory_order_relaxed)) {
  next_ = Clock::now() + std::chrono::seconds(1);  // short work shows nothing
}

ProgressLine::~ProgressLine() {
  interrupt();
}

bool ProgressLine::due() const {
  return !quiet_ && Clock::now() >= next_;
}

void ProgressLine::show(std::string_view text, bool last) {
  if (quiet_ || (!last && !due())) return;
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", fitting(text));
    g_open_line.store(true, std::memory_order_relaxed);
    if (last) interrupt();
  } else {
    fmt::print(stderr, "{}\n", text);
  }
  std::fflush(stderr);
  next_ = Clock::now() +
          (terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kPlainInterval));
}

void interrupt_progress() {
  if (g_open_line.exchange(false, std::memory_order_relaxed)) std::fputc('\n', stderr);
}

ProgressCount::ProgressCount(std::string_view label, uint64_t total, std::string_view unit,
                             ProgressLine::Style style)
    : label_(label),
      unit_(unit),
      total_(total),
      start_(std::chrono::steady_clock::now()),
      line_(style) {}

void ProgressCount::advance(uint64_t amount) {
  done_ += amount;
  if (line_.due()) line_.show(text());
}

void ProgressCount::finish() {
  line_.interrupt();
}

std::string ProgressCount::text() const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  return progress_text(label_, done_, total_, unit_, elapsed.count());
}

std::string progress_text(std::string_view label, uint64_t done, uint64_t total,
                          std::string_view unit, double seconds) {
  std::string text(label);
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  if (total != 0)
    text += fmt::format("  {:3.0f}%", 100.0 * static_cast<double>(std::min(done, total)) /
                                          static_cast<double>(total));
  if (rate == 0) return text;
  text += unit == "B" ? "  " + format_bytes(static_cast<uint64_t>(rate)) + "/s"
                      : "  " + format_count(rate) + " " + std::string(unit) + "/s";
  if (total != 0)
    text +=
        "  " + format_duration(static_cast<double>(total - std::min(done, total)) / rate) + " left";
  return text;
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole >= 3600)
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string format_count(double value) {
  constexpr std::array<const char*, 5> kSuffixes = {"", "k", "M", "G", "T"};
  size_t suffix = 0;
  while (std::abs(value) >= 999.5 && suffix + 1 < kSuffixes.size()) {
    value /= 1000;
    ++suffix;
  }
  if (suffix == 0 && value == std::floor(value)) return fmt::format("{:.0f}", value);
  const int digits = std::abs(value) >= 99.95 ? 0 : std::abs(value) >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, kSuffixes[suffix]);
}

std::string format_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace cairn
