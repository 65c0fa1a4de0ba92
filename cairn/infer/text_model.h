// A model folder or GGUF file opened for generating text: tokenizer and engine side by side.
#pragma once

#include "cairn/base/file.h"
#include "cairn/infer/engine.h"
#include "cairn/infer/generation_defaults.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// The tokenizer of a model folder or GGUF file. Throws Error (data).
Tokenizer open_tokenizer(const Path& path);

class TextModel {
 public:
  // Reads config.json, *.safetensors, tokenizer.json and, if there, tokenizer_config.json and
  // generation_config.json from a folder, or all of it from a GGUF file. `team` must outlive it.
  // Throws Error (data) when a file is absent or not what it should be, and when the tokenizer
  // knows more tokens than the model has.
  TextModel(const Path& path, ThreadTeam& team, const EngineOptions& options = {});

  const Tokenizer& tokenizer() const { return tokenizer_; }
  Engine& engine() { return engine_; }
  // What its makers recommend for generating with it.
  const GenerationDefaults& defaults() const { return defaults_; }

 private:
  Tokenizer tokenizer_;
  Engine engine_;
  GenerationDefaults defaults_;
};

}  // namespace cairn
