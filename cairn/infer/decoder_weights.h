// The weights of a model where they are stored, by what they are for: what the engine compiles
// from, whether they lie in a mapped GGUF file or in a Model. Nothing is decoded or copied but the
// vectors (norms, biases, the mechanism's own), which are f32 here.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/model/config.h"
#include "cairn/model/model.h"
#include "cairn/tensor/block_type.h"

namespace cairn {

// A matrix [rows, cols] in a stored type. Borrows its bytes.
struct StoredMatrix {
  BlockType type = BlockType::f32;
  size_t rows = 0;
  size_t cols = 0;
  const std::byte* data = nullptr;
  size_t rotary_head = 0;  // not 0: rows stand in GGUF's order, heads of this size (model/gguf.h)

  size_t row_bytes() const { return block_row_bytes(type, cols); }
  // Row `index` in the order of Hugging Face files.
  const std::byte* row(size_t index) const;
};

// One expert of a mixture.
struct ExpertWeights {
  StoredMatrix gate, up;  // [intermediate_size, hidden_size]
  StoredMatrix down;      // [hidden_size, intermediate_size]
};

// A branch of attention and an MLP behind it. The layer of an encoder-decoder's decoder, which has
// two branches of attention, is two of these: one without an MLP, and one that reads the source.
struct DecoderLayerWeights {
  std::vector<float> attention_norm, attention_post_norm;  // [hidden_size]; empty: none
  std::vector<float> mlp_norm, mlp_post_norm;
  bool reads_source = false;  // keys and values are of readers of the encoder; no k, v
  StoredMatrix q, k, v;       // [heads * head_dim, hidden_size]
  StoredMatrix o;             // [hidden_size, heads * head_dim]
  StoredMatrix gate, up;      // [intermediate_size, hidden_size]; gate may have no rows
  StoredMatrix down;          // [hidden_size, intermediate_size]; no rows: no MLP
  // With experts; the last three are then those of the shared one, or have no rows.
  StoredMatrix router;  // [experts, hidden_size]
  std::vector<ExpertWeights> experts;
  std::vector<float> q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;  // or empty
  std::vector<std::vector<float>> attention_parameters;  // as the mechanism names them
};

// What a decoder's layers make of the encoder's output.
struct SourceReader {
  StoredMatrix k, v;  // [kv_heads * head_dim, hidden_size]
};

// A stack of layers between an embedding and what reads the last norm: a head, or, of an encoder,
// the layers of the decoder.
struct DecoderWeights {
  ModelConfig config;
  StoredMatrix embedding, head;  // [vocab_size, hidden_size]; the same when tied
  std::vector<float> final_norm;
  std::vector<DecoderLayerWeights> layers;
  std::vector<SourceReader> readers;              // in the order of the layers that read a source
  std::shared_ptr<const DecoderWeights> encoder;  // of an encoder-decoder's decoder
  std::shared_ptr<const void> keeper;  // of what the matrices borrow, where somebody must
};

// Of a model, whose matrices are borrowed.
DecoderWeights decoder_weights(const Model& model);
// Of a model that lives on in the result.
DecoderWeights decoder_weights(Model&& model);
// Of a GGUF file, or one of a set of shards, that stays mapped. Throws Error (data) when a tensor
// is missing, has another shape, or a type without a decoder.
DecoderWeights open_gguf_weights(const Path& path);
// Of a Hugging Face folder, which stays mapped: f32, f16 or bf16 as stored. Throws Error (data)
// when a file is absent or not what config.json says.
DecoderWeights open_folder_weights(const Path& folder);
// Of a GGUF file or of a folder.
DecoderWeights open_decoder_weights(const Path& path);

}  // namespace cairn
