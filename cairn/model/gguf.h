// Models in GGUF files: names, row order, values and configuration, both ways. Which keys and
// tensors such a file has is set by llama.cpp (github.com/ggml-org/llama.cpp, gguf-py/gguf).
//
// What stands otherwise there than in Hugging Face files, and in this library:
//   - The architectures llama and granite rotate neighbouring pairs (2i, 2i + 1) of a head, Hugging
//     Face files pairs (i, i + head_dim / 2): the rows of q_proj and k_proj change places. Whole
//     rows move, so this is exact for quantised rows too. qwen, phi3 and gemma3 keep the order.
//   - Experts' gates and ups are two tensors, not the halves of one.
//   - The gains of Gemma's norms hold the 1 that is added to them.
//   - Some scaled rotary positions are a tensor of factors.
//   - T5's blocks are enc.blk.N and dec.blk.N.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/io/gguf.h"
#include "cairn/model/config.h"
#include "cairn/model/model.h"

namespace cairn {

// Where the rows of a GGUF tensor lie in its Hugging Face one.
struct RowOrder {
  size_t rotary_head = 0;  // not 0: pairs side by side within heads of this size
  // The tensor has `group` rows of every `stride` of the other, from row `first` on; group 0: all.
  size_t group = 0, stride = 0, first = 0;

  size_t hf_row(size_t gguf_row) const;
};

// Where a row of q_proj or k_proj lies among pairs side by side.
constexpr size_t gguf_row(size_t hf_row, size_t head_dim) {
  const size_t at = hf_row % head_dim, half = head_dim / 2;
  return hf_row - at + (at < half ? 2 * at : 2 * (at - half) + 1);
}

// One tensor under both names.
struct GgufName {
  std::string hf;    // "model.layers.0.self_attn.q_proj.weight", as files have it
  std::string gguf;  // "blk.0.attn_q.weight"
  Shape hf_shape;    // [out, in] or [size]
  Shape shape;       // in GGUF, outermost first
  RowOrder order;
  double offset = 0;  // what GGUF adds to each value

  // As rows that move whole: of a vector whose elements change places, each is a row.
  size_t cols() const { return order.rotary_head != 0 && shape.size() == 1 ? 1 : shape.back(); }
  size_t rows() const { return element_count(shape) / cols(); }
};

// All tensors of a model, in stored order. Throws Error (usage) for a model of a family that GGUF
// does not know.
std::vector<GgufName> gguf_names(const ModelConfig& config);

// A tensor that GGUF has beside the weights: factors of rotary frequencies.
struct GgufTable {
  std::string name;
  std::vector<float> values;
};
std::vector<GgufTable> gguf_tables(const ModelConfig& config);

// The description of the model in a file, checked. `eos_ids` are all tokens that end a text: those
// of eos, eot and eom, and control tokens that are spelled like one (<|im_end|>, </s>, ...).
// Throws Error (data) naming the key that is missing, wrong or not supported.
ModelConfig read_gguf_config(const GgufArchive& archive);

// Sets general.architecture, the keys of the architecture and the ids
// tokenizer.ggml.{bos,eos,padding}_token_id. Throws Error (usage) for a model that GGUF cannot say.
void write_gguf_config(const ModelConfig& config, GgufMetadata& metadata);

// The weights as f32, whatever their type in the file. Every tensor must be there with the shape
// that the keys imply, and no other. Throws Error (data) naming file and tensor.
Model load_gguf_model(const Path& path);

// Every tensor of the model there, with its shape and a type that can be decoded, and no other.
// Throws Error (data) naming file and tensor.
void check_gguf_tensors(const GgufArchive& archive, const ModelConfig& config);

}  // namespace cairn
