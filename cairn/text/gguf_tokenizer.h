// Tokenizers as GGUF files describe them (the keys tokenizer.ggml.*), as plain data on the way to a
// TokenizerSpec. Whoever reads or writes GGUF fills or reads this struct; a SentencePiece model has
// the same parts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

// One member a key; absent keys are empty or -1.
struct GgufTokenizer {
  std::string model;                 // "gpt2", "llama" or "t5"
  std::string pre;                   // pre-tokenizer of gpt2
  std::vector<std::string> tokens;   // may be no UTF-8
  std::vector<float> scores;         // llama, t5
  std::vector<int32_t> token_types;  // empty: all normal
  std::vector<std::string> merges;   // "left right"
  int64_t bos_token_id = -1;
  int64_t eos_token_id = -1;
  int64_t unknown_token_id = -1;
  int64_t padding_token_id = -1;
  int64_t eot_token_id = -1;
  int64_t eom_token_id = -1;
  std::optional<bool> add_bos_token;  // absent: the model's habit
  std::optional<bool> add_eos_token;
  std::optional<bool> add_space_prefix;
  std::optional<bool> remove_extra_whitespaces;
  std::string precompiled_charsmap;
  std::string chat_template;
  std::map<std::string, std::string> named_templates;
};

// The tokenizer that the keys describe, as llama.cpp uses them. Throws Error (data) with the key:
// an unknown model or pre-tokenizer (the message lists those that are known), lists of different
// lengths, ids out of range, merges of no tokens.
TokenizerSpec spec_from_gguf(const GgufTokenizer& keys);

// The keys for a byte-level BPE or SentencePiece-like spec. Throws Error (usage) for tokenizers
// that GGUF has no keys for: another normalizer than NFC (which GGUF leaves out), a pre-tokenizer
// without a name.
GgufTokenizer gguf_from_spec(const TokenizerSpec& spec);

// The steps behind a name of tokenizer.ggml.pre; empty when it is unknown.
std::vector<PretokenizerStep> steps_of_pre(std::string_view name);

}  // namespace cairn
