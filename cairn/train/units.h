// Numbers as people write them in a configuration: "500M", "1e9", "10%", "2h30m", "100 steps".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn {

// A length of time.
struct Duration {
  double seconds = 0;
  bool operator==(const Duration&) const = default;
};

// A part of a run: a share of it, a number of tokens or a number of optimiser steps.
struct Portion {
  enum class Unit { share, tokens, steps };
  double value = 0;  // share: 0 to 1
  Unit unit = Unit::share;
  bool operator==(const Portion&) const = default;
};

// Each answers nothing when `text` is not of its form.
// "64", "1e6", "64k", "500M", "2G", "1_000": exact whole numbers; suffixes are powers of 1000.
std::optional<uint64_t> parse_whole(std::string_view text);
// "3e-4", "0.1", "10%" (0.1). Finite.
std::optional<double> parse_real(std::string_view text);
// "90s", "4m", "2h30m", "1d", "1.5h". A bare number is refused: seconds or minutes?
std::optional<Duration> parse_duration(std::string_view text);
// "2%", "100 steps", "1M tokens"; a bare number counts steps.
std::optional<Portion> parse_portion(std::string_view text);

// The shortest text that the parser above reads back to the same value.
std::string format_real(double value);
std::string format_duration_exact(Duration duration);
std::string format_portion(const Portion& portion);

}  // namespace cairn
