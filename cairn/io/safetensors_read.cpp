// Reading: one pass over the header, every rule of the format checked before any tensor is seen.
#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"

namespace cairn {
namespace {

struct StoredType {
  std::string_view word;
  size_t bits;
  std::optional<DType> type;
};

// All element types that the format knows. Those of less than a byte must fill whole bytes.
constexpr std::array kStoredTypes = {
    StoredType{"BOOL", 8, DType::boolean},
    StoredType{"U8", 8, DType::u8},
    StoredType{"I8", 8, DType::i8},
    StoredType{"U16", 16, DType::u16},
    StoredType{"I16", 16, DType::i16},
    StoredType{"U32", 32, DType::u32},
    StoredType{"I32", 32, DType::i32},
    StoredType{"U64", 64, DType::u64},
    StoredType{"I64", 64, DType::i64},
    StoredType{"F16", 16, DType::f16},
    StoredType{"BF16", 16, DType::bf16},
    StoredType{"F32", 32, DType::f32},
    StoredType{"F64", 64, DType::f64},
    StoredType{"F8_E4M3", 8, {}},
    StoredType{"F8_E5M2", 8, {}},
    StoredType{"F8_E4M3FNUZ", 8, {}},
    StoredType{"F8_E5M2FNUZ", 8, {}},
    StoredType{"F8_E8M0", 8, {}},
    StoredType{"F4", 4, {}},
    StoredType{"F6_E2M3", 6, {}},
    StoredType{"F6_E3M2", 6, {}},
    StoredType{"C64", 64, {}},
};

constexpr uint64_t kMaxRank = 64;  // far beyond any tensor; bounds the memory of a hostile header

struct Span {
  uint64_t begin = 0;
  uint64_t end = 0;
  const std::string* name = nullptr;
};

// Whether there is something at `path`; a name that the system cannot have counts as nothing.
bool is_there(const Path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

[[noreturn]] void refuse(const std::string& source, const std::string& subject,
                         const std::string& expected, const std::string& found,
                         const std::string& hint = "") {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + source,
               .subject = subject,
               .expected = expected,
               .found = found,
               .hint = hint});
}

// The length N of the header, checked against the file.
uint64_t header_length(std::span<const std::byte> file, const std::string& source) {
  if (file.size() < 8)
    refuse(source, "", "8 bytes of header length", std::to_string(file.size()) + " bytes in all",
           "the file is cut short or is not safetensors");
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxSafetensorsHeader)
    refuse(source, "header length", "at most " + std::to_string(kMaxSafetensorsHeader),
           std::to_string(length), "is this a safetensors file?");
  if (length > file.size() - 8)
    refuse(source, "header", std::to_string(length) + " bytes",
           std::to_string(file.size() - 8) + " bytes to the end of the file",
           "the file is cut short");
  if (length == 0 || static_cast<char>(file[8]) != '{')
    refuse(source, "header", "a JSON object at byte 8", length == 0 ? "nothing" : "other text",
           "is this a safetensors file?");
  return length;
}

const StoredType& stored_type(const JsonField& field) {
  const std::string word = field.as_string();
  for (const StoredType& type : kStoredTypes)
    if (type.word == word) return type;
  std::vector<std::string> words;
  for (const StoredType& type : kStoredTypes) words.emplace_back(type.word);
  field.fail("an element type of the format", did_you_mean(word, words));
}

uint64_t size_field(const JsonField& field) {
  const Json& value = field.value();
  if (!value.is_number_unsigned()) field.fail("an integer of at least 0");
  return value.get<uint64_t>();
}

// The bytes that `shape` takes, or an error where that is not a whole number below 2^64.
uint64_t stored_bytes(const JsonField& field, const Shape& shape, const StoredType& type) {
  uint64_t count = 1;
  uint64_t bits = 0;
  for (const size_t size : shape)
    if (__builtin_mul_overflow(count, size, &count))
      field.fail("a shape of fewer than 2^64 elements");
  if (__builtin_mul_overflow(count, type.bits, &bits))
    field.fail("a tensor of fewer than 2^64 bits");
  if (bits % 8 != 0) field.fail("elements of " + std::string(type.word) + " that fill whole bytes");
  return bits / 8;
}

// One tensor of the header, without its bytes.
StoredTensor read_entry(const JsonField& field, uint64_t data_bytes, Span& span) {
  const StoredType& type = stored_type(field.member("dtype"));
  StoredTensor tensor{.dtype = std::string(type.word), .type = type.type};
  const JsonField shape = field.member("shape");
  if (!shape.value().is_array() || shape.value().size() > kMaxRank)
    shape.fail("an array of at most " + std::to_string(kMaxRank) + " sizes");
  for (const JsonField& size : shape.elements()) tensor.shape.push_back(size_field(size));
  const JsonField offsets = field.member("data_offsets");
  if (!offsets.value().is_array() || offsets.value().size() != 2) offsets.fail("[begin, end]");
  const auto ends = offsets.elements();
  span.begin = size_field(ends[0]);
  span.end = size_field(ends[1]);
  if (field.value().size() != 3) field.fail("dtype, shape and data_offsets and nothing else");
  if (span.begin > span.end || span.end > data_bytes)
    offsets.fail("begin <= end <= " + std::to_string(data_bytes) + " (bytes of data in the file)",
                 span.end > data_bytes ? "the file is cut short" : "");
  const uint64_t bytes = stored_bytes(shape, tensor.shape, type);
  if (bytes != span.end - span.begin)
    offsets.fail(std::to_string(bytes) + " bytes (" + tensor.dtype + " " + to_string(tensor.shape) +
                 ")");
  return tensor;
}

std::map<std::string, std::string> read_metadata(const JsonField& field) {
  std::map<std::string, std::string> metadata;
  for (const std::string& key : field.keys()) metadata[key] = field.member(key).as_string();
  return metadata;
}

// Tensors must cover the data from its first to its last byte, each byte once.
void check_coverage(const std::string& source, std::vector<Span>& spans, uint64_t data_bytes) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const Span& span : spans) {
    if (span.begin != covered)
      refuse(source, "tensor " + in_quotes(*span.name),
             "data from byte " + std::to_string(covered) + " on",
             std::to_string(span.begin) + (span.begin < covered ? " (overlap)" : " (hole)"));
    covered = span.end;
  }
  if (covered != data_bytes)
    refuse(source, "data", std::to_string(covered) + " bytes (end of the last tensor)",
           std::to_string(data_bytes) + " bytes");
}

}  // namespace

std::string_view safetensors_dtype(DType dtype) {
  for (const StoredType& type : kStoredTypes)
    if (type.type == dtype) return type.word;
  return "";
}

StoredTensors parse_safetensors(std::span<const std::byte> file, const std::string& source,
                                TensorFileFacts& facts, size_t index) {
  const uint64_t length = header_length(file, source);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  const Json document = parse_json(text, source + " (header)");
  const JsonField header(document, source);
  facts.header_bytes = length;
  facts.data_bytes = file.size() - 8 - length;

  StoredTensors tensors;
  std::vector<Span> spans;
  for (const auto& member : document.items()) {
    const std::string& name = member.key();
    if (name == "__metadata__") {
      facts.metadata = read_metadata(header.member(name));
      continue;
    }
    Span span;
    StoredTensor tensor = read_entry(header.member(name), facts.data_bytes, span);
    tensor.file = index;
    tensor.bytes = file.subspan(8 + length + span.begin, span.end - span.begin);
    const auto place = tensors.emplace_hint(tensors.end(), name, std::move(tensor));
    span.name = &place->first;
    spans.push_back(span);
  }
  check_coverage(source, spans, facts.data_bytes);
  return tensors;
}

TensorArchive::TensorArchive(const Path& path) : path_(path) {
  std::error_code ignored;  // whatever is wrong with the path, opening it will say
  if (std::filesystem::is_directory(path, ignored)) {
    const Path single = path / "model.safetensors";
    const Path index = path / "model.safetensors.index.json";
    path_ = is_there(single) ? single : index;
    if (!is_there(path_))
      refuse(path.string(), "", "model.safetensors or model.safetensors.index.json", "neither");
  }
  if (path_.extension() == ".json") {
    open_shards(path_);
  } else {
    open_file(path_);
  }
}

void TensorArchive::open_file(const Path& path) {
  maps_.emplace_back(path);
  TensorFileFacts facts;
  facts.path = path;
  StoredTensors tensors =
      parse_safetensors(maps_.back().bytes(), path.string(), facts, facts_.size());
  for (auto& [name, tensor] : tensors) {
    const auto [place, fresh] = tensors_.emplace(name, std::move(tensor));
    if (!fresh)
      refuse(path.string(), "tensor " + in_quotes(name), "each tensor in one shard",
             "it is also in " + file_of(place->second).filename().string());
  }
  facts_.push_back(std::move(facts));
}

void TensorArchive::open_shards(const Path& index) {
  const Json document = read_json(index, kMaxSafetensorsHeader);
  const JsonField map = JsonField(document, index.string()).member("weight_map");
  std::map<std::string, std::string> promised;  // tensor to file
  std::set<std::string> names;
  for (const std::string& tensor : map.keys()) {
    const JsonField field = map.member(tensor);
    const std::string file = field.as_string();
    // A shard lies beside its index: anything else could reach outside the model's folder.
    if (file.empty() || file.find('/') != std::string::npos || file == "." || file == ".." ||
        file.find('\0') != std::string::npos)
      field.fail("the name of a file beside the index");
    promised[tensor] = file;
    names.insert(file);
  }
  for (const std::string& name : names) {
    const Path shard = index.parent_path() / name;
    if (!is_there(shard))
      refuse(index.string(), "shard " + in_quotes(name), "a file beside the index", "no such file",
             "the download or copy of the model is incomplete");
    open_file(shard);
  }
  for (const auto& [tensor, file] : promised) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end())
      refuse(index.string(), "tensor " + in_quotes(tensor), "it in " + file,
             "no such tensor in that shard", "do index and shards belong to one model?");
    if (file_of(found->second).filename() != file)
      refuse(index.string(), "tensor " + in_quotes(tensor), "it in " + file,
             "it in " + file_of(found->second).filename().string());
  }
  for (const auto& [tensor, stored] : tensors_)
    if (promised.count(tensor) == 0)
      refuse(index.string(), "weight_map",
             "tensor " + in_quotes(tensor) + " of " + file_of(stored).filename().string(),
             "no such key", "do index and shards belong to one model?");
}

void TensorArchive::rename(FunctionRef<std::optional<std::string>(const std::string&)> name_of) {
  StoredTensors renamed;
  for (const auto& [name, tensor] : tensors_) {
    const std::optional<std::string> wanted = name_of(name);
    if (wanted && !renamed.emplace(*wanted, tensor).second)
      refuse(path_.string(), "tensor " + in_quotes(name),
             "one tensor that is " + in_quotes(*wanted), "two");
  }
  tensors_ = std::move(renamed);
}

const StoredTensor& TensorArchive::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, tensor] : tensors_) names.push_back(known);
  refuse(path_.string(), "tensor " + std::string(name), "it in the file", "no such tensor",
         did_you_mean(name, names));
}

}  // namespace cairn
