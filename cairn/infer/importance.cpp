#include "cairn/infer/importance.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/infer/engine.h"
#include "cairn/io/gguf.h"
#include "cairn/io/json.h"
#include "cairn/model/architecture.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/model/gguf.h"

namespace cairn {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

[[noreturn]] void refuse(const Path& path, std::string_view tensor, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::data,
               .doing = "reading " + path.string(),
               .subject = "tensor " + in_quotes(tensor),
               .expected = expected,
               .found = found});
}

// Which activations of a layer the products of each matrix read, by its GGUF name.
struct Reader {
  std::string gguf;
  size_t layer;
  ProductInput input;
};

std::vector<Reader> readers_of(const ModelConfig& config) {
  std::map<std::string, std::vector<std::string>> gguf;  // by the name in Hugging Face files
  for (const GgufName& name : gguf_names(config)) gguf[name.hf].push_back(name.gguf);
  std::map<std::string, std::vector<std::string>> by_part;
  for (const StoredRows& stored : stored_tensors(config))
    for (const std::string& part : stored.parts) by_part[part] = gguf[stored.name];
  std::vector<Reader> readers;
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const LayerNames names = layer_names(config, layer);
    const auto add = [&](const std::string& part, ProductInput input) {
      if (part.empty()) return;
      for (const std::string& name : by_part.at(part))
        if (readers.empty() || readers.back().gguf != name) readers.push_back({name, layer, input});
    };
    for (const auto* part : {&names.q, &names.k, &names.v}) add(*part, ProductInput::qkv);
    add(names.o, ProductInput::o);
    for (const auto* part : {&names.gate, &names.up, &names.shared_gate_up})
      add(*part, ProductInput::gate_up);
    for (const auto* part : {&names.down, &names.shared_down}) add(*part, ProductInput::down);
    add(names.experts_gate_up, ProductInput::experts_gate_up);
    add(names.experts_down, ProductInput::experts_down);
  }
  return readers;
}

std::vector<float> floats_of(const Path& path, const GgufTensor& tensor) {
  if (tensor.type != BlockType::f32)
    refuse(path, tensor.name, "f32", std::string(block_type_name(tensor.type)));
  std::vector<float> values(element_count(tensor.shape));
  std::copy(tensor.bytes.begin(), tensor.bytes.end(), reinterpret_cast<std::byte*>(values.data()));
  return values;
}

}  // namespace

ImportanceSums gather_importance(const Path& model, std::span<const int32_t> tokens,
                                 const ImportanceOptions& options, ThreadTeam& team,
                                 const std::function<void(uint64_t)>& done) {
  if (tokens.empty() || options.chunk_tokens == 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "measuring which columns matter",
                 .expected = "a text and chunks of at least a token",
                 .found = "nothing to read"});
  const DecoderWeights weights = open_decoder_weights(model);
  const size_t length =
      std::min({options.chunk_tokens, tokens.size(), weights.config.context_length});
  uint64_t chunks = tokens.size() / length;
  if (options.chunks != 0) chunks = std::min(chunks, options.chunks);
  Engine engine(weights, team, {.context = length});
  Session session = engine.start();  // refuses models that are no decoder alone
  ActivationSquares squares(engine.config());
  const std::vector<Reader> readers = readers_of(engine.config());
  std::vector<int32_t> chunk;
  for (uint64_t i = 0; i < chunks; ++i) {
    const auto from = tokens.subspan(i * length, length);
    chunk.assign(from.begin(), from.end());
    if (options.begin) chunk.front() = *options.begin;
    session.truncate(0);
    session.append(chunk, squares);
    if (done) done(length);
  }
  ImportanceSums sums;
  sums.chunks = static_cast<uint32_t>(chunks);
  sums.chunk_tokens = static_cast<uint32_t>(length);
  for (const Reader& reader : readers)
    sums.tensors[reader.gguf] = {squares.sums(reader.layer, reader.input),
                                 squares.counts(reader.layer, reader.input)};
  return sums;
}

ImportanceMatrix means_of(const ImportanceSums& sums) {
  ImportanceMatrix matrix;
  for (const auto& [name, tensor] : sums.tensors) {
    const size_t cols = tensor.squares.size() / std::max<size_t>(1, tensor.counts.size());
    std::vector<float> means(tensor.squares.size(), 1.0F);
    for (size_t at = 0; at < means.size(); ++at) {
      const float count = tensor.counts[at / cols];
      if (count > 0) means[at] = tensor.squares[at] / count;
      if (!(means[at] >= 0) || means[at] > 1e30F)
        throw Error({.kind = ErrorKind::data,
                     .doing = "reading an importance matrix",
                     .subject = "tensor " + in_quotes(name),
                     .expected = "finite sums of squares"});
    }
    matrix.emplace(name, std::move(means));
  }
  return matrix;
}

ImportanceSums read_importance_sums(const Path& path) {
  const GgufArchive archive(path);
  const GgufValue type = archive.at("general.type");
  if (type.as_string() != "imatrix") type.fail("\"imatrix\"");
  ImportanceSums sums;
  for (size_t i = 0; i < archive.tensor_count(); ++i) {
    const GgufTensor squares = archive.tensor(i);
    if (squares.name.size() <= kSums.size() ||
        squares.name.substr(squares.name.size() - kSums.size()) != kSums)
      continue;
    const std::string name(squares.name.substr(0, squares.name.size() - kSums.size()));
    ImportanceSums::Tensor tensor{floats_of(path, squares),
                                  floats_of(path, archive.tensor(name + std::string(kCounts)))};
    if (tensor.counts.empty() ||
        tensor.squares.size() != tensor.counts.size() * squares.shape.back())
      refuse(path, name + std::string(kCounts), "a count for each matrix",
             std::to_string(tensor.counts.size()));
    sums.tensors.emplace(name, std::move(tensor));
  }
  return sums;
}

void write_importance_sums(const Path& path, const ImportanceSums& sums) {
  GgufMetadata metadata;
  metadata.set_string("general.type", "imatrix");
  metadata.set_strings("imatrix.datasets", std::array{sums.text});
  metadata.set_u32("imatrix.chunk_count", sums.chunks);
  metadata.set_u32("imatrix.chunk_size", sums.chunk_tokens);
  std::vector<GgufEntry> entries;
  std::vector<const std::vector<float>*> values;
  for (const auto& [name, tensor] : sums.tensors) {
    const size_t matrices = tensor.counts.size();
    entries.push_back(
        {name + std::string(kSums), BlockType::f32, {matrices, tensor.squares.size() / matrices}});
    entries.push_back({name + std::string(kCounts), BlockType::f32, {matrices, 1}});
    values.insert(values.end(), {&tensor.squares, &tensor.counts});
  }
  write_gguf(path, metadata, entries, [&](size_t index, ByteSink sink) {
    sink(values[index]->data(), values[index]->size() * sizeof(float));
  });
}

}  // namespace cairn
