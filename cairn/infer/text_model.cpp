#include "cairn/infer/text_model.h"

#include <fmt/core.h>

#include <filesystem>

#include "cairn/base/error.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

Tokenizer open_tokenizer(const Path& folder) {
  const std::string doing = "opening " + folder.string();
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code))
    throw Error({.kind = ErrorKind::data,
                 .doing = doing,
                 .expected = "a folder with config.json, model.safetensors and tokenizer.json",
                 .found = std::filesystem::exists(folder, code) ? "a file" : "no such folder"});
  const Path file = folder / "tokenizer.json";
  if (!std::filesystem::exists(file, code))
    throw Error({.kind = ErrorKind::data,
                 .doing = doing,
                 .expected = "tokenizer.json beside the weights",
                 .found = "no such file",
                 .hint = "copy it from where the model comes from, or from its training run"});
  return load_tokenizer(file);
}

}  // namespace

TextModel::TextModel(const Path& folder, ThreadTeam& team, const EngineOptions& options)
    : tokenizer_(open_tokenizer(folder)), engine_(load_model(folder), team, options) {
  const size_t known = tokenizer_.vocab_size(), rows = engine_.config().vocab_size;
  if (known > rows)
    throw Error({.kind = ErrorKind::data,
                 .doing = "opening " + folder.string(),
                 .subject = "tokenizer.json",
                 .expected = fmt::format("at most {} tokens (vocab_size of config.json)", rows),
                 .found = std::to_string(known),
                 .hint = "is the tokenizer from another model?"});
}

}  // namespace cairn
