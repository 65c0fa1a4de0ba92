// A SentencePiece model from a stranger: reading it, and encoding with it, ends in a tokenizer that
// gives text back or in a cairn::Error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/text/sentencepiece.h"
#include "cairn/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    const cairn::TokenizerSpec spec = cairn::parse_sentencepiece(input, "fuzz");
    const cairn::Tokenizer tokenizer(spec);
    tokenizer.decode(tokenizer.encode(input, {.parse_special = true}));
    // What we write of it reads back the same.
    if (cairn::parse_sentencepiece(cairn::sentencepiece_model(spec), "written") != spec) {
      std::abort();
    }
  } catch (const cairn::Error&) {
  }
  return 0;
}
