// From the spellings of tokens to text: the decoder of a tokenizer.json. Every step but the end of
// the chain works on one token at a time, so a token's text depends only on whether it comes first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Immutable after construction; any thread may use it.
class TokenDecoder {
 public:
  // Throws Error (data) for a chain that needs more than one token at a time (a strip of the whole
  // text's end).
  explicit TokenDecoder(std::vector<DecoderStep> steps = {});

  // The bytes that a token of this spelling stands for, as the first token of a text or later.
  std::string bytes(std::string_view spelling, bool first) const;

  // Whether bytes() differs for a first token.
  bool first_differs() const { return first_differs_; }

  // What is taken from the start of a whole text: up to `count` times the character.
  struct Strip {
    std::string content;
    size_t count = 0;
  };
  const Strip& text_strip() const { return text_strip_; }

 private:
  std::vector<DecoderStep> steps_;  // those of single tokens
  Strip text_strip_;
  bool first_differs_ = false;
};

// `text` without the strip's character at its start, at most `strip.count` times.
std::string_view strip_start(std::string_view text, const TokenDecoder::Strip& strip);

}  // namespace cairn
