// Tokenizers as Hugging Face files: tokenizer.json (the `tokenizers` library) or a SentencePiece
// model (sentencepiece.h), and tokenizer_config.json (`transformers`). What cannot be done exactly
// is refused by its name and place in the file.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cairn/base/file.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// Reads the text of a tokenizer.json; `source` is what errors call it. Merges may be "a b" strings
// or pairs. `truncation` and `padding` are not part of a TokenizerSpec and are left out.
// Throws Error (data) with the path of the offending value. The tokens named in
// tokenizer_config.json stay unset.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& source);

// Sets the tokens for beginning, end and padding, the chat template and the longest input from the
// text of a tokenizer_config.json; beside a SentencePiece model also what that does not say: added
// tokens, and whether a text begins with bos and ends with eos. Unknown keys are left out. Throws
// Error (data), also for a tokenizer_class that numbers the pieces of a model otherwise.
void parse_tokenizer_config(std::string_view text, const std::string& source, TokenizerSpec& spec);

// The tokenizer's file in `folder`: tokenizer.json, or else spiece.model or tokenizer.model.
std::optional<Path> find_tokenizer(const Path& folder);

// That file and what belongs to it, of those that are there: what to copy with a model.
std::vector<Path> tokenizer_files(const Path& folder);

// Reads the keys of a GGUF file, or a tokenizer.json or SentencePiece model at `path` or in the
// folder `path`, and when they are beside it tokenizer_config.json, chat_template.jinja and
// additional_chat_templates/*.jinja. Throws Error (data).
Tokenizer load_tokenizer(const Path& path);

// The files' contents. Reading them gives an equal spec, except that tokens without an id stay so.
std::string tokenizer_json(const TokenizerSpec& spec);
std::string tokenizer_config(const TokenizerSpec& spec);

// Writes tokenizer.json, or spiece.model (unigram) or tokenizer.model (BPE) for what came from a
// SentencePiece model, and tokenizer_config.json into `folder`, which is made if need be.
void save_tokenizer(const TokenizerSpec& spec, const Path& folder);

}  // namespace cairn
