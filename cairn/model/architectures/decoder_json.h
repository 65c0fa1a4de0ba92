// What the config.json files of decoder families say in the same words, read and written in one
// place. Each family adds its own keys in its own file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cairn/model/architecture.h"

namespace cairn {

// Sizes that the text part of a multimodal model may leave out; other files say them all.
struct DecoderSizes {
  size_t vocab_size = 32000;
  size_t hidden_size = 4096;
  size_t intermediate_size = 11008;
  size_t layers = 32;
  size_t heads = 32;
  size_t kv_heads = 0;  // 0: as many as heads
};

// What transformers assumes where a file is silent; differs between families.
struct DecoderDefaults {
  DecoderSizes sizes;
  double rope_theta = 10000;
  double rms_norm_eps = 1e-6;
  size_t context_length = 2048;
  bool tie_embeddings = false;
};

// Sizes, norms, tied head, rotary positions and special tokens. Throws Error (data) naming the
// field. `architecture` is left to the family.
ModelConfig read_decoder(const JsonField& config, const DecoderDefaults& defaults);

// The ids at which texts begin, end and are padded, as far as `config` has them.
void read_special_ids(const JsonField& config, ModelConfig& c);

// Class, type of the weights and ids as every family writes them.
Json write_ids(const ModelConfig& config, std::string_view class_name, std::string_view type,
               DType dtype);

// Sizes, norms, head and ids as every decoder's family writes them: {"architectures": [class_name],
// "model_type": type, ...}. Rotary positions are left out; see write_rope.
Json write_decoder(const ModelConfig& config, std::string_view class_name, std::string_view type,
                   DType dtype);

// Rotary positions into options of softmax attention: "rope_theta" and "rope_scaling", or
// "rope_parameters" as newer files have it. The context of `c` becomes what the kind of scaling
// reaches.
AttentionOptions read_rope(const JsonField& config, ModelConfig& c, double default_theta);
// The same of one "rope_parameters" object.
AttentionOptions read_rope_parameters(const JsonField& rope, const JsonField& config,
                                      ModelConfig& c, double default_theta);
// Adds them to `config`; false when `options` say more than those keys can.
bool write_rope(const AttentionOptions& options, const ModelConfig& c, Json& config);

// Throws the field's error unless it is absent, null or one of the values that change nothing.
void require_absent(const JsonField& config, const char* key);
void require_false(const JsonField& config, const char* key);
bool read_flag(const JsonField& config, const char* key, bool otherwise);
double read_number(const JsonField& config, const char* key, double otherwise);
size_t read_size(const JsonField& config, const char* key, size_t otherwise);

// "hidden_act" or "hidden_activation" as a gate.
Gate read_gate(const JsonField& config, Gate otherwise);
const char* gate_name(Gate gate);

// Layers that attend through a sliding window, from "layer_types" ("sliding_attention" or
// "full_attention" each); empty when there is no such key.
std::vector<uint8_t> read_layer_types(const JsonField& config, size_t layers);
Json write_layer_types(const ModelConfig& config);

}  // namespace cairn
