// Byte-level BPE tokenizers as GGUF keys (tokenizer.ggml.model "gpt2"), both ways. Other models and
// pre-tokenizers are refused by name.
#pragma once

#include "cairn/io/gguf.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// Control tokens become special added tokens, user-defined ones added tokens that are not special.
// Throws Error (data) naming the key.
TokenizerSpec byte_level_bpe_from_gguf(const GgufArchive& archive);

// Sets tokenizer.ggml.* and tokenizer.chat_template. Ids up to `rows`, the rows of the embedding,
// that the tokenizer does not know become unused tokens "[PADn]". Throws Error (usage) when the
// rules of the tokenizer have no name in GGUF.
void byte_level_bpe_to_gguf(const TokenizerSpec& spec, size_t rows, GgufMetadata& metadata);

}  // namespace cairn
