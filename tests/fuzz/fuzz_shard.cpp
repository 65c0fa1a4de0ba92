// Token shards from strangers: opening and reading never crashes, and what opens is in bounds.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/base/hash.h"
#include "cairn/data/shard.h"

namespace {

// Reads everything that a shard offers; throws only cairn::Error.
void read_all(const cairn::Path& path) {
  const cairn::Shard shard(path);
  std::vector<int32_t> tokens(shard.info().tokens);
  shard.read(0, tokens);
  for (const int32_t token : tokens)
    if (token < 0 || static_cast<uint64_t>(token) >= shard.info().vocab_size) std::abort();
  uint64_t before = 0;
  for (const uint64_t start : shard.document_starts()) {
    if (start < before || start > shard.info().tokens) std::abort();
    before = start;
  }
  if (!shard.document_starts().empty() && !tokens.empty())
    if (shard.document_of(tokens.size() - 1) >= shard.info().documents) std::abort();
  shard.will_need(0, shard.info().tokens);
}

// Makes the hashes right, which mutations would hardly ever do, so that the checks behind them are
// reached. Offsets as in cairn/data/shard.cpp.
void repair_hashes(std::string& bytes) {
  constexpr size_t kHeader = 128, kTablesHash = 64, kHeaderHash = 72;
  if (bytes.size() < kHeader) return;
  const auto field = [&](size_t offset) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  const auto set = [&](size_t offset, uint64_t value) {
    std::memcpy(bytes.data() + offset, &value, sizeof value);
  };
  const uint64_t documents = field(40), payload = field(56);
  if (payload >= kHeader + 8 && payload <= bytes.size())
    set(kHeader, cairn::hash64(bytes.data() + payload, bytes.size() - payload));
  if (documents <= bytes.size() / 8 && kHeader + 8 * (documents + 1) <= bytes.size())
    set(kTablesHash, cairn::hash64(bytes.data() + kHeader, 8 * (documents + 1)));
  set(kHeaderHash, cairn::hash64(bytes.data(), kHeaderHash));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("fuzz_shard-" + std::to_string(::getpid())))
          .string();
  cairn::FileWriter writer(path);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > 0 && (data[size - 1] & 1) != 0) repair_hashes(bytes);
  writer.write(bytes);
  writer.close();
  try {
    read_all(path);
  } catch (const cairn::Error&) {
  }
  std::filesystem::remove(path);
  return 0;
}
