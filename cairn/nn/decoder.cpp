#include "cairn/nn/decoder.h"

#include "cairn/base/error.h"

namespace cairn {

WeightTable::WeightTable(const ModelConfig& config, float* values, float* gradients)
    : parameters_(layout_parameters(config)), values_(values), gradients_(gradients) {}

WeightRef WeightTable::operator[](const std::string& name) const {
  for (const Parameter& parameter : parameters_) {
    if (parameter.spec.name != name) continue;
    const size_t cols = parameter.spec.shape.empty() ? 1 : parameter.spec.shape.back();
    const size_t rows = parameter.size / cols;
    const auto at = [&](float* block) {
      return block == nullptr ? nullptr : block + parameter.offset;
    };
    return {View2<float>(at(values_), rows, cols),
            View2<float>(at(gradients_), rows, cols),
            {parameter.offset * sizeof(float), parameter.size * sizeof(float)}};
  }
  throw Error(
      {.doing = "building the model", .subject = name, .expected = "a weight of that name"});
}

namespace {

// x += Wo attention(norm(x)).
Value attention_block(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                      const AttentionMechanism& mechanism, const TokenInputs& inputs,
                      const std::string& layer, Value hidden) {
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const std::string block = layer + "self_attn.";
  const Value x = rms_norm(recorder, hidden, weights[layer + "input_layernorm.weight"], {eps});
  const Value qkv = linear(recorder, x,
                           {weights[block + "q_proj.weight"], weights[block + "k_proj.weight"],
                            weights[block + "v_proj.weight"]});
  std::vector<WeightRef> parameters;
  for (const ParameterSpec& spec : mechanism.parameters())
    parameters.push_back(weights[block + spec.name]);
  const Value mixed = attention(recorder, mechanism, inputs, qkv, x, parameters);
  return linear_residual(recorder, hidden, mixed, weights[block + "o_proj.weight"]);
}

// x += Wdown(silu(Wgate h) * Wup h), h = norm(x).
Value mlp_block(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                const std::string& layer, Value hidden) {
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const Value x =
      rms_norm(recorder, hidden, weights[layer + "post_attention_layernorm.weight"], {eps});
  const Value gate_up =
      linear(recorder, x,
             {weights[layer + "mlp.gate_proj.weight"], weights[layer + "mlp.up_proj.weight"]});
  return linear_residual(recorder, hidden, gated_unit(recorder, Gate::silu, gate_up),
                         weights[layer + "mlp.down_proj.weight"]);
}

}  // namespace

void record_decoder(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                    const AttentionMechanism& mechanism, const TokenInputs& inputs,
                    LossResult& result) {
  const WeightRef table = weights["model.embed_tokens.weight"];
  recorder.label = "embedding";
  Value hidden = embedding(recorder, inputs, table);
  for (size_t i = 0; i < config.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    recorder.label = "layer " + std::to_string(i);
    hidden = attention_block(recorder, config, weights, mechanism, inputs, layer, hidden);
    hidden = mlp_block(recorder, config, weights, layer, hidden);
  }
  recorder.label = "final";
  const Value x = rms_norm(recorder, hidden, weights["model.norm.weight"],
                           {static_cast<float>(config.rms_norm_eps)});
  cross_entropy_head(recorder, inputs, x, config.tie_embeddings ? table : weights["lm_head.weight"],
                     result);
}

}  // namespace cairn
