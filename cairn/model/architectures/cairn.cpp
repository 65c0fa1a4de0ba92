#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/model/architectures/cairn_json.h"
#include "cairn/model/architectures/decoder_json.h"
#include "cairn/model/decoder_layout.h"

namespace cairn {
namespace {

constexpr std::array<std::string_view, 1> kClasses = {"CairnForCausalLM"};

// The features by name: one list that reading and writing walk.
struct Features {
  std::vector<std::pair<const char*, double*>> numbers;
  std::vector<std::pair<const char*, bool*>> flags;
  std::vector<std::pair<const char*, size_t*>> sizes;
};
Features features_of(ModelConfig& c) {
  return {.numbers = {{"attention_scale", &c.attention_scale},
                      {"embedding_multiplier", &c.embedding_multiplier},
                      {"residual_multiplier", &c.residual_multiplier},
                      {"logits_divisor", &c.logits_divisor},
                      {"norm_offset", &c.norm_offset},
                      {"router_loss", &c.router_loss}},
          .flags = {{"post_norms", &c.post_norms},
                    {"qkv_bias", &c.qkv_bias},
                    {"output_bias", &c.output_bias},
                    {"mlp_bias", &c.mlp_bias},
                    {"gated_mlp", &c.gated_mlp}},
          .sizes = {{"experts", &c.experts},
                    {"experts_per_token", &c.experts_per_token},
                    {"shared_intermediate_size", &c.shared_intermediate_size}}};
}

OptionValue read_option(const JsonField& field) {
  const Json& value = field.value();
  if (value.is_boolean()) return field.as_bool();
  if (value.is_number_integer()) return field.as_integer();
  if (value.is_number_float()) return field.as_number();
  if (value.is_string()) return field.as_string();
  if (!value.is_array()) field.fail("a boolean, a number, a string or an array of numbers");
  std::vector<double> numbers;
  for (const JsonField& element : field.elements()) numbers.push_back(element.as_number());
  return numbers;
}

AttentionOptions read_mechanism(const JsonField& attention) {
  AttentionOptions options;
  options.mechanism = attention.member("mechanism").as_string();
  for (const std::string& key : attention.keys())
    if (key != "mechanism") options.values[key] = read_option(attention.member(key));
  return options;
}

Json write_mechanism(const AttentionOptions& options) {
  Json result = {{"mechanism", options.mechanism}};
  for (const auto& [key, value] : options.values) {
    Json& target = result[key];
    std::visit([&](const auto& held) { target = held; }, value);
    if (const auto* number = std::get_if<double>(&value); number && !std::isfinite(*number))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "writing config.json",
                   .subject = "attention." + key,
                   .expected = "a finite number"});
  }
  return result;
}

ModelConfig read_cairn(const JsonField& config) {
  ModelConfig c = read_decoder(config, {});
  const auto base = config.find("architecture");
  c.architecture = base ? base->as_string() : "llama";
  c.gate = read_gate(config, Gate::silu);
  const Features features = features_of(c);
  for (const auto& [name, value] : features.numbers) *value = read_number(config, name, *value);
  for (const auto& [name, value] : features.flags) *value = read_flag(config, name, *value);
  for (const auto& [name, value] : features.sizes) *value = read_size(config, name, *value);
  c.attention = read_mechanism(config.member("attention"));
  c.local_layers = read_layer_types(config, c.layers);
  if (!c.local_layers.empty()) c.local_attention = read_mechanism(config.member("local_attention"));
  return c;
}

}  // namespace

Json write_cairn(const ModelConfig& written, DType dtype) {
  ModelConfig c = written, standard;
  Json config = write_decoder(c, kClasses[0], "cairn", dtype);
  if (c.architecture != "llama") config["architecture"] = c.architecture;
  const Features features = features_of(c), usual = features_of(standard);
  for (size_t i = 0; i < features.numbers.size(); ++i)
    if (*features.numbers[i].second != *usual.numbers[i].second)
      config[features.numbers[i].first] = *features.numbers[i].second;
  for (size_t i = 0; i < features.flags.size(); ++i)
    if (*features.flags[i].second != *usual.flags[i].second)
      config[features.flags[i].first] = *features.flags[i].second;
  for (const auto& [name, value] : features.sizes)
    if (*value != 0) config[name] = *value;
  config["attention"] = write_mechanism(c.attention);
  if (!c.local_layers.empty()) {
    config["layer_types"] = write_layer_types(c);
    config["local_attention"] = write_mechanism(c.local_attention);
  }
  return config;
}

bool is_plain_decoder(const ModelConfig& c) {
  return c.attention_scale == 0 && c.embedding_multiplier == 1 && c.residual_multiplier == 1 &&
         c.logits_divisor == 1 && c.norm_offset == 0 && !c.post_norms && c.experts == 0 &&
         c.gated_mlp;
}

Json take_window(AttentionOptions& options) {
  const auto window = options.values.find("window");
  if (window == options.values.end() || !std::holds_alternative<int64_t>(window->second))
    return nullptr;
  const int64_t tokens = std::get<int64_t>(window->second);
  options.values.erase(window);
  return tokens > 0 ? Json(tokens) : Json(nullptr);
}

const Architecture kCairnArchitecture{.name = "cairn",
                                      .classes = kClasses,
                                      .model_type = "cairn",
                                      .parameters = decoder_parameters,
                                      .read = read_cairn,
                                      .write = write_cairn};

}  // namespace cairn
