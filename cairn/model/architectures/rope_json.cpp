// Rotary positions in config.json: "rope_theta", "rope_scaling" and "partial_rotary_factor", or all
// of them in one object "rope_parameters" since transformers 5.
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cairn/model/architectures/decoder_json.h"

namespace cairn {
namespace {

// A member of a scaling object and the option that keeps it.
struct RopeMember {
  const char* key;
  const char* option;
};
// The kinds of scaled rotary positions, with the members of each.
struct RopeKind {
  const char* name;
  std::vector<RopeMember> required, optional;
};

constexpr const char* kOriginalContext = "original_max_position_embeddings";

const std::vector<RopeKind>& rope_kinds() {
  static const std::vector<RopeKind> kinds = {
      {"linear", {{"factor", "rope_factor"}}, {}},
      {"dynamic", {{"factor", "rope_factor"}}, {}},
      {"llama3",
       {{"factor", "rope_factor"},
        {"low_freq_factor", "rope_low_freq_factor"},
        {"high_freq_factor", "rope_high_freq_factor"},
        {kOriginalContext, "rope_original_context"}},
       {}},
      {"yarn",
       {{"factor", "rope_factor"}, {kOriginalContext, "rope_original_context"}},
       {{"beta_fast", "rope_beta_fast"},
        {"beta_slow", "rope_beta_slow"},
        {"attention_factor", "rope_attention_factor"}}},
      {"longrope",
       {{"short_factor", "rope_short_factors"},
        {"long_factor", "rope_long_factors"},
        {kOriginalContext, "rope_original_context"}},
       {{"factor", "rope_factor"}, {"attention_factor", "rope_attention_factor"}}},
  };
  return kinds;
}

OptionValue read_member(const JsonField& field) {
  if (!field.value().is_array()) return field.as_number();
  std::vector<double> numbers;
  for (const JsonField& element : field.elements()) numbers.push_back(element.as_number());
  return numbers;
}

// What a scaling object may hold beside the members of its kind.
void check_members(const JsonField& rope, const RopeKind* kind) {
  // Of the last three: said of the whole object elsewhere, or without effect.
  std::set<std::string> known = {
      "rope_type",      "type",      "rope_theta", "partial_rotary_factor",
      kOriginalContext, "finetuned", "truncate"};
  if (kind != nullptr)
    for (const auto* members : {&kind->required, &kind->optional})
      for (const RopeMember& member : *members) known.insert(member.key);
  for (const std::string& key : rope.keys())
    if (known.count(key) == 0 && rope.has(key))
      rope.member(key).fail("nothing", key + " is not supported");
  if (const auto whole = rope.find("truncate"); whole && !whole->as_bool())
    whole->fail("true", "other bounds of yarn are not supported");
}

// `config` holds what the scaling object may leave out.
void read_scaling(const JsonField& rope, const JsonField& config, ModelConfig& c,
                  AttentionOptions& options) {
  const auto type = rope.find("rope_type") ? rope.find("rope_type") : rope.find("type");
  if (!type && rope.has("factor")) rope.fail("a \"rope_type\" beside \"factor\"");
  std::string name = type ? type->as_string() : "default";
  if (name == "su") name = "longrope";  // what Phi-3 called it first
  std::string known = "default";
  const RopeKind* found = nullptr;
  for (const RopeKind& kind : rope_kinds()) {
    known += std::string(", ") + kind.name;
    if (name == kind.name) found = &kind;
  }
  if (found == nullptr && name != "default")
    type->fail("one of " + known, "other scaled rotary positions are not supported");
  check_members(rope, found);
  if (found == nullptr) return;
  options.values["rope_scaling"] = name;
  for (const RopeMember& member : found->required) {
    const auto field = rope.find(member.key);
    const bool above = !field && config.has(member.key);
    options.values[member.option] =
        read_member(above ? config.member(member.key) : rope.member(member.key));
  }
  for (const RopeMember& member : found->optional)
    if (const auto field = rope.find(member.key))
      options.values[member.option] = read_member(*field);
  const auto context = static_cast<double>(c.context_length);
  if (name == "longrope" && options.values.count("rope_factor") == 0)
    options.values["rope_factor"] =
        std::max(1.0, context / std::get<double>(options.values["rope_original_context"]));
  if (name != "dynamic") return;
  // The context that the file names is the one before frequencies change.
  const double factor = rope.member("factor").as_number();
  if (!(factor >= 1) || factor > 1e6) rope.member("factor").fail("a number from 1 to 1000000");
  options.values["rope_original_context"] = context;
  c.context_length = static_cast<size_t>(context * factor);
}

// A number that a file wrote as an integer is written as one again.
Json json_of(const OptionValue& value) {
  Json result;
  std::visit([&](const auto& held) { result = held; }, value);
  if (result.is_number_float() && std::trunc(result.get<double>()) == result.get<double>() &&
      std::abs(result.get<double>()) < 1e15)
    return static_cast<int64_t>(result.get<double>());
  return result;
}

// The "rope_scaling" object of options whose keys beyond rope_theta are `rest`.
bool write_scaling(const AttentionOptions& options, std::set<std::string> rest, Json& config) {
  const auto scaling = options.values.find("rope_scaling");
  const auto* name =
      scaling == options.values.end() ? nullptr : std::get_if<std::string>(&scaling->second);
  if (name == nullptr) return false;
  for (const RopeKind& kind : rope_kinds()) {
    if (*name != kind.name) continue;
    Json object = {{"rope_type", *name}};
    rest.erase("rope_scaling");
    for (const auto* members : {&kind.required, &kind.optional})
      for (const RopeMember& member : *members) {
        const auto value = options.values.find(member.option);
        if (value == options.values.end()) continue;
        object[member.key] = json_of(value->second);
        rest.erase(member.option);
      }
    if (*name == "dynamic" && rest.erase("rope_original_context") == 1)
      config["max_position_embeddings"] = json_of(options.values.at("rope_original_context"));
    if (*name == "longrope") config[kOriginalContext] = object[kOriginalContext];
    if (!rest.empty()) return false;
    config["rope_scaling"] = std::move(object);
    return true;
  }
  return false;
}

void read_fraction(const JsonField& config, const ModelConfig& c, AttentionOptions& options) {
  const auto part = config.find("partial_rotary_factor");
  if (!part || part->as_number() == 1) return;
  const double dim = std::floor(static_cast<double>(c.head_dim) * part->as_number());
  if (!(dim >= 2) || dim > static_cast<double>(c.head_dim))
    part->fail("a share of at least 2 of head_dim " + std::to_string(c.head_dim));
  options.values["rope_dim"] = static_cast<int64_t>(dim);
}

}  // namespace

AttentionOptions read_rope_parameters(const JsonField& rope, const JsonField& config,
                                      ModelConfig& c, double default_theta) {
  AttentionOptions options;
  read_fraction(rope, c, options);
  read_scaling(rope, config, c, options);
  const auto theta = rope.find("rope_theta");
  const double value = theta ? theta->as_number() : default_theta;
  if (!(value > 0)) theta->fail("a positive number");
  options.values["rope_theta"] = value;
  return options;
}

AttentionOptions read_rope(const JsonField& config, ModelConfig& c, double default_theta) {
  const double theta = read_number(config, "rope_theta", default_theta);
  if (!(theta > 0)) config.member("rope_theta").fail("a positive number");
  if (const auto parameters = config.find("rope_parameters")) {
    for (const char* kind : {"full_attention", "sliding_attention"})
      if (parameters->has(kind))
        parameters->member(kind).fail("one set of rotary positions for all layers");
    AttentionOptions options = read_rope_parameters(*parameters, config, c, theta);
    if (options.values.count("rope_dim") == 0) read_fraction(config, c, options);
    return options;
  }
  AttentionOptions options;
  read_fraction(config, c, options);
  if (const auto scaling = config.find("rope_scaling")) read_scaling(*scaling, config, c, options);
  options.values["rope_theta"] = theta;
  return options;
}

bool write_rope(const AttentionOptions& options, const ModelConfig& c, Json& config) {
  if (options.mechanism != "softmax") return false;
  const auto theta = options.values.find("rope_theta");
  if (theta == options.values.end() || !std::holds_alternative<double>(theta->second)) return false;
  config["rope_theta"] = std::get<double>(theta->second);
  std::set<std::string> rest;
  for (const auto& [key, value] : options.values)
    if (key != "rope_theta") rest.insert(key);
  if (const auto dim = options.values.find("rope_dim"); dim != options.values.end()) {
    const auto* size = std::get_if<int64_t>(&dim->second);
    if (size == nullptr) return false;
    config["partial_rotary_factor"] = static_cast<double>(*size) / static_cast<double>(c.head_dim);
    rest.erase("rope_dim");
  }
  return rest.empty() || write_scaling(options, std::move(rest), config);
}

}  // namespace cairn
