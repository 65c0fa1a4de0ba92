#include "cairn/model/architecture.h"

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/model/architectures/decoder_json.h"

namespace cairn {
namespace {

const std::array<const Architecture*, 11> kRegistry = {
    &kLlamaArchitecture,
    &kMistralArchitecture,
    &kGraniteArchitecture,
    &kGraniteMoeArchitecture,
    &kGraniteMoeSharedArchitecture,
    &kQwen2Architecture,
    &kQwen3Architecture,
    &kPhi3Architecture,
    &kGemma3Architecture,
    &kT5Architecture,
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

const Architecture& architecture_of_type(const JsonField& type) {
  const std::string name = type.as_string();
  std::vector<std::string> known;
  std::string list;
  for (const Architecture* architecture : kRegistry) {
    if (architecture->model_type == name) return *architecture;
    known.emplace_back(architecture->model_type);
    list += (list.empty() ? "" : ", ") + known.back();
  }
  type.fail("one of " + list, did_you_mean(name, known));
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
  return architecture_of_type(config.member("model_type"));
}

// The text part of a multimodal model: what is nested, and what the whole says for it.
ModelConfig read_text_part(const JsonField& whole) {
  const JsonField text = whole.member("text_config");
  require_absent(whole, "quantization_config");
  ModelConfig config = architecture_of_type(text.member("model_type")).read(text);
  read_special_ids(whole, config);
  config.tie_embeddings = read_flag(whole, "tie_word_embeddings", config.tie_embeddings);
  return config;
}

Json ids(const std::vector<int32_t>& values) {
  if (values.empty()) return nullptr;
  if (values.size() == 1) return values[0];
  return values;
}

}  // namespace

std::vector<std::string> architecture_names() {
  std::vector<std::string> names;
  for (const Architecture* architecture : kRegistry) names.emplace_back(architecture->name);
  return names;
}

const Architecture& find_architecture(std::string_view name) {
  for (const Architecture* architecture : kRegistry)
    if (architecture->name == name) return *architecture;
  const std::vector<std::string> known = architecture_names();
  std::string list;
  for (const std::string& one : known) list += (list.empty() ? "" : ", ") + one;
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
  std::map<std::string, size_t> rows;  // of the parts that are not the first
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (within.count(spec.name) != 0) {
      rows.emplace(spec.name, spec.shape.front());
      continue;
    }
    const auto fused = by_first_part.find(spec.name);
    result.push_back(fused == by_first_part.end() ? StoredRows{spec.name, {spec.name}}
                                                  : fused->second);
    result.back().shape = spec.shape;
  }
  for (StoredRows& stored : result)
    for (size_t i = 1; i < stored.parts.size(); ++i)
      stored.shape.front() += rows.at(stored.parts[i]);
  return result;
}

ModelConfig read_model_config(const JsonField& config) {
  ModelConfig result = normalized(config.has("text_config") ? read_text_part(config)
                                                            : architecture_of(config).read(config));
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
  if (config.decoder_start_id) result["decoder_start_token_id"] = *config.decoder_start_id;
  return result;
}

}  // namespace cairn
