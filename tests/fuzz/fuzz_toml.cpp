// TOML documents, and single values as they stand on a command line.
#include "cairn/base/error.h"
#include "cairn/io/toml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    cairn::parse_toml(text, "fuzz.toml");
  } catch (const cairn::Error&) {
  }
  try {
    cairn::parse_toml_value(text, "--fuzz");
  } catch (const cairn::Error&) {
  }
  return 0;
}
