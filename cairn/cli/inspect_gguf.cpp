// `cairn inspect` of GGUF files: what the header says, without loading any weights.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/inspect.h"
#include "cairn/infer/quantization_mix.h"
#include "cairn/io/gguf.h"
#include "cairn/model/gguf.h"

namespace cairn {
namespace {

constexpr size_t kShownBytes = 72;  // of a value, in the table of metadata

// The model that the keys describe; empty with a note when Cairn cannot run it.
std::optional<ModelConfig> try_config(const GgufArchive& archive, std::string& note) {
  try {
    ModelConfig config = read_gguf_config(archive);
    check_gguf_tensors(archive, config);
    return config;
  } catch (const Error& error) {
    note = error.what();
    return std::nullopt;
  }
}

StoredTypes stored_types(const GgufArchive& archive, const ModelConfig& config) {
  std::map<std::string, BlockType> types;
  for (const GgufName& name : gguf_names(config)) types[name.hf] = archive.tensor(name.gguf).type;
  return [types = std::move(types)](const std::string& name) { return types.at(name); };
}

std::string kind_of(const GgufValue& value) {
  if (!value.is_array()) return std::string(gguf_kind_name(value.kind()));
  return fmt::format("{}[{}]", gguf_kind_name(value.element_kind()), value.count());
}

std::string text_of(const GgufArchive& archive, const char* key) {
  const auto value = archive.find(key);
  return value ? value->show(kShownBytes) : "-";
}

// The name of general.file_type: "q4_k_m"; its number when it has none here.
std::string file_type_of(const GgufArchive& archive) {
  const auto value = archive.find("general.file_type");
  if (!value) return "-";
  const auto id = value->as_integer(0, UINT32_MAX);
  const FileType* type = find_file_type(static_cast<uint32_t>(id));
  return type != nullptr ? std::string(type->name) : fmt::format("{}", id);
}

void print_tokenizer(const GgufArchive& archive) {
  const auto model = archive.find("tokenizer.ggml.model");
  if (!model || (model->kind() == GgufKind::string && model->as_string() == "none")) {
    fmt::print("tokenizer   none\n");
    return;
  }
  const auto count = [&](const char* key) {
    const auto value = archive.find(key);
    return value ? value->count() : 0;
  };
  fmt::print("tokenizer   model {}, pre {}, {} tokens, {} merges\n",
             text_of(archive, "tokenizer.ggml.model"), text_of(archive, "tokenizer.ggml.pre"),
             count("tokenizer.ggml.tokens"), count("tokenizer.ggml.merges"));
  fmt::print("  begin {}, end {}, padding {}; add begin {}\n",
             text_of(archive, "tokenizer.ggml.bos_token_id"),
             text_of(archive, "tokenizer.ggml.eos_token_id"),
             text_of(archive, "tokenizer.ggml.padding_token_id"),
             text_of(archive, "tokenizer.ggml.add_bos_token"));
  const auto chat = archive.find("tokenizer.chat_template");
  if (chat && chat->kind() == GgufKind::string)
    fmt::print("  chat template of {} bytes\n", chat->as_string().size());
}

// Tensors that differ only in the number of their layer, as one line.
struct Row {
  std::string name;
  BlockType type = BlockType::f32;
  Shape shape;
  size_t count = 0;
  uint64_t bytes = 0;
};

std::vector<Row> make_rows(const GgufArchive& archive, bool all) {
  std::vector<Row> rows;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor tensor = archive.tensor(i);
    const std::string name(tensor.name), shown = all ? name : without_number(name);
    const std::string key =
        fmt::format("{}\n{}\n{}", shown, block_type_name(tensor.type), to_string(tensor.shape));
    const auto [place, fresh] = known.emplace(key, rows.size());
    if (fresh) rows.push_back({shown, tensor.type, tensor.shape});
    ++rows[place->second].count;
    rows[place->second].bytes += tensor.bytes.size();
  }
  return rows;
}

struct Totals {
  uint64_t elements = 0;
  uint64_t bytes = 0;
  double bits_per_weight() const {
    return elements == 0 ? 0 : 8 * static_cast<double>(bytes) / static_cast<double>(elements);
  }
};

Totals totals(const GgufArchive& archive) {
  Totals sum;
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor tensor = archive.tensor(i);
    sum.elements += element_count(tensor.shape);
    sum.bytes += tensor.bytes.size();
  }
  return sum;
}

void print_tensors(const GgufArchive& archive, bool all) {
  const std::vector<Row> rows = make_rows(archive, all);
  size_t name_width = 6, shape_width = 5;
  for (const Row& row : rows) {
    name_width = std::max(name_width, printable(row.name).size());
    shape_width = std::max(shape_width, to_string(row.shape).size());
  }
  fmt::print("\n{:<{}}  {:>5}  {:<7}  {:<{}}  {:>10}\n", "tensor", name_width, "count", "type",
             "shape", shape_width, "size");
  for (const Row& row : rows)
    fmt::print("{:<{}}  {:>5}  {:<7}  {:<{}}  {:>10}\n", printable(row.name), name_width, row.count,
               block_type_name(row.type), to_string(row.shape), shape_width,
               format_bytes(row.bytes));
  const Totals sum = totals(archive);
  fmt::print("{} tensors, {} elements, {}, {:.2f} bits a weight\n", archive.tensor_count(),
             sum.elements, format_bytes(sum.bytes), sum.bits_per_weight());
}

void print_text(const GgufArchive& archive, bool all) {
  for (const GgufFile& file : archive.files())
    fmt::print("file        {}: GGUF {}, data from byte {}, aligned to {}\n",
               printable(file.source()), file.version(), file.data_offset(), file.alignment());
  std::string note;
  const std::optional<ModelConfig> config = try_config(archive, note);
  if (config)
    print_model(*config, stored_types(archive, *config));
  else
    fmt::print("model       {}: cannot be run here\n  {}\n",
               text_of(archive, "general.architecture"), note);
  fmt::print("weights     {}\n", file_type_of(archive));
  print_tokenizer(archive);
  fmt::print("\nmetadata\n");
  for (size_t i = 0; i < archive.metadata().metadata_count(); ++i) {
    const GgufValue value = archive.metadata().metadata(i);
    fmt::print("  {:<40} {:<14} {}\n", printable(std::string(value.key())), kind_of(value),
               value.show(kShownBytes));
  }
  print_tensors(archive, all);
}

Json json_of(const GgufArchive& archive, const std::string& path) {
  Json metadata = Json::array();
  for (size_t i = 0; i < archive.metadata().metadata_count(); ++i) {
    const GgufValue value = archive.metadata().metadata(i);
    metadata.push_back({{"key", printable(std::string(value.key()))},
                        {"kind", kind_of(value)},
                        {"value", value.show(1024)}});
  }
  Json tensors = Json::array();
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor tensor = archive.tensor(i);
    tensors.push_back({{"name", printable(std::string(tensor.name))},
                       {"type", block_type_name(tensor.type)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes.size()}});
  }
  Json files = Json::array();
  for (const GgufFile& file : archive.files())
    files.push_back({{"path", file.source()},
                     {"version", file.version()},
                     {"alignment", file.alignment()},
                     {"data_offset", file.data_offset()}});
  const Totals sum = totals(archive);
  Json result = {{"path", path},
                 {"format", "gguf"},
                 {"files", files},
                 {"file_type", file_type_of(archive)},
                 {"metadata", metadata},
                 {"tensors", tensors},
                 {"totals",
                  {{"tensors", archive.tensor_count()},
                   {"elements", sum.elements},
                   {"bytes", sum.bytes},
                   {"bits_per_weight", sum.bits_per_weight()}}}};
  std::string note;
  if (const auto config = try_config(archive, note))
    result["model"] = model_json(*config, stored_types(archive, *config));
  else
    result["cannot_be_run"] = note;
  return result;
}

}  // namespace

void inspect_gguf(const std::string& path, bool all, bool json) {
  const GgufArchive archive(path);
  if (json)
    fmt::print("{}", write_json(json_of(archive, path)));
  else
    print_text(archive, all);
}

}  // namespace cairn
