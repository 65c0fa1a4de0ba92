// Training configurations: what is accepted must print to text that reads back to the same values.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/train/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  cairn::TrainConfig config;
  try {
    config = cairn::parse_config(text, "fuzz.toml", {});
  } catch (const cairn::Error&) {
    return 0;
  }
  const cairn::TrainConfig again = cairn::parse_config(cairn::print_config(config), "again", {});
  if (!cairn::compare_configs(config, again).empty()) std::abort();
  return 0;
}
