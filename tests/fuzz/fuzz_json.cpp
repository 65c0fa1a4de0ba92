// Strict JSON: whatever parses must survive writing and parsing again.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const cairn::Json value =
        cairn::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz.json");
    if (cairn::parse_json(cairn::write_json(value), "again") != value) std::abort();
    const cairn::JsonField field(value, "fuzz.json");
    if (value.is_object())
      for (const std::string& key : field.keys()) field.member(key).as_number();
  } catch (const cairn::Error&) {  // the only way a bad document may end
  }
  return 0;
}
