// config.json: what is accepted must survive writing and reading again.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/model/architecture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const cairn::Json document =
        cairn::parse_json({reinterpret_cast<const char*>(data), size}, "config.json");
    const cairn::ModelConfig config =
        cairn::read_model_config(cairn::JsonField(document, "config.json"));
    const cairn::Json written = cairn::write_model_config(config, cairn::DType::f32);
    if (!(cairn::read_model_config(cairn::JsonField(written, "again")) == config)) std::abort();
  } catch (const cairn::Error&) {
  }
  return 0;
}
