// A model folder opened for generating text: tokenizer and engine side by side.
#pragma once

#include "cairn/base/file.h"
#include "cairn/infer/engine.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

class TextModel {
 public:
  // Reads config.json, *.safetensors, tokenizer.json and, if there, tokenizer_config.json. `team`
  // must outlive it. Throws Error (data) when the folder or a file is absent or not what it should
  // be, and when the tokenizer knows more tokens than the model has.
  TextModel(const Path& folder, ThreadTeam& team, const EngineOptions& options = {});

  const Tokenizer& tokenizer() const { return tokenizer_; }
  Engine& engine() { return engine_; }

 private:
  Tokenizer tokenizer_;
  Engine engine_;
};

}  // namespace cairn
