// Llama-shaped models in GGUF files: names, row order and configuration, both ways. Which keys and
// tensors such a file has is set by llama.cpp (github.com/ggml-org/llama.cpp, gguf-py/gguf).
//
// GGUF's "llama" rotates neighbouring pairs (2i, 2i + 1) of a head, Hugging Face files and this
// library pairs (i, i + head_dim / 2): the rows of q_proj and k_proj stand in another order. Whole
// rows move, so this is exact for quantised rows too.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/io/gguf.h"
#include "cairn/model/config.h"
#include "cairn/model/model.h"

namespace cairn {

// One tensor under both names.
struct GgufName {
  std::string hf;       // "model.layers.0.self_attn.q_proj.weight"
  std::string gguf;     // "blk.0.attn_q.weight"
  Shape shape;          // [out, in] or [size], the same in both
  bool rotary = false;  // rows are in GGUF's order there: gguf_row
};

// All tensors of a model, in the order of parameter_specs. Throws Error (usage) for a model that
// GGUF's "llama" cannot say: another attention mechanism, or no rotary positions.
std::vector<GgufName> gguf_names(const ModelConfig& config);

// Where a row of q_proj or k_proj lies in GGUF, and back.
constexpr size_t gguf_row(size_t hf_row, size_t head_dim) {
  const size_t at = hf_row % head_dim, half = head_dim / 2;
  return hf_row - at + (at < half ? 2 * at : 2 * (at - half) + 1);
}
constexpr size_t hf_row(size_t gguf_row, size_t head_dim) {
  const size_t at = gguf_row % head_dim;
  return gguf_row - at + at / 2 + (at % 2) * (head_dim / 2);
}

// The description of the model in a file, checked. `eos_ids` are all tokens that end a text: those
// of eos, eot and eom, and control tokens that are spelled like one (<|im_end|>, </s>, ...).
// Throws Error (data) naming the key that is missing, wrong or not supported.
ModelConfig read_gguf_config(const GgufArchive& archive);

// Sets general.architecture, llama.* and the ids tokenizer.ggml.{bos,eos,padding}_token_id.
void write_gguf_config(const ModelConfig& config, GgufMetadata& metadata);

// The weights as f32, whatever their type in the file. Every tensor must be there with the shape
// that the keys imply, and no other. Throws Error (data) naming file and tensor.
Model load_gguf_model(const Path& path);

// Every tensor of the model there, with its shape and a type that can be decoded, and no other.
// Throws Error (data) naming file and tensor.
void check_gguf_tensors(const GgufArchive& archive, const ModelConfig& config);

}  // namespace cairn
