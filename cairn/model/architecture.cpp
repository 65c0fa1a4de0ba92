#include "cairn/model/architecture.h"

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

const std::array<const Architecture*, 10> kRegistry = {
    &kLlamaArchitecture,
    &kMistralArchitecture,
    &kGraniteArchitecture,
    &kGraniteMoeArchitecture,
    &kGraniteMoeSharedArchitecture,
    &kQwen2Architecture,
    &kQwen3Architecture,
    &kPhi3Architecture,
    &kGemma3Architecture,
    &kCairnArchitecture,
};

[[noreturn]] void refuse_class(const JsonField& field, const std::string& found) {
  std::vector<std::string> known;
  std::string list;
  for (const Architecture* architecture : kRegistry)
    for (const std::string_view name : architecture->classes) {
      known.emplace_back(name);
      list += (list.empty() ? "" : ", ") + std::string(name);
    }
  field.fail("one of " + list, did_you_mean(found, known));
}

// The architecture that reads this config.json.
const Architecture& architecture_of(const JsonField& config) {
  if (const auto classes = config.find("architectures")) {
    const auto names = classes->elements();
    if (names.empty()) classes->fail("the name of a class");
    const std::string name = names[0].as_string();
    for (const Architecture* architecture : kRegistry)
      for (const std::string_view known : architecture->classes)
        if (known == name) return *architecture;
    refuse_class(names[0], name);
  }
  const JsonField type = config.member("model_type");
  const std::string name = type.as_string();
  for (const Architecture* architecture : kRegistry)
    if (architecture->model_type == name) return *architecture;
  refuse_class(type, name);
}

Json ids(const std::vector<int32_t>& values) {
  if (values.empty()) return nullptr;
  if (values.size() == 1) return values[0];
  return values;
}

}  // namespace

const Architecture& find_architecture(std::string_view name) {
  std::vector<std::string> known;
  std::string list;
  for (const Architecture* architecture : kRegistry) {
    if (architecture->name == name) return *architecture;
    known.emplace_back(architecture->name);
    list += (list.empty() ? "" : ", ") + known.back();
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "model configuration",
               .subject = "architecture",
               .expected = "one of " + list,
               .found = in_quotes(name),
               .hint = did_you_mean(name, known)});
}

std::vector<StoredRows> stored_tensors(const ModelConfig& config) {
  const auto fused_of = find_architecture(config.architecture).fused;
  std::map<std::string, StoredRows> by_first_part;
  std::set<std::string> within;  // parts that are not the first
  if (fused_of != nullptr)
    for (StoredRows& rows : fused_of(config)) {
      within.insert(rows.parts.begin() + 1, rows.parts.end());
      const std::string first = rows.parts.front();
      by_first_part.emplace(first, std::move(rows));
    }
  std::vector<StoredRows> result;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (within.count(spec.name) != 0) continue;
    const auto fused = by_first_part.find(spec.name);
    if (fused == by_first_part.end())
      result.push_back({spec.name, {spec.name}});
    else
      result.push_back(fused->second);
  }
  return result;
}

ModelConfig read_model_config(const JsonField& config) {
  ModelConfig result = normalized(architecture_of(config).read(config));
  try {
    check_config(result);
  } catch (const Error& error) {  // the same mistake, but in a file rather than in a call
    Problem problem = error.problem();
    problem.kind = ErrorKind::data;
    problem.doing = config.source();
    throw Error(std::move(problem));
  }
  return result;
}

Json write_model_config(const ModelConfig& config, DType dtype) {
  return find_architecture(config.architecture).write(normalized(config), dtype);
}

Json write_generation_config(const ModelConfig& config) {
  Json result = {{"_from_model_config", true}};
  if (!config.bos_ids.empty()) result["bos_token_id"] = config.bos_ids[0];
  if (!config.eos_ids.empty()) result["eos_token_id"] = ids(config.eos_ids);
  if (config.pad_id) result["pad_token_id"] = *config.pad_id;
  return result;
}

}  // namespace cairn
