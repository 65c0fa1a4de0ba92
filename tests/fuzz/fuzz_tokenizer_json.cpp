// A tokenizer.json from a stranger: reading it, and encoding with it, ends in a tokenizer that
// gives text back or in a cairn::Error.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    cairn::TokenizerSpec spec = cairn::parse_tokenizer_json(input, "fuzz");
    const cairn::Tokenizer tokenizer(spec);
    const std::vector<int32_t> ids = tokenizer.encode(input, {.parse_special = true});
    tokenizer.decode(ids);
    // What we write of it reads back the same.
    if (cairn::parse_tokenizer_json(cairn::tokenizer_json(spec), "written") != tokenizer.spec()) {
      std::abort();
    }
  } catch (const cairn::Error&) {
  }
  try {
    cairn::TokenizerSpec spec;
    cairn::parse_tokenizer_config(input, "fuzz", spec);
  } catch (const cairn::Error&) {
  }
  return 0;
}
