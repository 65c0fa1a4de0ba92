// Token files of other trainers, read where they lie:
//   nanoGPT    u16 tokens and nothing else (train.bin, val.bin)
//   llm.c      256 x i32 header {magic, version, tokens, ...}, then the tokens: magic 20240520,
//              version 1: u16 (modded-nanogpt's too); magic 20240801, version 7: u32
//   Megatron   FILE.bin, tokens, beside FILE.idx: "MMIDIDX\0\0", u64 version 1, u8 type, u64
//              sequences, u64 boundaries, then i32 lengths, i64 byte offsets, i64 boundaries of
//              documents, counted in sequences
// All little-endian. Formats: github.com/karpathy/nanoGPT, karpathy/llm.c, NVIDIA/Megatron-LM.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/file.h"

namespace cairn {

enum class TokenFormat { raw_u16, llmc_u16, llmc_u32, megatron };
std::string_view token_format_name(TokenFormat format);  // "nanoGPT", "llm.c", ...

// One file opened for reading. Thread-safe.
class TokenFile {
 public:
  // Tells the format from the content; for Megatron either of the two files may be named. Throws
  // Error (data) naming file, field, expected and found for a header that is not true to the file,
  // for llm.c's other files (models, tokenizers) and for types that are no tokens.
  explicit TokenFile(const Path& path);

  TokenFormat format() const { return format_; }
  const Path& path() const { return payload_.path(); }
  uint64_t tokens() const { return starts_.back(); }
  // Copies tokens [begin, begin + out.size()). Throws Error (usage) beyond the end, Error (data) on
  // a token that is negative or above 2^31 - 1, or when the file has shrunk.
  void read(uint64_t begin, std::span<int32_t> out) const;
  // Where documents begin, rising, if the format says (Megatron); else empty.
  const std::vector<uint64_t>& document_starts() const { return documents_; }

 private:
  // A row of tokens that lie side by side in the file.
  void open_raw();
  bool open_llmc();
  void open_megatron(const Path& index);
  void read_run(uint64_t byte, std::span<int32_t> out) const;

  FileReader payload_;
  TokenFormat format_ = TokenFormat::raw_u16;
  uint32_t width_ = 2;             // bytes a token
  bool is_signed_ = false;         // of its type
  std::vector<uint64_t> starts_;   // tokens before each sequence, and all
  std::vector<uint64_t> offsets_;  // where each sequence lies, in bytes
  std::vector<uint64_t> documents_;
};

}  // namespace cairn
