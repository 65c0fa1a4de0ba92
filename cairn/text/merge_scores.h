// SentencePiece scores for BPE models that list their merges: GGUF has no other form for models
// over characters (Gemma, Mistral, Phi-3, Llama 2 as Hugging Face files have them).
#pragma once

#include <optional>
#include <vector>

#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Scores by id under which merging neighbours into the token of the highest score is merging by
// rank; tokens whose merges interleave, as equal scores leave them, share one. Empty when the
// merges are not what scores allow: every way to halve a token into two tokens.
std::optional<std::vector<double>> scores_of_merges(const TokenizerSpec& spec);

}  // namespace cairn
