// A grammar from a stranger: reading, compiling and using it ends in states or in a cairn::Error,
// within bounded memory.
#include <cstdint>
#include <memory>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/text/grammar/automaton.h"
#include "cairn/text/grammar/gbnf.h"
#include "cairn/text/grammar/states.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto automaton = std::make_shared<GrammarAutomaton>(parse_gbnf(text, "fuzz"), "fuzz");
    GrammarStates states(automaton, size_t{1} << 24);
    uint32_t at = states.start();
    for (size_t i = 0; i < size && i < 200 && at != GrammarStates::kDead; ++i)
      at = states.step(at, data[i]);
  } catch (const Error&) {
  }
  return 0;
}
