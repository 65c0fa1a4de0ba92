#include "cairn/infer/decode_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "cairn/attention/rotary.h"
#include "cairn/base/error.h"
#include "cairn/infer/attention_step.h"
#include "cairn/infer/decode_walk.h"

namespace cairn {
namespace {

constexpr const char* kDoing = "taking a decode program apart";

// offset + weight, times factor.
std::vector<float> gain_of(const std::vector<float>& weight, double offset, double factor = 1) {
  std::vector<float> gain(weight.size());
  std::transform(weight.begin(), weight.end(), gain.begin(), [&](float w) {
    return static_cast<float>(factor) * (static_cast<float>(offset) + w);
  });
  return gain;
}

size_t count_tables(const LayerAttention& attention, size_t layers,
                    std::vector<const RotaryTable*>& tables) {
  for (size_t i = 0; i < layers; ++i) {
    const auto plain = attention[i].plain_softmax();
    if (plain && plain->rotary != nullptr &&
        std::find(tables.begin(), tables.end(), plain->rotary) == tables.end())
      tables.push_back(plain->rotary);
  }
  return tables.size();
}

}  // namespace

DecodeProgram::DecodeProgram(const DecoderWeights& weights, std::optional<BlockType> type,
                             size_t context, ThreadTeam& team, Walkers walkers,
                             const ProgramParts& parts)
    : config_(weights.config),
      team_(team),
      attention_(config_, context),
      final_gain_(gain_of(weights.final_norm, config_.norm_offset, 1 / config_.logits_divisor)),
      plan_(weights, type, team, parts.stream),
      buffers_(config_, attention_[0].geometry(), DecodePlan::kGatedRows, context,
               count_tables(attention_, config_.layers, tables_), team.size()),
      barrier_(team.size(),
               team.size() > allowed_processors() ? WaitLimits::crowded() : WaitLimits()),
      walkers_(walkers),
      parts_(parts),
      faults_(static_cast<size_t>(team.size())) {
  const StoredMatrix& rows = weights.embedding;
  embedding_type_ = rows.type;
  embedding_.assign(rows.data, rows.data + rows.rows * rows.row_bytes());
  layers_.resize(config_.layers);
  for (size_t i = 0; i < config_.layers; ++i) compile_layer(weights.layers[i], i);
  set_parts(parts);
}

DecodeProgram::~DecodeProgram() = default;

void DecodeProgram::compile_layer(const DecoderLayerWeights& weights, size_t index) {
  const double offset = config_.norm_offset;
  Layer& layer = layers_[index];
  layer.attention_gain = gain_of(weights.attention_norm, offset);
  layer.mlp_gain = gain_of(weights.mlp_norm, offset);
  layer.attention_post_gain = gain_of(weights.attention_post_norm, offset);
  layer.mlp_post_gain = gain_of(weights.mlp_post_norm, offset);
  layer.qkv_bias = {weights.q_bias, weights.k_bias, weights.v_bias};
  layer.o_bias = weights.o_bias;
  layer.gate_bias = weights.gate_bias;
  layer.up_bias = weights.up_bias;
  layer.down_bias = weights.down_bias;
  layer.parameters = weights.attention_parameters;
  for (const std::vector<float>& values : layer.parameters)
    layer.parameter_views.emplace_back(values.data(), values.size());
  layer.plain = attention_[index].plain_softmax();
  if (!layer.plain) {
    rooms_want_hidden_ = rooms_want_hidden_ || attention_[index].uses_hidden_state();
    return;
  }
  if (layer.plain->qk_norm) {
    layer.q_gain = gain_of(layer.parameters[0], layer.plain->norm_offset);
    layer.k_gain = gain_of(layer.parameters[1], layer.plain->norm_offset);
  }
  for (size_t i = 0; i < index; ++i) layer.cache_layer += is_plain(i) ? 1 : 0;
  layer.turns = static_cast<size_t>(std::find(tables_.begin(), tables_.end(), layer.plain->rotary) -
                                    tables_.begin());
}

CacheShape DecodeProgram::cache_shape(BlockType type) const {
  const AttentionGeometry& g = attention_[0].geometry();
  CacheShape shape{.kv_heads = g.kv_heads, .head_dim = g.head_dim, .value_dim = g.value_dim};
  for (const Layer& layer : layers_)
    if (layer.plain) shape.windows.push_back(layer.plain->window);
  shape.type = type;
  return shape;
}

void DecodeProgram::turn_angles(const DecodePass& pass) {
  for (size_t i = 0; i < tables_.size(); ++i)
    for (size_t t = 0; t < pass.tokens.size(); ++t) {
      const size_t position = pass.position + t;
      add_angles(tables_[i]->coarse(position), tables_[i]->fine(position), tables_[i]->dim(),
                 buffers_.turns[i][t].data);
    }
}

void DecodeProgram::set_parts(const ProgramParts& parts) {
  bool plain = config_.experts == 0;
  for (size_t i = 0; i < layers_.size(); ++i) plain = plain && is_plain(i);
  if (!parts.fusion && !plain)
    throw Error({.kind = ErrorKind::usage,
                 .doing = kDoing,
                 .subject = "fusion",
                 .expected = "a model of plain softmax attention, without experts",
                 .found = config_.experts > 0 ? "experts" : config_.attention.mechanism});
  if (parts.stream != parts_.stream)
    throw Error({.kind = ErrorKind::usage,
                 .doing = kDoing,
                 .subject = "stream",
                 .expected = "weights as they were packed"});
  parts_ = parts;
  parts_.prefetch = parts.prefetch && parts.stream;
  if (!parts.fusion && buffers_.gate_up.rows == 0) buffers_.take_gate_up(config_);
}

void DecodeProgram::run(const DecodePass& pass) {
  turn_angles(pass);
  if (pass.tokens.size() > kFewTokens || !parts_.fusion) buffers_.cover(pass.tokens.size());
  std::fill(faults_.begin(), faults_.end(), Fault());
  barriers_ = 0;
  for (PassBuffers::Own& own : buffers_.own) own.waited = {};
  for (int thread = 0; thread < team_.size(); ++thread) barrier_.forget_lost(thread);
  const bool alone = walks_alone();
  passes_alone_ += alone ? 1 : 0;
  const auto begin = std::chrono::steady_clock::now();
  walk(pass, alone);
  const auto took = std::chrono::steady_clock::now() - begin;
  note_time(pass, alone, took);
  check_faults(pass);
}

double DecodeProgram::barrier_seconds() const {
  std::chrono::duration<double> sum{};
  for (const PassBuffers::Own& own : buffers_.own) sum += own.waited;
  return sum.count() / static_cast<double>(buffers_.own.size());
}

void DecodeProgram::note_time(const DecodePass& pass, bool alone, std::chrono::nanoseconds took) {
  const bool few = pass.tokens.size() <= kFewTokens;
  if (alone) {
    if (few) governor_.one_walked(took);
    return;
  }
  std::chrono::nanoseconds waited{};
  for (int thread = 0; thread < team_.size(); ++thread)
    waited = std::max(waited, barrier_.lost(thread));
  few ? governor_.team_walked(took, waited) : governor_.prompt_walked(took, waited);
}

bool DecodeProgram::walks_alone() const {
  if (team_.size() == 1) return false;  // the team is one thread
  return walkers_ == Walkers::one || (walkers_ == Walkers::automatic && governor_.alone());
}

void DecodeProgram::walk(const DecodePass& pass, bool alone) {
  size_t from = Walk::kBeginning;
  for (;;) {
    size_t to = from + 1;  // kBeginning + 1 is 0
    while (to < layers_.size() && is_plain(to)) ++to;
    if (alone)
      Walk(*this, pass).run(from, to);
    else
      team_.run(static_cast<size_t>(team_.size()), [&](size_t /*chunk*/, int thread) {
        Walk walk(*this, pass, thread);
        walk.run(from, to);
        walk.end();  // until then no thread can take a second chunk
      });
    if (to == layers_.size()) break;
    attend_outside(pass, to);
    from = to;
  }
}

void DecodeProgram::attend_outside(const DecodePass& pass, size_t layer) {
  const AttentionGeometry& g = attention_[layer].geometry();
  const size_t tokens = pass.tokens.size(), q = g.heads * g.head_dim, k = g.kv_heads * g.head_dim;
  const View2<float> qkv = buffers_.qkv.rows_slice(0, tokens);
  AttentionInputs inputs;
  if (rooms_want_hidden_) inputs.x = buffers_.normed.rows_slice(0, tokens);
  inputs.q = split_heads(qkv.cols_slice(0, q), g.heads);
  inputs.k = split_heads(qkv.cols_slice(q, k), g.kv_heads);
  inputs.v = split_heads(qkv.cols_slice(q + k, g.kv_heads * g.value_dim), g.kv_heads);
  inputs.parameters = layers_[layer].parameter_views;
  pass.rooms[layer]->append_and_attend(
      inputs, split_heads(buffers_.attended.rows_slice(0, tokens), g.heads), team_);
}

void DecodeProgram::check_faults(const DecodePass& pass) const {
  const auto earlier = [](const Fault& a, const Fault& b) {
    return std::pair(a.layer, a.token) < std::pair(b.layer, b.token);
  };
  const Fault& first = *std::min_element(faults_.begin(), faults_.end(), earlier);
  if (first.layer == SIZE_MAX) return;
  throw Error(
      {.kind = ErrorKind::data,
       .doing = "decoding",
       .subject = fmt::format("position {}, layer {}", pass.position + first.token, first.layer),
       .expected = "finite activations",
       .found = "infinity or NaN",
       .hint = "are the weights damaged, or did training diverge?"});
}

}  // namespace cairn
