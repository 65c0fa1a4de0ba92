// "Did you mean": the known word nearest to one that is not known.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cairn {

// The candidate with the fewest single-letter insertions, deletions, replacements and swaps of
// neighbours from `word` (Damerau 1964, restricted form); the first such. Empty when none is within
// a third of the longer word's length, rounded up: a far guess is worse than none.
std::string closest_word(std::string_view word, std::span<const std::string> candidates);

// `did you mean "CLOSEST"?`, or empty: for Problem::hint.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace cairn
