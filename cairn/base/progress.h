// Progress for people, on standard error: one line rewritten at most five times a second on a
// terminal, plain lines every few seconds elsewhere, nothing when quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace cairn {

// From now on every progress line is quiet, whatever its style (the program's --quiet).
void set_progress_quiet(bool quiet);

// Ends the progress line of the process that is being rewritten, if there is one, so that a message
// starts on its own line. Thread-safe.
void interrupt_progress();

class ProgressLine {
 public:
  enum class Style { automatic, quiet };
  explicit ProgressLine(Style style = Style::automatic);
  ~ProgressLine();  // ends the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Shows `text`, or drops it when the last one is too fresh. `last` is always shown and ends the
  // line.
  void show(std::string_view text, bool last = false);
  // Whether show() would show something now: lets callers skip the formatting.
  bool due() const;
  // Ends a line that is being rewritten, so that other output starts on its own line.
  void interrupt() { interrupt_progress(); }

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_ = false;
  bool quiet_ = false;
  Clock::time_point next_{};
};

// Progress of counted work: "packing  37%  12.1 MB/s  0:42 left".
class ProgressCount {
 public:
  // `unit` "B" prints bytes with binary prefixes; any other word is printed after a plain number.
  ProgressCount(std::string_view label, uint64_t total, std::string_view unit,
                ProgressLine::Style style = ProgressLine::Style::automatic);
  void advance(uint64_t amount);  // one thread at a time
  void finish();

 private:
  std::string text() const;  // at this moment
  std::string label_;
  std::string unit_;
  uint64_t total_;
  uint64_t done_ = 0;
  std::chrono::steady_clock::time_point start_;
  ProgressLine line_;
};

// What ProgressCount shows: label, share, rate and time left. Without a total (0), or with a rate
// of zero, what cannot be known is left out.
std::string progress_text(std::string_view label, uint64_t done, uint64_t total,
                          std::string_view unit, double seconds);
// "4:07", "1:02:03".
std::string format_duration(double seconds);
// "1.50k", "12.3M", "135M": three significant digits.
std::string format_count(double value);
// "512 B", "1.5 KiB", "2.3 GiB".
std::string format_bytes(uint64_t bytes);

}  // namespace cairn
