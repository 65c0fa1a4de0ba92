#include "cairn/infer/text_model.h"

#include <fmt/core.h>

#include <filesystem>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {

Tokenizer open_tokenizer(const Path& path) {
  const std::string doing = "opening " + path.string();
  if (is_gguf(path)) return load_tokenizer(path);
  std::error_code code;
  if (!std::filesystem::is_directory(path, code))
    throw Error(
        {.kind = ErrorKind::data,
         .doing = doing,
         .expected = "a GGUF file, or a folder with config.json, model.safetensors and "
                     "tokenizer.json (or spiece.model, tokenizer.model)",
         .found = std::filesystem::exists(path, code) ? "another file" : "no such file or folder"});
  const auto file = find_tokenizer(path);
  if (!file)
    throw Error({.kind = ErrorKind::data,
                 .doing = doing,
                 .expected = "tokenizer.json, spiece.model or tokenizer.model beside the weights",
                 .found = "none of them",
                 .hint = "copy it from where the model comes from, or from its training run"});
  return load_tokenizer(*file);
}

TextModel::TextModel(const Path& path, ThreadTeam& team, const EngineOptions& options)
    : tokenizer_(open_tokenizer(path)),
      engine_(open_decoder_weights(path), team, options),
      defaults_(read_generation_defaults(path)) {
  const size_t known = tokenizer_.vocab_size(), rows = engine_.config().vocab_size;
  if (known > rows)
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening " + path.string(),
                 .subject = "tokenizer",
                 .expected = fmt::format("at most {} tokens (rows of the embedding)", rows),
                 .found = std::to_string(known),
                 .hint = "is the tokenizer from another model?"});
}

}  // namespace cairn
