// Token files of other trainers: opening and reading never crashes, whatever header and index say.
// Input: u32 length of the .bin file, its bytes, then those of the .idx file, if any are left.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/data/token_file.h"

namespace {

void put(const std::string& path, const uint8_t* data, size_t size) {
  cairn::FileWriter writer(path);
  writer.write(data, size);
  writer.close();
}

// Throws only cairn::Error. An index may name the same bytes often, so not all is read.
void read_all(const std::string& path) {
  const cairn::TokenFile file(path);
  uint64_t before = 0;
  for (const uint64_t start : file.document_starts()) {
    if (start < before || start > file.tokens()) std::abort();
    before = start;
  }
  std::vector<int32_t> tokens(std::min<uint64_t>(file.tokens(), 4096));
  file.read(0, tokens);
  file.read(file.tokens() - tokens.size(), tokens);
  for (const int32_t token : tokens)
    if (token < 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string stem =
      (std::filesystem::temp_directory_path() / ("fuzz_token_file-" + std::to_string(::getpid())))
          .string();
  if (size < 4) return 0;
  uint32_t length = 0;
  std::memcpy(&length, data, 4);
  length = std::min<uint32_t>(length, static_cast<uint32_t>(size - 4));
  put(stem + ".bin", data + 4, length);
  const bool has_index = length < size - 4;
  if (has_index) put(stem + ".idx", data + 4 + length, size - 4 - length);
  try {
    read_all(stem + ".bin");
  } catch (const cairn::Error&) {
  }
  std::filesystem::remove(stem + ".bin");
  if (has_index) std::filesystem::remove(stem + ".idx");
  return 0;
}
