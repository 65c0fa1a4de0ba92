#include "cairn/data/token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr std::array<char, 9> kMegatronMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr size_t kLlmcHeader = 256 * sizeof(int32_t);

[[noreturn]] void refuse(const Path& path, const std::string& subject, const std::string& expected,
                         const std::string& found, const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "opening token file " + path.string(),
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// What a llm.c magic number stands for when it is not a file of training tokens.
std::string_view other_llmc_file(int32_t magic) {
  switch (magic) {
    case 20240326:
      return "a GPT-2 model of llm.c";
    case 20240803:
      return "a Llama 3 model of llm.c";
    case 20240328:
      return "a tokenizer of llm.c";
    case 20240522:
      return "an evaluation set of llm.c";
    default:
      return "";
  }
}

struct MegatronType {
  uint32_t width;
  bool is_signed;
};

MegatronType megatron_type(uint8_t code, const Path& path) {
  switch (code) {
    case 1:
      return {1, false};
    case 2:
      return {1, true};
    case 3:
      return {2, true};
    case 4:
      return {4, true};
    case 5:
      return {8, true};
    case 8:
      return {2, false};
    default:
      refuse(path, "type of the tokens", "1 to 5, or 8: whole numbers", std::to_string(code));
  }
}

template <class T>
int64_t widen(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<int64_t>(value);
}

// A token of `width` bytes; u32 above 2^31 - 1 comes out too large, never negative.
int64_t token_at(const std::byte* from, uint32_t width, bool is_signed) {
  switch (width) {
    case 1:
      return is_signed ? widen<int8_t>(from) : widen<uint8_t>(from);
    case 2:
      return is_signed ? widen<int16_t>(from) : widen<uint16_t>(from);
    case 4:
      return is_signed ? widen<int32_t>(from) : widen<uint32_t>(from);
    default:
      return widen<int64_t>(from);
  }
}

// The two files of a Megatron pair; nothing when `path` belongs to none.
struct MegatronPair {
  Path payload, index;
};

bool is_megatron_index(const Path& path) {
  if (!std::filesystem::is_regular_file(path)) return false;
  const FileReader file(path);
  std::array<char, kMegatronMagic.size()> magic{};
  if (file.size() < magic.size()) return false;
  file.read(0, magic.data(), magic.size());
  return magic == kMegatronMagic;
}

MegatronPair megatron_pair(const Path& path) {
  Path index = path, payload = path;
  index.replace_extension(".idx");
  payload.replace_extension(".bin");
  if ((path != index && path != payload) || !is_megatron_index(index)) return {};
  return {payload, index};
}

// Reads a table of an index file; the file has that many bytes, as open_megatron() has checked.
template <class T>
std::vector<T> read_table(const FileReader& file, uint64_t offset, uint64_t count) {
  std::vector<T> table(count);
  if (count > 0) file.read(offset, table.data(), count * sizeof(T));
  return table;
}

}  // namespace

std::string_view token_format_name(TokenFormat format) {
  switch (format) {
    case TokenFormat::raw_u16:
      return "nanoGPT";
    case TokenFormat::llmc_u16:
      return "llm.c, u16";
    case TokenFormat::llmc_u32:
      return "llm.c, u32";
    case TokenFormat::megatron:
      return "Megatron";
  }
  return "";
}

TokenFile::TokenFile(const Path& path) : starts_{0} {
  const MegatronPair pair = megatron_pair(path);
  payload_ = FileReader(pair.index.empty() ? path : pair.payload);
  if (!pair.index.empty())
    open_megatron(pair.index);
  else if (!open_llmc())
    open_raw();
}

void TokenFile::open_raw() {
  if (payload_.size() == 0 || payload_.size() % 2 != 0)
    refuse(path(), "size", "an even number of bytes: two a token", std::to_string(payload_.size()),
           "a file without a header is read as nanoGPT's: 16-bit tokens and nothing else");
  format_ = TokenFormat::raw_u16;
  starts_.push_back(payload_.size() / 2);
  offsets_.push_back(0);
}

// False when the file does not begin as llm.c's do.
bool TokenFile::open_llmc() {
  std::array<int32_t, 3> header{};  // magic, version, tokens
  if (payload_.size() < sizeof header) return false;
  payload_.read(0, header.data(), sizeof header);
  if (const std::string_view other = other_llmc_file(header[0]); !other.empty())
    refuse(path(), "magic", "20240520 or 20240801: tokens", std::string(other));
  const bool wide = header[0] == 20240801;
  if (!wide && header[0] != 20240520) return false;
  const int32_t version = wide ? 7 : 1;
  if (header[1] != version)
    refuse(path(), "version", std::to_string(version), std::to_string(header[1]));
  format_ = wide ? TokenFormat::llmc_u32 : TokenFormat::llmc_u16;
  width_ = wide ? 4 : 2;
  // The count is 32 bits wide; as unsigned it serves files of up to four thousand million tokens.
  const uint64_t tokens = static_cast<uint32_t>(header[2]);
  const uint64_t expected = kLlmcHeader + tokens * width_;
  if (payload_.size() != expected)
    refuse(path(), "size",
           std::to_string(expected) + " bytes for " + std::to_string(tokens) + " tokens",
           std::to_string(payload_.size()));
  starts_.push_back(tokens);
  offsets_.push_back(kLlmcHeader);
  return true;
}

void TokenFile::open_megatron(const Path& index) {
  constexpr uint64_t kHead = kMegatronMagic.size() + 8 + 1 + 8 + 8;
  const FileReader file(index);
  if (file.size() < kHead)
    refuse(index, "size", "at least " + std::to_string(kHead), std::to_string(file.size()));
  std::array<std::byte, kHead> head{};
  file.read(0, head.data(), head.size());
  const auto word = [&](size_t at) { return static_cast<uint64_t>(widen<int64_t>(&head[at])); };
  if (word(9) != 1) refuse(index, "version", "1", std::to_string(word(9)));
  const MegatronType type = megatron_type(static_cast<uint8_t>(head[17]), index);
  const uint64_t sequences = word(18), boundaries = word(26);
  // Bounded by the file before anything is computed from them.
  if (sequences > file.size() / 12 || boundaries > file.size() / 8 ||
      kHead + 12 * sequences + 8 * boundaries != file.size())
    refuse(index, "counts", "counts that fill a file of " + std::to_string(file.size()) + " bytes",
           std::to_string(sequences) + " sequences, " + std::to_string(boundaries) + " boundaries");
  format_ = TokenFormat::megatron;
  width_ = type.width;
  is_signed_ = type.is_signed;
  const auto lengths = read_table<int32_t>(file, kHead, sequences);
  const auto pointers = read_table<int64_t>(file, kHead + 4 * sequences, sequences);
  const auto cuts = read_table<int64_t>(file, kHead + 12 * sequences, boundaries);
  for (size_t i = 0; i < sequences; ++i) {
    const auto length = static_cast<uint64_t>(std::max(lengths[i], 0));
    const auto offset = static_cast<uint64_t>(std::max<int64_t>(pointers[i], 0));
    if (lengths[i] < 0 || pointers[i] < 0 || offset > payload_.size() ||
        length > (payload_.size() - offset) / width_)
      refuse(
          index, "sequence " + std::to_string(i),
          "a place inside the " + std::to_string(payload_.size()) + " bytes of " + path().string(),
          std::to_string(lengths[i]) + " tokens at byte " + std::to_string(pointers[i]));
    starts_.push_back(starts_.back() + length);
    offsets_.push_back(offset);
  }
  for (size_t i = 0; i < cuts.size(); ++i) {
    const int64_t least = i == 0 ? 0 : cuts[i - 1];
    if (cuts[i] < least || static_cast<uint64_t>(cuts[i]) > sequences || (i == 0 && cuts[0] != 0))
      refuse(index, "boundary " + std::to_string(i), "rising from 0 to the sequences",
             std::to_string(cuts[i]));
    // The last boundary is the end of the last document.
    if (i + 1 < cuts.size()) documents_.push_back(starts_[static_cast<size_t>(cuts[i])]);
  }
}

void TokenFile::read(uint64_t begin, std::span<int32_t> out) const {
  if (begin > tokens() || out.size() > tokens() - begin)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading token file " + path().string(),
                 .expected = "tokens below " + std::to_string(tokens()),
                 .found = std::to_string(begin) + " + " + std::to_string(out.size())});
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), begin);
  for (auto run = static_cast<size_t>(after - starts_.begin()) - 1; !out.empty(); ++run) {
    const size_t here = std::min<uint64_t>(out.size(), starts_[run + 1] - begin);
    read_run(offsets_[run] + (begin - starts_[run]) * width_, out.first(here));
    out = out.subspan(here);
    begin += here;
  }
}

void TokenFile::read_run(uint64_t byte, std::span<int32_t> out) const {
  std::array<std::byte, 16384> piece;
  const size_t most = piece.size() / width_;
  for (size_t done = 0; done < out.size(); done += std::min(most, out.size() - done)) {
    const size_t count = std::min(most, out.size() - done);
    payload_.read(byte + done * width_, piece.data(), count * width_);
    for (size_t i = 0; i < count; ++i) {
      const int64_t token = token_at(&piece[i * width_], width_, is_signed_);
      if (token < 0 || token > std::numeric_limits<int32_t>::max())
        throw Error({.kind = ErrorKind::data,
                     .doing = "reading token file " + path().string(),
                     .subject = "byte " + std::to_string(byte + (done + i) * width_),
                     .expected = "a token id from 0 to 2147483647",
                     .found = std::to_string(token)});
      out[done + i] = static_cast<int32_t>(token);
    }
  }
}

}  // namespace cairn
