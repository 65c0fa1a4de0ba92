// What general compressors make of a text: the yardstick beside bits per byte. The programs are the
// machine's own, run on the whole text at once, which is the stronger way: they may use every
// repetition in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

struct Compressor {
  std::string name;                  // "xz -9e"
  std::vector<std::string> command;  // reads standard input, writes standard output
};

// gzip -9 and xz -9e.
const std::vector<Compressor>& reference_compressors();

// Bytes that `compressor` needs for `text`; empty when the program is not installed. Throws Error
// (failed) when it does not end well.
std::optional<uint64_t> compressed_bytes(const Compressor& compressor, std::string_view text);

}  // namespace cairn
