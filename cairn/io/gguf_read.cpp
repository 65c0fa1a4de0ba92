// Reading: one pass that checks every field and keeps where it stands.
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/base/suggest.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr uint64_t kMinPairBytes = 8 + 4 + 1;          // key length, kind, smallest value
constexpr uint64_t kMinInfoBytes = 8 + 4 + 8 + 4 + 8;  // name length, n, one dim, type, offset
constexpr uint64_t kMaxElements = uint64_t{1} << 62;

[[noreturn]] void refuse(const std::string& source, uint64_t offset, const std::string& field,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + source,
               .subject = fmt::format("byte {}, {}", offset, field),
               .expected = expected,
               .found = found,
               .hint = hint});
}

// Bytes of a value of fixed width; 0 for strings and arrays; nothing for ids that are no kind.
std::optional<size_t> kind_size(uint32_t kind) {
  switch (static_cast<GgufKind>(kind)) {
    case GgufKind::u8:
    case GgufKind::i8:
    case GgufKind::boolean:
      return 1;
    case GgufKind::u16:
    case GgufKind::i16:
      return 2;
    case GgufKind::u32:
    case GgufKind::i32:
    case GgufKind::f32:
      return 4;
    case GgufKind::u64:
    case GgufKind::i64:
    case GgufKind::f64:
      return 8;
    case GgufKind::string:
    case GgufKind::array:
      return 0;
  }
  return std::nullopt;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// A place in the file that moves on as fields are read, each held against the end of the file.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& source, uint64_t offset)
      : bytes_(bytes), source_(source), offset_(offset) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  template <class T>
  T read(const char* field) {
    need(sizeof(T), field);
    const T value = load<T>(bytes_.data() + offset_);
    offset_ += sizeof(T);
    return value;
  }

  std::span<const std::byte> take(uint64_t bytes, const char* field) {
    need(bytes, field);
    const auto part = bytes_.subspan(offset_, bytes);
    offset_ += bytes;
    return part;
  }

  std::string_view read_string(const char* field) {
    const auto length = read<uint64_t>(field);
    if (length > left())
      refuse(source_, offset_ - 8, std::string("length of the ") + field,
             fmt::format("at most {} (bytes to the end of the file)", left()),
             std::to_string(length), "is the file cut short?");
    const auto part = take(length, field);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  void need(uint64_t bytes, const char* field) {
    if (bytes > left())
      refuse(source_, offset_, field, fmt::format("{} bytes", bytes),
             fmt::format("{} to the end of the file", left()), "is the file cut short?");
  }

  std::span<const std::byte> bytes_;
  const std::string& source_;
  uint64_t offset_;
};

GgufKind read_kind(Cursor& cursor, const std::string& source, const char* field) {
  const uint64_t at = cursor.offset();
  const auto kind = cursor.read<uint32_t>(field);
  if (!kind_size(kind)) refuse(source, at, field, "a kind from 0 to 12", std::to_string(kind));
  return static_cast<GgufKind>(kind);
}

// Moves over `count` values of a kind that is not an array.
void skip_values(Cursor& cursor, const std::string& source, GgufKind kind, uint64_t count) {
  if (kind == GgufKind::string) {
    // Each string takes 8 bytes at least, so a false count meets the end of the file.
    for (uint64_t i = 0; i < count; ++i) cursor.read_string("string");
    return;
  }
  const uint64_t at = cursor.offset();
  const size_t size = *kind_size(static_cast<uint32_t>(kind));
  if (count > cursor.left() / size)
    refuse(source, at, "array", fmt::format("{} elements of {} bytes", count, size),
           fmt::format("{} bytes to the end of the file", cursor.left()), "is the file cut short?");
  const auto bytes = cursor.take(count * size, "value");
  if (kind != GgufKind::boolean) return;
  for (uint64_t i = 0; i < count; ++i)
    if (std::to_integer<unsigned>(bytes[i]) > 1)
      refuse(source, at + i, "boolean", "0 or 1", std::to_string(std::to_integer<int>(bytes[i])));
}

// Sorts indices by the string of each and returns the first that repeats its predecessor's.
template <class StringAt>
std::optional<size_t> sort_by_string(std::vector<uint64_t>& order, size_t count, StringAt at) {
  order.resize(count);
  std::iota(order.begin(), order.end(), uint64_t{0});
  std::sort(order.begin(), order.end(), [&](uint64_t a, uint64_t b) {
    const std::string_view left = at(a), right = at(b);
    return left != right ? left < right : a < b;
  });
  for (size_t i = 1; i < count; ++i)
    if (at(order[i]) == at(order[i - 1])) return order[i];
  return std::nullopt;
}

template <class StringAt>
std::optional<size_t> find_string(const std::vector<uint64_t>& order, std::string_view wanted,
                                  StringAt at) {
  const auto place =
      std::lower_bound(order.begin(), order.end(), wanted,
                       [&](uint64_t index, std::string_view text) { return at(index) < text; });
  if (place == order.end() || at(*place) != wanted) return std::nullopt;
  return *place;
}

// The dimensions of a tensor, multiplied; `row` is the contiguous one.
uint64_t read_dims(Cursor& cursor, const std::string& source, const std::string& label,
                   uint64_t& row) {
  const auto n = cursor.read<uint32_t>("number of dimensions");
  if (n == 0 || n > kMaxGgufDims)
    refuse(source, cursor.offset() - 4, label, fmt::format("1 to {} dimensions", kMaxGgufDims),
           std::to_string(n));
  uint64_t elements = 1;
  for (uint32_t d = 0; d < n; ++d) {
    const auto dim = cursor.read<uint64_t>("dimension");
    if (dim > kMaxElements || __builtin_mul_overflow(elements, dim, &elements) ||
        elements > kMaxElements)
      refuse(source, cursor.offset() - 8, label, "dimensions of at most 2^62 elements",
             std::to_string(dim));
    if (d == 0) row = dim;
  }
  return elements;
}

// Reads what stands about one tensor, whose data must begin at `begin` of the data, and returns
// where they end: within `file_bytes`, to begin with.
uint64_t read_tensor_info(Cursor& cursor, const std::string& source, uint64_t begin,
                          uint64_t file_bytes) {
  const uint64_t name_at = cursor.offset();
  const std::string_view name = cursor.read_string("name of a tensor");
  const std::string label = "tensor " + in_quotes(name);
  if (name.empty() || name.size() > kMaxGgufName)
    refuse(source, name_at, label, fmt::format("a name of 1 to {} bytes", kMaxGgufName),
           std::to_string(name.size()));
  const uint64_t dims_at = cursor.offset() + 4;
  uint64_t row = 0;
  const uint64_t elements = read_dims(cursor, source, label, row);
  const auto id = cursor.read<uint32_t>("type of a tensor");
  const BlockTypeInfo* type = find_block_type(id);
  if (type == nullptr)
    refuse(source, cursor.offset() - 4, label, "a type with a known layout",
           describe_unknown_block_type(id));
  if (row % type->block_size != 0)
    refuse(source, dims_at, label,
           fmt::format("rows of whole {} blocks ({} elements)", type->name, type->block_size),
           std::to_string(row));
  const auto at = cursor.read<uint64_t>("offset of a tensor");
  if (at != begin)
    refuse(source, cursor.offset() - 8, label,
           fmt::format("data at {} (behind the tensor before, aligned)", begin),
           std::to_string(at));
  uint64_t bytes = 0, end = 0;
  if (__builtin_mul_overflow(elements / type->block_size, type->block_bytes, &bytes) ||
      __builtin_add_overflow(at, bytes, &end) || end > file_bytes)
    refuse(source, dims_at, label, fmt::format("data within the file's {} bytes", file_bytes),
           fmt::format("{} elements of {}", elements, type->name), "is the file cut short?");
  return end;
}

}  // namespace

std::string_view gguf_kind_name(GgufKind kind) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(kind)];
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::string source)
    : bytes_(bytes), source_(std::make_unique<const std::string>(std::move(source))) {
  Cursor cursor(bytes_, *source_, 0);
  const auto magic = cursor.take(4, "magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    refuse(*source_, 0, "magic", "\"GGUF\"",
           in_quotes({reinterpret_cast<const char*>(magic.data()), 4}), "is this a GGUF file?");
  version_ = cursor.read<uint32_t>("version");
  if ((version_ & 0xffffU) == 0 && version_ != 0)
    refuse(*source_, 4, "version", "2 or 3, little-endian",
           fmt::format("{} with its bytes swapped", version_ >> 24 | (version_ >> 8 & 0xff00U)),
           "big-endian files are not supported");
  if (version_ != 2 && version_ != 3)
    refuse(*source_, 4, "version", "2 or 3", std::to_string(version_));
  const auto tensors = cursor.read<uint64_t>("number of tensors");
  const auto pairs = cursor.read<uint64_t>("number of metadata pairs");
  if (pairs > cursor.left() / kMinPairBytes)
    refuse(*source_, 16, "number of metadata pairs",
           fmt::format("at most {} (what the file has room for)", cursor.left() / kMinPairBytes),
           std::to_string(pairs), "is the file cut short?");
  if (tensors > cursor.left() / kMinInfoBytes)
    refuse(*source_, 8, "number of tensors",
           fmt::format("at most {} (what the file has room for)", cursor.left() / kMinInfoBytes),
           std::to_string(tensors), "is the file cut short?");
  uint64_t offset = cursor.offset();
  read_metadata(pairs, offset);
  read_alignment();
  read_tensors(tensors, offset);
}

void GgufFile::read_metadata(uint64_t count, uint64_t& offset) {
  Cursor cursor(bytes_, *source_, offset);
  pairs_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t begin = cursor.offset();
    pairs_.push_back(begin);
    const std::string_view key = cursor.read_string("key");
    if (key.empty() || key.size() > kMaxGgufKey)
      refuse(*source_, begin, "key", fmt::format("1 to {} bytes", kMaxGgufKey),
             std::to_string(key.size()));
    GgufKind kind = read_kind(cursor, *source_, "kind of a value");
    uint64_t elements = 1;
    if (kind == GgufKind::array) {
      const uint64_t at = cursor.offset();
      kind = read_kind(cursor, *source_, "kind of an array's elements");
      if (kind == GgufKind::array)
        refuse(*source_, at, "elements of " + in_quotes(key), "numbers or strings",
               "arrays in an array");
      elements = cursor.read<uint64_t>("length of an array");
    }
    skip_values(cursor, *source_, kind, elements);
  }
  offset = metadata_end_ = cursor.offset();
  const auto twice = sort_by_string(by_key_, count, [&](size_t i) { return key_at(i); });
  if (twice)
    refuse(*source_, pairs_[*twice], "key " + in_quotes(key_at(*twice)), "each key once",
           "it a second time");
}

void GgufFile::read_alignment() {
  const auto value = find("general.alignment");
  if (!value) return;
  if (value->kind() != GgufKind::u32) value->fail("a u32");
  alignment_ = static_cast<uint64_t>(value->as_integer());
  if (!std::has_single_bit(alignment_)) value->fail("a power of two");
}

void GgufFile::read_tensors(uint64_t count, uint64_t& offset) {
  Cursor cursor(bytes_, *source_, offset);
  infos_.reserve(count);
  uint64_t end = 0;  // of the data so far
  for (uint64_t i = 0; i < count; ++i) {
    infos_.push_back(cursor.offset());
    end = read_tensor_info(cursor, *source_, align_up(end, alignment_), bytes_.size());
  }
  offset = cursor.offset();
  data_offset_ = align_up(offset, alignment_);
  const uint64_t left = bytes_.size() - std::min<uint64_t>(data_offset_, bytes_.size());
  if (count != 0 && (data_offset_ > bytes_.size() || end > left))
    refuse(*source_, data_offset_, "data of the tensors", fmt::format("{} bytes", end),
           fmt::format("{} to the end of the file", left), "is the file cut short?");
  const auto twice = sort_by_string(by_name_, count, [&](size_t i) { return name_at(i); });
  if (twice)
    refuse(*source_, infos_[*twice], "tensor " + in_quotes(name_at(*twice)), "each name once",
           "it a second time");
}

// Below here the bytes have been checked, and are read again without checks.

std::string_view GgufFile::key_at(size_t index) const {
  const std::byte* at = bytes_.data() + pairs_[index];
  return {reinterpret_cast<const char*>(at + 8), load<uint64_t>(at)};
}

std::string_view GgufFile::name_at(size_t index) const {
  const std::byte* at = bytes_.data() + infos_[index];
  return {reinterpret_cast<const char*>(at + 8), load<uint64_t>(at)};
}

GgufValue GgufFile::metadata(size_t index) const {
  GgufValue value;
  value.key_ = key_at(index);
  value.source_ = source_.get();
  uint64_t at = pairs_[index] + 8 + value.key_.size();
  value.kind_ = value.element_ = static_cast<GgufKind>(load<uint32_t>(bytes_.data() + at));
  at += 4;
  if (value.is_array()) {
    value.element_ = static_cast<GgufKind>(load<uint32_t>(bytes_.data() + at));
    value.count_ = load<uint64_t>(bytes_.data() + at + 4);
    at += 12;
  }
  value.offset_ = at;
  if (value.element_ == GgufKind::string && value.is_array()) {
    // The end of the strings is where the next pair begins, or the first tensor.
    const uint64_t end = index + 1 < pairs_.size() ? pairs_[index + 1] : metadata_end_;
    value.bytes_ = bytes_.subspan(at, end - at);
  } else if (value.element_ == GgufKind::string) {
    value.bytes_ = bytes_.subspan(at, 8 + load<uint64_t>(bytes_.data() + at));
  } else {
    value.bytes_ =
        bytes_.subspan(at, value.count_ * *kind_size(static_cast<uint32_t>(value.element_)));
  }
  return value;
}

std::optional<GgufValue> GgufFile::find(std::string_view key) const {
  const auto index = find_string(by_key_, key, [&](size_t i) { return key_at(i); });
  if (!index) return std::nullopt;
  return metadata(*index);
}

GgufTensor GgufFile::tensor(size_t index) const {
  GgufTensor tensor;
  tensor.name = name_at(index);
  const std::byte* at = bytes_.data() + infos_[index] + 8 + tensor.name.size();
  const auto n = load<uint32_t>(at);
  for (uint32_t d = n; d-- > 0;) tensor.shape.push_back(load<uint64_t>(at + 4 + 8 * d));
  at += 4 + 8 * size_t{n};
  tensor.type = static_cast<BlockType>(load<uint32_t>(at));
  tensor.bytes =
      bytes_.subspan(data_offset_ + load<uint64_t>(at + 4), block_bytes(tensor.type, tensor.shape));
  return tensor;
}

std::optional<size_t> GgufFile::find_tensor(std::string_view name) const {
  return find_string(by_name_, name, [&](size_t i) { return name_at(i); });
}

}  // namespace cairn
