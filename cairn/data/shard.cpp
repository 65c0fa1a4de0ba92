#include "cairn/data/shard.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/memory.h"

namespace cairn {
namespace {

constexpr char kMagic[8] = {'C', 'A', 'I', 'R', 'N', 'T', 'O', 'K'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kBlockBytes = uint64_t{16} << 20;
constexpr uint64_t kPieceBytes = uint64_t{1} << 20;  // a block is hashed in such pieces

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  uint64_t vocab_size;
  uint64_t tokenizer;
  uint64_t tokens;
  uint64_t documents;
  uint64_t block_bytes;
  uint64_t payload_offset;
  uint64_t tables_hash;  // of block hashes and document starts
  uint64_t header_hash;  // of all fields above
  uint64_t reserved[6];  // zero
};
static_assert(sizeof(Header) == 128);

uint64_t hash_of(const Header& header) {
  return hash64(&header, offsetof(Header, header_hash));
}

uint64_t block_count(uint64_t tokens, uint32_t token_bytes) {
  return (tokens * token_bytes + kBlockBytes - 1) / kBlockBytes;
}

uint64_t payload_offset(uint64_t blocks, uint64_t documents) {
  return align_up(sizeof(Header) + 8 * (blocks + documents), kAlignment);
}

// Copies tokens of type T and returns the largest.
template <class T>
uint32_t widen(const std::byte* from, std::span<int32_t> out) {
  uint32_t largest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    T token;
    std::memcpy(&token, from + i * sizeof(T), sizeof(T));
    largest = std::max<uint32_t>(largest, token);
    out[i] = static_cast<int32_t>(token);
  }
  return largest;
}

}  // namespace

Shard::Shard(const Path& path) : file_(path) {
  check_header();
}

void Shard::check_header() {
  const auto refuse = [&](const std::string& field, const std::string& expected,
                          const std::string& found) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening token shard " + file_.path().string(),
                 .subject = field,
                 .expected = expected,
                 .found = found,
                 .hint = "pack the data again: cairn data pack"});
  };
  const auto check = [&](const std::string& field, uint64_t expected, uint64_t found) {
    if (expected != found) refuse(field, std::to_string(expected), std::to_string(found));
  };
  if (file_.size() < sizeof(Header))
    refuse("size", "at least 128 bytes", std::to_string(file_.size()));
  Header header;
  file_.read(0, &header, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0)
    refuse("magic", "CAIRNTOK", "other bytes");
  check("version", kVersion, header.version);
  check("header hash", hash_of(header), header.header_hash);
  if (header.token_bytes != 2 && header.token_bytes != 4)
    refuse("bytes a token", "2 or 4", std::to_string(header.token_bytes));
  if (header.vocab_size == 0 || header.vocab_size > uint64_t{INT32_MAX})
    refuse("vocabulary", "1 to 2147483647 tokens", std::to_string(header.vocab_size));
  check("block size", kBlockBytes, header.block_bytes);
  // Counts are bounded by the file before anything is computed from them.
  if (header.tokens > file_.size() || header.documents > file_.size())
    refuse("counts", "counts that fit into the file", std::to_string(header.tokens) + " tokens");
  if (header.documents == 0 && header.tokens != 0) refuse("documents", "at least 1", "0");
  const uint64_t blocks = block_count(header.tokens, header.token_bytes);
  check("payload offset", payload_offset(blocks, header.documents), header.payload_offset);
  check("size", header.payload_offset + header.tokens * header.token_bytes, file_.size());
  tables_.resize(blocks + header.documents);
  if (!tables_.empty()) file_.read(sizeof(Header), tables_.data(), 8 * tables_.size());
  check("hash of the tables", hash64(tables_.data(), 8 * tables_.size()), header.tables_hash);

  info_ = {header.vocab_size, header.tokenizer, header.tokens, header.documents,
           header.token_bytes};
  block_hashes_ = std::span(tables_).first(blocks);
  documents_ = std::span(tables_).subspan(blocks);
  for (size_t i = 0; i < documents_.size(); ++i) {
    const uint64_t least = i == 0 ? 0 : documents_[i - 1];
    if (documents_[i] < least || documents_[i] > info_.tokens || (i == 0 && documents_[0] != 0))
      refuse("start of document " + std::to_string(i), "rising from 0",
             std::to_string(documents_[i]));
  }
  payload_ = header.payload_offset;
  checked_ = std::make_unique<std::atomic<bool>[]>(blocks);
}

void Shard::check_block(uint64_t block) const {
  if (checked_[block].load(std::memory_order_acquire)) return;
  const uint64_t begin = block * kBlockBytes;
  const uint64_t size = std::min(kBlockBytes, info_.tokens * info_.token_bytes - begin);
  Hasher hasher;
  std::vector<std::byte> piece(std::min(size, kPieceBytes));
  for (uint64_t done = 0; done < size; done += piece.size()) {
    piece.resize(std::min<uint64_t>(piece.size(), size - done));
    file_.read(payload_ + begin + done, piece.data(), piece.size());
    hasher.update(piece.data(), piece.size());
  }
  if (const uint64_t hash = hasher.digest(); hash != block_hashes_[block])
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading token shard " + file_.path().string(),
                 .subject = "block " + std::to_string(block),
                 .expected = "hash " + hex64(block_hashes_[block]),
                 .found = hex64(hash),
                 .hint = "the file is damaged: pack the data again"});
  checked_[block].store(true, std::memory_order_release);
}

void Shard::read(uint64_t begin, std::span<int32_t> out) const {
  if (begin > info_.tokens || out.size() > info_.tokens - begin)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading token shard " + file_.path().string(),
                 .expected = "tokens below " + std::to_string(info_.tokens),
                 .found = std::to_string(begin) + " + " + std::to_string(out.size())});
  if (out.empty()) return;
  const uint64_t first = begin * info_.token_bytes / kBlockBytes;
  const uint64_t last = ((begin + out.size()) * info_.token_bytes - 1) / kBlockBytes;
  for (uint64_t block = first; block <= last; ++block) check_block(block);
  uint32_t largest = 0;
  std::array<std::byte, 8192> piece;
  const size_t most = piece.size() / info_.token_bytes;
  for (size_t done = 0; done < out.size(); done += std::min(most, out.size() - done)) {
    const auto part = out.subspan(done, std::min(most, out.size() - done));
    file_.read(payload_ + (begin + done) * info_.token_bytes, piece.data(),
               part.size() * info_.token_bytes);
    largest = std::max(largest, info_.token_bytes == 2 ? widen<uint16_t>(piece.data(), part)
                                                       : widen<uint32_t>(piece.data(), part));
  }
  if (largest >= info_.vocab_size)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading token shard " + file_.path().string(),
                 .expected = "token ids below " + std::to_string(info_.vocab_size),
                 .found = std::to_string(largest)});
}

uint64_t Shard::document_of(uint64_t index) const {
  const auto after = std::upper_bound(documents_.begin(), documents_.end(), index);
  return static_cast<uint64_t>(after - documents_.begin()) - 1;
}

void Shard::will_need(uint64_t begin, uint64_t count) const {
  file_.will_need(payload_ + begin * info_.token_bytes, count * info_.token_bytes);
}

ShardWriter::ShardWriter(uint64_t vocab_size, uint64_t tokenizer) {
  info_.vocab_size = vocab_size;
  info_.tokenizer = tokenizer;
  info_.token_bytes = vocab_size <= 65536 ? 2 : 4;
}

void ShardWriter::add_document(std::span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    if (token < 0 || static_cast<uint64_t>(token) >= info_.vocab_size)
      throw Error({.kind = ErrorKind::data,
                   .doing = "packing a document",
                   .expected = "token ids below " + std::to_string(info_.vocab_size),
                   .found = std::to_string(token)});
  }
  documents_.push_back(tokens_);
  const size_t begin = payload_.size();
  payload_.resize(begin + tokens.size() * info_.token_bytes);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]);
    std::memcpy(payload_.data() + begin + i * info_.token_bytes, &token, info_.token_bytes);
  }
  tokens_ += tokens.size();
}

void ShardWriter::write(const Path& path) {
  const uint64_t blocks = block_count(tokens_, info_.token_bytes);
  std::vector<uint64_t> tables;
  for (uint64_t block = 0; block < blocks; ++block) {
    const uint64_t begin = block * kBlockBytes;
    tables.push_back(
        hash64(payload_.data() + begin, std::min<uint64_t>(kBlockBytes, payload_.size() - begin)));
  }
  tables.insert(tables.end(), documents_.begin(), documents_.end());
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.token_bytes = info_.token_bytes;
  header.vocab_size = info_.vocab_size;
  header.tokenizer = info_.tokenizer;
  header.tokens = tokens_;
  header.documents = documents_.size();
  header.block_bytes = kBlockBytes;
  header.payload_offset = payload_offset(blocks, documents_.size());
  header.tables_hash = hash64(tables.data(), 8 * tables.size());
  header.header_hash = hash_of(header);

  std::string head(header.payload_offset, '\0');
  std::memcpy(head.data(), &header, sizeof header);
  if (!tables.empty()) std::memcpy(head.data() + sizeof header, tables.data(), 8 * tables.size());
  const Path temporary = path.string() + ".tmp";
  FileWriter writer(temporary);
  writer.write(head);
  writer.write(payload_);
  writer.sync();
  writer.close();
  rename_file(temporary, path);
  payload_.clear();
  documents_.clear();
  tokens_ = 0;
}

}  // namespace cairn
