#include "cairn/nn/decoder.h"

#include "cairn/base/error.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/nn/moe.h"

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

// What one layer is recorded from.
struct LayerRecording {
  Recorder& recorder;
  const ModelConfig& config;
  const WeightTable& weights;
  LayerNames names;
  size_t number;
  std::shared_ptr<RouterCounts> counts;  // of models with experts

  NormOptions norm() const {
    return {static_cast<float>(config.rms_norm_eps), static_cast<float>(config.norm_offset)};
  }
};

// [x W_0^T, x W_1^T, ...] and the biases, where there are some.
Value project(const LayerRecording& layer, Value x, const std::vector<std::string>& weights,
              const std::vector<std::string>& biases) {
  const auto refs = [&](const std::vector<std::string>& names) {
    std::vector<WeightRef> found;
    for (const std::string& name : names) found.push_back(layer.weights[name]);
    return found;
  };
  const Value y = linear(layer.recorder, x, refs(weights));
  return biases.front().empty() ? y : bias(layer.recorder, y, refs(biases));
}

// hidden + residual_multiplier * post(x W^T + b): the end of a branch.
Value end_branch(const LayerRecording& layer, Value hidden, Value x, const std::string& weight,
                 const std::string& bias_name, const std::string& post_norm) {
  const double factor = layer.config.residual_multiplier;
  if (factor == 1 && bias_name.empty() && post_norm.empty())
    return linear_residual(layer.recorder, hidden, x, layer.weights[weight]);
  Value branch = project(layer, x, {weight}, {bias_name});
  if (!post_norm.empty())
    branch = rms_norm(layer.recorder, widen(layer.recorder, branch), layer.weights[post_norm],
                      layer.norm());
  return residual(layer.recorder, hidden, branch, static_cast<float>(factor));
}

Value attention_branch(const LayerRecording& layer, const AttentionMechanism& mechanism,
                       const TokenInputs& inputs, Value hidden) {
  const LayerNames& names = layer.names;
  const Value x =
      rms_norm(layer.recorder, hidden, layer.weights[names.attention_norm], layer.norm());
  const Value qkv =
      project(layer, x, {names.q, names.k, names.v}, {names.q_bias, names.k_bias, names.v_bias});
  std::vector<WeightRef> parameters;
  for (const ParameterSpec& spec : mechanism.parameters())
    parameters.push_back(layer.weights[names.attention + spec.name]);
  const Value mixed = attention(layer.recorder, mechanism, inputs, qkv, x, parameters);
  return end_branch(layer, hidden, mixed, names.o, names.o_bias, names.attention_post_norm);
}

// Keys and values are of what the encoder has made of the source.
Value cross_branch(const LayerRecording& layer, const AttentionMechanism& mechanism,
                   const ModelInputs& streams, Value encoded, Value hidden) {
  const LayerNames& names = layer.names;
  const Value x = rms_norm(layer.recorder, hidden, layer.weights[names.cross_norm], layer.norm());
  const Value q = linear(layer.recorder, x, {layer.weights[names.cross_q]});
  const Value kv =
      linear(layer.recorder, encoded, {layer.weights[names.cross_k], layer.weights[names.cross_v]});
  const Value mixed =
      cross_attention(layer.recorder, mechanism, streams.tokens, streams.source, q, kv, {});
  return end_branch(layer, hidden, mixed, names.cross_o, "", "");
}

// The experts' sum and the shared one's join the residual stream each for itself.
Value expert_branch(const LayerRecording& layer, const TokenInputs& inputs, Value hidden) {
  const LayerNames& names = layer.names;
  const ModelConfig& c = layer.config;
  const Value x = rms_norm(layer.recorder, hidden, layer.weights[names.mlp_norm], layer.norm());
  const MoeOptions options{c.gate, c.experts, c.experts_per_token, c.router_loss};
  const MoeWeights weights{layer.weights[names.router], layer.weights[names.experts_gate_up],
                           layer.weights[names.experts_down]};
  const Value mixed =
      mixture_of_experts(layer.recorder, options, inputs, layer.counts, layer.number, x, weights);
  hidden = residual(layer.recorder, hidden, mixed, static_cast<float>(c.residual_multiplier));
  if (names.shared_gate_up.empty()) return hidden;
  const Value gate_up = linear(layer.recorder, x, {layer.weights[names.shared_gate_up]});
  return end_branch(layer, hidden, gated_unit(layer.recorder, c.gate, gate_up), names.shared_down,
                    "", "");
}

Value mlp_branch(const LayerRecording& layer, Value hidden) {
  const LayerNames& names = layer.names;
  const Value x = rms_norm(layer.recorder, hidden, layer.weights[names.mlp_norm], layer.norm());
  const Gate gate = layer.config.gate;
  Value inner;
  if (layer.config.gated_mlp)
    inner = gated_unit(layer.recorder, gate,
                       project(layer, x, {names.gate, names.up}, {names.gate_bias, names.up_bias}));
  else
    inner = activation(layer.recorder, gate, project(layer, x, {names.up}, {names.up_bias}));
  return end_branch(layer, hidden, inner, names.down, names.down_bias, names.mlp_post_norm);
}

// What the encoder's last norm gives of the source.
Value record_encoder(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                     const LayerAttention& mechanisms, const TokenInputs& source) {
  const OuterNames names = outer_names(config);
  recorder.label = "encoder embedding";
  Value hidden = embedding(recorder, source, weights[names.embedding],
                           static_cast<float>(config.embedding_multiplier));
  for (size_t i = 0; i < config.encoder_layers; ++i) {
    const LayerRecording layer{recorder, config, weights, layer_names(config, i, Stack::encoder),
                               i,        nullptr};
    recorder.label = "encoder layer " + std::to_string(i);
    hidden = attention_branch(layer, mechanisms.encoder(), source, hidden);
    hidden = mlp_branch(layer, hidden);
  }
  recorder.label = "encoder end";
  return rms_norm(
      recorder, hidden, weights[names.encoder_norm],
      {static_cast<float>(config.rms_norm_eps), static_cast<float>(config.norm_offset)});
}

}  // namespace

void record_model(Recorder& recorder, const ModelConfig& config, const WeightTable& weights,
                  const LayerAttention& mechanisms, const ModelInputs& streams,
                  LossResult& result) {
  const TokenInputs& inputs = streams.tokens;
  const OuterNames names = outer_names(config);
  const WeightRef table = weights[names.embedding];
  Value encoded;
  if (config.has_encoder())
    encoded = record_encoder(recorder, config, weights, mechanisms, streams.source);
  recorder.label = "embedding";
  Value hidden =
      embedding(recorder, inputs, table, static_cast<float>(config.embedding_multiplier));
  const auto counts = std::make_shared<RouterCounts>(config.layers, config.experts);
  for (size_t i = 0; i < config.layers; ++i) {
    const LayerRecording layer{recorder, config, weights, layer_names(config, i), i, counts};
    recorder.label = "layer " + std::to_string(i);
    hidden = attention_branch(layer, mechanisms[i], inputs, hidden);
    if (config.has_encoder())
      hidden = cross_branch(layer, mechanisms.cross(), streams, encoded, hidden);
    hidden = config.experts > 0 ? expert_branch(layer, inputs, hidden) : mlp_branch(layer, hidden);
  }
  recorder.label = "final";
  const NormOptions last{static_cast<float>(config.rms_norm_eps),
                         static_cast<float>(config.norm_offset),
                         static_cast<float>(1 / config.logits_divisor)};
  const Value x = rms_norm(recorder, hidden, weights[names.final_norm], last);
  cross_entropy_head(recorder, inputs, x, config.tie_embeddings ? table : weights[names.head],
                     result);
}

}  // namespace cairn
