#include "cairn/infer/decode_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <numeric>
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

// The rows as stored, which a pass looks up one by one.
std::shared_ptr<const AlignedBuffer> copy_rows(const StoredMatrix& matrix, ThreadTeam& team) {
  constexpr size_t kChunk = size_t{1} << 20;
  const size_t bytes = matrix.rows * matrix.row_bytes();
  auto rows = std::make_shared<AlignedBuffer>(bytes);
  team.run(chunk_count(bytes, kChunk), [&](size_t chunk, int /*thread*/) {
    const size_t from = chunk * kChunk;
    std::memcpy(rows->data() + from, matrix.data + from, std::min(kChunk, bytes - from));
  });
  return rows;
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
                             const ProgramParts& parts, const DecodeProgram* relative)
    : config_(weights.config),
      team_(team),
      attention_(config_, context),
      final_gain_(gain_of(weights.final_norm, config_.norm_offset,
                          weights.readers.empty() ? 1 / config_.logits_divisor : 1)),
      plan_(weights, type, team, parts.stream),
      buffers_(config_, attention_[0].geometry(),
               weights.readers.empty() ? std::min(kMostTokens, context) : context,
               DecodePlan::kGatedRows, context, count_tables(attention_, config_.layers, tables_),
               team.size()),
      barrier_(team.size(),
               team.size() > allowed_processors() ? WaitLimits::crowded() : WaitLimits()),
      walkers_(walkers),
      parts_(parts),
      faults_(static_cast<size_t>(team.size())) {
  const StoredMatrix& rows = weights.embedding;
  embedding_type_ = rows.type;
  embedding_ = relative != nullptr ? relative->embedding_ : copy_rows(rows, team);
  layers_.resize(weights.layers.size());
  size_t own = 0, readers = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.reader = readers;
    if (!weights.readers.empty())
      layer.attention = &attention_.encoder();
    else
      layer.attention = weights.layers[i].reads_source ? &attention_.cross() : &attention_[own++];
    readers += weights.layers[i].reads_source ? 1 : 0;
    compile_layer(weights.layers[i], i);
  }
  set_parts(parts);
  if (weights.readers.empty()) return;
  const AttentionMemory need =
      attention_.encoder().memory(context, context, DType::f32, team.size());
  attention_saved_ = AlignedBuffer(need.saved);
  attention_workspace_ = AlignedBuffer(need.workspace);
  positions_.resize(context);
  std::iota(positions_.begin(), positions_.end(), 0);
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
  layer.has_mlp = !weights.mlp_norm.empty();
  layer.parameters = weights.attention_parameters;
  for (const std::vector<float>& values : layer.parameters)
    layer.parameter_views.emplace_back(values.data(), values.size());
  layer.plain = layer.attention->plain_softmax();
  if (!layer.plain) {
    rooms_want_hidden_ = rooms_want_hidden_ || layer.attention->uses_hidden_state();
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
  choose_head_rows(pass.head);
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
  collect_best(pass.head, alone);
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
    in_region(pass, alone, [&](Walk& walk) { walk.run(from, to); });
    if (to == layers_.size()) break;
    attend_outside(pass, to);
    from = to;
  }
  fill_source(pass, alone);
}

void DecodeProgram::in_region(const DecodePass& pass, bool alone,
                              FunctionRef<void(Walk& walk)> body) {
  if (alone) {
    Walk walk(*this, pass);
    return body(walk);
  }
  team_.keep_off_caller();
  team_.run(static_cast<size_t>(team_.size()), [&](size_t /*chunk*/, int thread) {
    Walk walk(*this, pass, thread);
    body(walk);
    walk.end();  // until then no thread can take a second chunk
  });
}

void DecodeProgram::attend_outside(const DecodePass& pass, size_t layer) {
  const AttentionMechanism& mechanism = attention(layer);
  const AttentionGeometry& g = mechanism.geometry();
  const size_t tokens = pass.tokens.size(), q = g.heads * g.head_dim, k = g.kv_heads * g.head_dim;
  const View2<float> qkv = buffers_.qkv.rows_slice(0, tokens);
  AttentionInputs inputs;
  if (rooms_want_hidden_) inputs.x = buffers_.normed.rows_slice(0, tokens);
  inputs.q = split_heads(qkv.cols_slice(0, q), g.heads);
  const View2<float> keys = qkv.rows_slice(0, reads_source(layer) ? 0 : tokens);
  inputs.k = split_heads(keys.cols_slice(q, k), g.kv_heads);
  inputs.v = split_heads(keys.cols_slice(q + k, g.kv_heads * g.value_dim), g.kv_heads);
  inputs.parameters = layers_[layer].parameter_views;
  const AnyView3 out = split_heads(buffers_.attended.rows_slice(0, tokens), g.heads);
  if (mechanism.mask() == AttentionMask::bidirectional) return attend_whole(mechanism, inputs, out);
  AttentionCache& cache =
      reads_source(layer) ? *pass.source[layers_[layer].reader] : *pass.rooms[layer];
  cache.append_and_attend(inputs, out, team_);
}

// All tokens see each other: the pass is the text.
void DecodeProgram::attend_whole(const AttentionMechanism& mechanism, const AttentionInputs& inputs,
                                 AnyView3 out) {
  const size_t tokens = inputs.q.tokens;
  const std::array<int32_t, 2> offsets = {0, static_cast<int32_t>(tokens)};
  const TokenLayout layout{{offsets.data(), offsets.size()}, {positions_.data(), tokens}};
  mechanism.forward(inputs, layout, out, attention_saved_.as<std::byte>(),
                    attention_workspace_.as<std::byte>(), team_);
}

// Keys and values of the source, one reader after another through the same memory.
void DecodeProgram::fill_source(const DecodePass& pass, bool alone) {
  const size_t readers = plan_.programs()[0].readers.size(), tokens = pass.tokens.size();
  if (readers == 0) return;
  const AttentionGeometry& g = attention_.cross().geometry();
  const size_t q = g.heads * g.head_dim, k = g.kv_heads * g.head_dim;
  const View2<float> qkv = buffers_.qkv.rows_slice(0, tokens);
  AttentionInputs inputs;
  inputs.q = split_heads(qkv.rows_slice(0, 0).cols_slice(0, q), g.heads);
  inputs.k = split_heads(qkv.cols_slice(q, k), g.kv_heads);
  inputs.v = split_heads(qkv.cols_slice(q + k, g.kv_heads * g.value_dim), g.kv_heads);
  const AnyView3 nothing = split_heads(buffers_.attended.rows_slice(0, 0), g.heads);
  for (size_t i = 0; i < readers; ++i) {
    in_region(pass, alone, [&](Walk& walk) { walk.read_for(i); });
    pass.source[i]->append_and_attend(inputs, nothing, team_);
  }
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
