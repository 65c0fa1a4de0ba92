// What the inspections of several kinds of files share.
#pragma once

#include <functional>
#include <string>

#include "cairn/infer/decode_memory.h"
#include "cairn/io/json.h"
#include "cairn/model/config.h"

namespace cairn {

// The type that a tensor has in memory, by its name in Hugging Face files, whose weights are all
// widened.
using StoredTypes = std::function<BlockType(const std::string& name)>;
BlockType as_f32(const std::string& name);

// What a model is and how much memory it takes.
void print_model(const ModelConfig& config, const StoredTypes& type_of);
Json model_json(const ModelConfig& config, const StoredTypes& type_of);

// A name as it may be shown: what a file's names hold is not for the terminal to interpret.
std::string printable(const std::string& name);
// "model.layers.7.mlp.up_proj.weight" as "model.layers.*.mlp.up_proj.weight".
std::string without_number(const std::string& name);

// `cairn inspect FILE.gguf`: header, metadata, tokenizer and tensors.
void inspect_gguf(const std::string& path, bool all, bool json);

}  // namespace cairn
