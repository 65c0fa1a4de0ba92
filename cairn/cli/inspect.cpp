// `cairn inspect`: what a safetensors file, a set of shards or a model folder holds (a GGUF file:
// inspect_gguf.cpp). Reads headers only, so it is as quick for 100 GB as for a toy.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/cli/inspect.h"
#include "cairn/cli/verbs.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/architecture.h"

namespace cairn {
namespace {

struct Options {
  std::string path;
  bool all = false;
  bool json = false;
};

// What was found at the path; either part may be missing.
struct Findings {
  std::optional<TensorArchive> archive;
  std::optional<ModelConfig> config;
};

ModelConfig read_config_file(const Path& path) {
  const Json document = read_json(path);
  return read_model_config(JsonField(document, path.string()));
}

Findings look(const Path& path) {
  std::error_code ignored;  // whatever is wrong with the path, opening it will say
  const auto exists = [&](const Path& file) { return std::filesystem::exists(file, ignored); };
  Findings findings;
  if (!std::filesystem::is_directory(path, ignored)) {
    if (path.filename() == "config.json")
      findings.config = read_config_file(path);
    else
      findings.archive.emplace(path);
    return findings;
  }
  const bool has_config = exists(path / "config.json");
  if (has_config) findings.config = read_config_file(path / "config.json");
  // A folder with only a configuration is one half of a model; without it, the archive's own
  // message says what is missing.
  if (!has_config || exists(path / "model.safetensors") ||
      exists(path / "model.safetensors.index.json"))
    findings.archive.emplace(path);
  return findings;
}

std::string show_option(const OptionValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  if (const auto* integer = std::get_if<int64_t>(&value)) return fmt::format("{}", *integer);
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:g}", *number);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  std::string list = "[";
  for (const double number : std::get<std::vector<double>>(value))
    list += fmt::format("{}{:g}", list.size() == 1 ? "" : ", ", number);
  return list + "]";
}

// A parameter's weight, gradient and AdamW's two moments, in f32.
constexpr uint64_t kTrainingBytes = 16;

}  // namespace

BlockType as_f32(const std::string& /*name*/) {
  return BlockType::f32;
}

void print_model(const ModelConfig& c, const StoredTypes& type_of) {
  std::string options;
  for (const auto& [key, value] : c.attention.values)
    options += fmt::format(", {} {}", key, show_option(value));
  fmt::print("model       {}, {} parameters\n", c.architecture,
             format_count(static_cast<double>(parameter_count(c))));
  const std::string encoder =
      c.has_encoder() ? fmt::format("{} encoder and ", c.encoder_layers) : "";
  fmt::print("  shape     {}{} layers, hidden {}, intermediate {}\n", encoder, c.layers,
             c.hidden_size, c.intermediate_size);
  fmt::print("  attention {} heads on {} key-value heads of {}; {}{}\n", c.heads, c.kv_heads,
             c.head_dim, c.attention.mechanism, options);
  fmt::print("  tokens    vocabulary {}, context {}, {} embedding\n", c.vocab_size,
             c.context_length, c.tie_embeddings ? "tied" : "untied");
  try {
    const DecodeMemory memory = decode_memory(c, usual_context(c), type_of);
    fmt::print("  running   weights {}, embedding {}, cache {} for {} tokens\n",
               format_bytes(memory.weights), format_bytes(memory.embedding),
               format_bytes(memory.cache), usual_context(c));
  } catch (const Error& error) {  // a type that can be decoded, but not with
    fmt::print("  running   not in these types: {}\n", error.what());
  }
  fmt::print("  training  {} for weights, gradients and AdamW, and activations\n",
             format_bytes(kTrainingBytes * parameter_count(c)));
}

Json model_json(const ModelConfig& config, const StoredTypes& type_of) {
  const size_t context = usual_context(config);
  Json bytes = {{"training_without_activations", kTrainingBytes * parameter_count(config)}};
  try {
    const DecodeMemory memory = decode_memory(config, context, type_of);
    bytes.update({{"weights", memory.weights},
                  {"embedding", memory.embedding},
                  {"cache", memory.cache},
                  {"cache_tokens", context}});
  } catch (const Error& error) {
    bytes["cannot_run"] = error.what();
  }
  return {{"config", write_model_config(config, DType::f32)},
          {"parameters", parameter_count(config)},
          {"memory_bytes", bytes}};
}

std::string without_number(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part(name.data() + begin, end - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos)
      return name.substr(0, begin) + "*" + name.substr(end);
    begin = end + 1;
  }
  return name;
}

std::string printable(const std::string& name) {
  const std::string text = in_quotes(name, 200);
  return text.substr(1, text.size() - 2);
}

namespace {

// Tensors that differ only in the number of their layer, as one line of the table.
struct Row {
  std::string name;
  std::string dtype;
  Shape shape;
  size_t count = 0;
  uint64_t bytes = 0;
};

std::vector<Row> make_rows(const StoredTensors& tensors, bool all) {
  std::vector<Row> rows;
  std::map<std::string, size_t> known;  // by name, type and shape
  for (const auto& [name, tensor] : tensors) {
    const std::string shown = all ? name : without_number(name);
    const std::string key = shown + "\n" + tensor.dtype + "\n" + to_string(tensor.shape);
    const auto [place, fresh] = known.emplace(key, rows.size());
    if (fresh) rows.push_back({shown, tensor.dtype, tensor.shape});
    Row& row = rows[place->second];
    ++row.count;
    row.bytes += tensor.bytes.size();
  }
  return rows;
}

struct Totals {
  uint64_t elements = 0;
  uint64_t bytes = 0;
};

Totals totals(const StoredTensors& tensors) {
  Totals sum;
  for (const auto& [name, tensor] : tensors) {
    sum.elements += element_count(tensor.shape);
    sum.bytes += tensor.bytes.size();
  }
  return sum;
}

void print_archive(const TensorArchive& archive, bool all) {
  for (const TensorFileFacts& file : archive.files()) {
    fmt::print("file        {}: header {}, data {}\n", printable(file.path.string()),
               format_bytes(file.header_bytes), format_bytes(file.data_bytes));
    for (const auto& [key, value] : file.metadata)
      fmt::print("  {} = {}\n", printable(key), in_quotes(value));
  }
  const std::vector<Row> rows = make_rows(archive.tensors(), all);
  size_t name_width = 6;
  size_t shape_width = 5;
  for (const Row& row : rows) {
    name_width = std::max(name_width, printable(row.name).size());
    shape_width = std::max(shape_width, to_string(row.shape).size());
  }
  fmt::print("\n{:<{}}  {:>5}  {:<7}  {:<{}}  {:>10}\n", "tensor", name_width, "count", "type",
             "shape", shape_width, "size");
  for (const Row& row : rows)
    fmt::print("{:<{}}  {:>5}  {:<7}  {:<{}}  {:>10}\n", printable(row.name), name_width, row.count,
               row.dtype, to_string(row.shape), shape_width, format_bytes(row.bytes));
  const Totals sum = totals(archive.tensors());
  fmt::print("{} tensors, {} elements, {}\n", archive.tensors().size(), sum.elements,
             format_bytes(sum.bytes));
}

Json archive_json(const TensorArchive& archive) {
  Json files = Json::array();
  for (const TensorFileFacts& file : archive.files())
    files.push_back({{"path", file.path.string()},
                     {"header_bytes", file.header_bytes},
                     {"data_bytes", file.data_bytes},
                     {"metadata", file.metadata}});
  Json tensors = Json::array();
  for (const auto& [name, tensor] : archive.tensors())
    tensors.push_back({{"name", name},
                       {"dtype", tensor.dtype},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes.size()},
                       {"file", tensor.file}});
  const Totals sum = totals(archive.tensors());
  return {
      {"files", files},
      {"tensors", tensors},
      {"totals",
       {{"tensors", archive.tensors().size()}, {"elements", sum.elements}, {"bytes", sum.bytes}}}};
}

int run_inspect(const Options& options) {
  // A file that is called so and is none is refused as what it should be.
  if (is_gguf(options.path) || Path(options.path).extension() == ".gguf") {
    inspect_gguf(options.path, options.all, options.json);
    return 0;
  }
  const Findings findings = look(options.path);
  if (options.json) {
    Json result = {{"path", options.path}};
    if (findings.config) result["model"] = model_json(*findings.config, as_f32);
    if (findings.archive) result.update(archive_json(*findings.archive));
    fmt::print("{}", write_json(result));
    return 0;
  }
  if (findings.config) print_model(*findings.config, as_f32);
  if (findings.archive) print_archive(*findings.archive, options.all);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("PATH", "a GGUF or safetensors file, an index of shards, or a model folder",
                       options->path);
  arguments.flag("--all", "list every tensor, not one line for all layers", options->all);
  arguments.flag("--json", "print JSON, with every tensor", options->json);
  return [options] { return run_inspect(*options); };
}

}  // namespace

const Verb kInspectVerb{.name = "inspect",
                        .does = "Show what a model folder, GGUF or safetensors file holds",
                        .example =
                            "cairn inspect runs/demo/model\n"
                            "cairn inspect smollm2.gguf\n"
                            "cairn inspect model.safetensors --json",
                        .prepare = prepare};

}  // namespace cairn
