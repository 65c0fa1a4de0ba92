// The tokenizer's keys in GGUF files (tokenizer.ggml.*, tokenizer.chat_template): where
// gguf_tokenizer.h meets io/gguf.h.
#pragma once

#include "cairn/io/gguf.h"
#include "cairn/text/gguf_tokenizer.h"

namespace cairn {

// The tokenizer of a file. Throws Error (data) naming the key that is absent, wrong or unknown.
TokenizerSpec tokenizer_from_gguf(const GgufArchive& archive);

// Sets the keys of `spec`. Ids below `rows`, the rows of the embedding, that the tokenizer does not
// know become unused tokens "[PADn]". Throws Error (usage) when GGUF has no keys for it.
void tokenizer_to_gguf(const TokenizerSpec& spec, size_t rows, GgufMetadata& metadata);

}  // namespace cairn
