// trainer.json of a checkpoint: what is accepted must survive writing and reading again.
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/train/state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    cairn::CheckpointFacts facts, again;
    const cairn::Json document = cairn::parse_json(text, "trainer.json");
    const cairn::TrainState state = cairn::state_from_json(document, "trainer.json", facts);
    const cairn::Json written = cairn::state_to_json(state, facts);
    const cairn::TrainState second = cairn::state_from_json(written, "again", again);
    if (cairn::write_json(cairn::state_to_json(second, again)) != cairn::write_json(written))
      std::abort();
  } catch (const cairn::Error&) {
  }
  return 0;
}
