// Near-duplicates by shared lines: how much of a text also stands, line by line, in other texts.
// Lines are normalised (ASCII letters in lower case, runs of blanks as one, none at the ends), so
// indentation and wrapping blanks do not hide a copy; short lines ("}", "#endif", "return 0;") say
// nothing about copying and do not count.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/base/thread_team.h"
#include "cairn/data/corpus.h"

namespace cairn {

// Normalised lines shorter than this do not count.
inline constexpr size_t kMinLineBytes = 16;

// Calls `visit` with the hash of every line of `text` that counts, in order.
void for_each_line_hash(std::string_view text, FunctionRef<void(uint64_t)> visit);

// For each candidate the part, 0 to 1, of its counting lines that also stand in any of `others`; 0
// when no line counts. Memory: 17 bytes a line of the candidates, whatever the size of `others`.
// Throws Error (data) when a file has vanished.
std::vector<double> shared_line_fractions(std::span<const CorpusFile> candidates,
                                          std::span<const CorpusFile> others, ThreadTeam& team);

}  // namespace cairn
