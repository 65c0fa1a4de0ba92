// A chat template from a stranger: parsing and rendering it ends in text or in a cairn::Error,
// soon, and what users wrote stays inside the text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cairn/base/error.h"
#include "cairn/text/jinja/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn::jinja;
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  try {
    Dict globals;
    globals.set(Value("messages"),
                from_json(R"([{"role": "user", "content": "a <b>\n", "n": [1, 2.5, null]},
                              {"role": "assistant", "content": null, "tool_calls": [{"id": {}}]}])",
                          "messages", true));
    globals.set(Value("bos_token"), Value("<s>"));
    RenderOptions options;
    options.limits = {.steps = 100'000, .output = 1 << 20, .memory = 1 << 24, .depth = 200};
    const Rendered out = Template(source, "fuzz").render(globals, options);
    size_t last = 0;
    for (const cairn::TextRange& range : out.user) {
      if (range.begin < last || range.end <= range.begin || range.end > out.text.size())
        std::abort();
      last = range.end;
    }
  } catch (const cairn::Error&) {
  }
  return 0;
}
