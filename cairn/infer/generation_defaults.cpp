#include "cairn/infer/generation_defaults.h"

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/infer/sampling_settings.h"
#include "cairn/io/json.h"

namespace cairn {

void GenerationDefaults::apply(SamplingOptions& options) const {
  for (const auto& [name, value] : sampling) try {
      set_sampling(options, name, value);
    } catch (const Error& error) {  // the same mistake, but in a file
      Problem problem = error.problem();
      problem.kind = ErrorKind::data;
      problem.doing = "reading " + source;
      throw Error(std::move(problem));
    }
}

GenerationDefaults read_generation_defaults(const Path& model) {
  // The settings that transformers means by the same words.
  constexpr std::array<const char*, 6> kShared = {"temperature", "top_k",     "top_p",
                                                  "min_p",       "typical_p", "repetition_penalty"};
  GenerationDefaults defaults;
  const Path path = model / "generation_config.json";
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) return defaults;
  defaults.source = path.string();
  const Json document = read_json(path, uint64_t{1} << 20);
  const JsonField config(document, path.string());
  if (const auto ends = config.find("eos_token_id")) {
    const auto add = [&](const JsonField& id) {
      defaults.end_ids.push_back(static_cast<int32_t>(id.as_integer(0, INT32_MAX)));
    };
    if (!ends->value().is_array()) add(*ends);
    if (ends->value().is_array())
      for (const JsonField& id : ends->elements()) add(id);
  }
  for (const char* name : kShared)
    if (const auto value = config.find(name))
      defaults.sampling.emplace_back(name, value->as_number());
  return defaults;
}

}  // namespace cairn
