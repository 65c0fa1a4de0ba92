// A JSON Schema from a stranger: a grammar that compiles, or a cairn::Error.
#include <cstdint>
#include <memory>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/text/grammar/automaton.h"
#include "cairn/text/grammar/json_schema.h"
#include "cairn/text/grammar/states.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto automaton =
        std::make_shared<GrammarAutomaton>(grammar_from_json_schema(text, "fuzz"), "fuzz");
    GrammarStates states(automaton, size_t{1} << 24);
    uint32_t at = states.start();
    for (const char byte : std::string_view("{\"a\": [1, \"x\"]}"))
      at = states.step(at, static_cast<uint8_t>(byte));
  } catch (const Error&) {
  }
  return 0;
}
