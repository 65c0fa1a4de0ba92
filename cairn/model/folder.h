// A Hugging Face folder of a decoder: config.json and *.safetensors, opened and held against each
// other, nothing loaded. Of a multimodal model (LLaVA, Gemma 3, Idefics 3, ...) the language model
// is taken and the rest left aside, with a line in the log that names it.
#pragma once

#include "cairn/base/file.h"
#include "cairn/io/safetensors.h"
#include "cairn/model/config.h"

namespace cairn {

struct ModelFolder {
  ModelConfig config;     // tie_embeddings as the files have it
  TensorArchive archive;  // its tensors under the names of a text model
};

// Throws Error (data) naming file, field or tensor: every tensor of the model must be there with
// its shape as f32, f16 or bf16, and no other.
ModelFolder open_model_folder(const Path& folder);

}  // namespace cairn
