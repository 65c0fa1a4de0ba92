#include "cairn/infer/decode_walk.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

#include "cairn/infer/residual_step.h"
#include "cairn/kernels/activations.h"
#include "cairn/kernels/blocks.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

// Weights that stay in the second-level cache while the tokens of a long pass go by.
constexpr size_t kResidentBytes = size_t{192} << 10;
// Of the next phase's weights that a waiting thread asks for.
constexpr size_t kAheadBytes = size_t{256} << 10;

bool all_finite_row(View1<const float> row) {
  return std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

DecodeProgram::Walk::Walk(DecodeProgram& program, const DecodePass& pass, size_t thread,
                          size_t threads, std::span<const ThreadProgram> rows)
    : program_(program),
      pass_(pass),
      buffers_(program.buffers_),
      own_(buffers_.own[thread]),
      geometry_(program.attention_[0].geometry()),
      thread_(thread),
      threads_(threads),
      mine_(rows),
      tokens_(pass.tokens.size()),
      group_(geometry_.heads / geometry_.kv_heads) {
  apart_ = few() && !program.parts_.fusion;
  if (shares()) {
    blocks_ = buffers_.covering(tokens_);
    return;
  }
  own_.few.tokens = tokens_;
  blocks_ = {&own_.few, 1};
}

void DecodeProgram::Walk::run(size_t from, size_t to) {
  if (from == kBeginning)
    embed();
  else
    after_attention(from);
  for (size_t layer = from + 1; layer < to; ++layer) {
    before_attention(layer);
    meet();
    attend(program_.layers_[layer]);
    meet();
    after_attention(layer);
  }
  if (to < program_.layers_.size())
    before_attention(to);
  else if (pass_.head.places() > 0 || !mine_[0].readers.empty())
    read_head();
}

template <class Idle>
void DecodeProgram::Walk::wait_for_all(Idle idle) {
  const auto thread = static_cast<int>(thread_);
  if (!program_.times_barriers_) return program_.barrier_.meet(thread, idle);
  const auto begin = std::chrono::steady_clock::now();
  program_.barrier_.meet(thread, idle);
  own_.waited += std::chrono::steady_clock::now() - begin;
}

void DecodeProgram::Walk::end() {
  wait_for_all([] {});
}

void DecodeProgram::Walk::meet() {
  if (threads_ == 1) return;
  if (thread_ == 0) ++program_.barriers_;
  size_t ahead = 0;
  wait_for_all([&] {
    if (!program_.parts_.prefetch || stream_ == nullptr || ahead >= kAheadBytes) return;
    for (size_t line = 0; line < 4; ++line, ahead += 64) __builtin_prefetch(stream_ + ahead, 0, 2);
  });
}

void DecodeProgram::Walk::note_fault(size_t layer, size_t token) {
  Fault& fault = program_.faults_[thread_];
  if (fault.layer == SIZE_MAX) fault = {layer, token};
}

void DecodeProgram::Walk::embed() {
  const ModelConfig& config = program_.config_;
  const size_t row_bytes = block_row_bytes(program_.embedding_type_, config.hidden_size);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (!fills(i)) continue;
    for (size_t t = 0; t < blocks_[i].tokens; ++t) {
      const auto id = static_cast<size_t>(pass_.tokens[blocks_[i].first + t]);
      const View2<float> row = blocks_[i].x.rows_slice(t, 1);
      decode_blocks(program_.embedding_type_,
                    {program_.embedding_->data() + id * row_bytes, row_bytes}, row[0]);
      if (config.embedding_multiplier != 1)
        scale(row, static_cast<float>(config.embedding_multiplier), row);
    }
  }
}

void DecodeProgram::Walk::before_attention(size_t layer) {
  const Layer& values = program_.layers_[layer];
  const bool room = !values.plain && program_.rooms_want_hidden_;
  const Norm norm{values.attention_gain,
                  layer == 0 ? nullptr : &program_.layers_[layer - 1].last_post_gain(),
                  layer == 0 ? 0 : layer - 1, ProductInput::qkv, layer};
  normalize(norm, program_.plan_.kinds(layer).qkv, room);
  size_t column = 0;
  const std::array<size_t, 3> widths = {geometry_.heads * geometry_.head_dim,
                                        geometry_.kv_heads * geometry_.head_dim,
                                        geometry_.kv_heads * geometry_.value_dim};
  for (size_t i = 0; i < widths.size(); ++i) {
    if (apart_ && i > 0) meet();
    for (const ThreadProgram& rows : mine_)
      multiply(rows.layers[layer].qkv[i], blocks_, buffers_.qkv.cols_slice(column, widths[i]),
               values.qkv_bias[i]);
    column += widths[i];
  }
}

void DecodeProgram::Walk::after_attention(size_t layer) {
  const Layer& values = program_.layers_[layer];
  const LayerKinds& kinds = program_.plan_.kinds(layer);
  if (few() && values.plain) {
    combine_few(values);
    if (apart_) meet();
    store_rows(attended_few(), kinds.o, ProductInput::o, layer);
  } else {
    store_rows(buffers_.attended, kinds.o, ProductInput::o, layer);
  }
  for (const ThreadProgram& rows : mine_)
    multiply(rows.layers[layer].o, blocks_, buffers_.branch, values.o_bias);
  meet();
  if (!values.has_mlp) return;
  const bool mixes = kinds.router != 0;
  normalize({values.mlp_gain, &values.attention_post_gain, layer, ProductInput::gate_up, layer},
            static_cast<ActivationKinds>(kinds.gate_up | kinds.router), mixes);
  if (apart_)
    gate_apart(layer);
  else
    for (const ThreadProgram& rows : mine_)
      gate(rows.layers[layer].mlp, values, blocks_, buffers_.gated.rows_slice(0, tokens_));
  if (mixes) gate_experts(layer);
  meet();
  if (kinds.down != 0) store_rows(buffers_.gated, kinds.down, ProductInput::down, layer);
  for (const ThreadProgram& rows : mine_)
    multiply(rows.layers[layer].mlp.down, blocks_, buffers_.branch, values.down_bias);
  if (mixes) add_experts(layer);
  meet();
}

void DecodeProgram::Walk::read_head() {
  const size_t layers = program_.layers_.size();
  const Norm norm{program_.final_gain_, &program_.layers_[layers - 1].last_post_gain(), layers - 1,
                  ProductInput::head, layers - 1};
  const ActivationKinds kinds = program_.plan_.head_kinds();
  if (!mine_[0].readers.empty()) return normalize(norm, kinds, false);
  if (pass_.head.places() == tokens_) {
    normalize(norm, kinds, false);
    return multiply_head(blocks_);
  }
  const TokenBlock& block = blocks_[blocks_.size() - 1];
  const View1<float> x = block.x[block.tokens - 1];
  std::copy(x.begin(), x.end(), own_.last.x.data);
  normalize_block(norm, tokens_ - 1, own_.last, kinds, false);
  multiply_head({&own_.last, 1});
}

void DecodeProgram::Walk::read_for(size_t reader) {
  const size_t q = geometry_.heads * geometry_.head_dim,
               k = geometry_.kv_heads * geometry_.head_dim;
  const View2<float> keys = buffers_.qkv.cols_slice(q, k);
  const View2<float> values =
      buffers_.qkv.cols_slice(q + k, geometry_.kv_heads * geometry_.value_dim);
  for (const ThreadProgram& rows : mine_) {
    multiply(rows.readers[reader][0], blocks_, keys, {});
    multiply(rows.readers[reader][1], blocks_, values, {});
  }
}

void DecodeProgram::Walk::normalize(const Norm& norm, ActivationKinds kinds, bool keep) {
  if (apart_) return normalize_apart(norm, kinds);
  for (size_t i = 0; i < blocks_.size(); ++i)
    if (fills(i)) normalize_block(norm, blocks_[i].first, blocks_[i], kinds, keep);
  meet_if_shared();
}

void DecodeProgram::Walk::normalize_block(const Norm& norm, size_t first, TokenBlock& block,
                                          ActivationKinds kinds, bool keep) {
  const ModelConfig& config = program_.config_;
  const size_t n = config.hidden_size;
  const auto eps = static_cast<float>(config.rms_norm_eps);
  for (size_t t = 0; t < block.tokens; ++t) {
    float* x = block.x[t].data;
    const float squares =
        norm.post_gain == nullptr ? sum_of_squares(x, n) : add_branch_to(x, norm, first + t);
    if (!std::isfinite(squares)) note_fault(norm.layer, first + t);
    own_.scale[t] = 1.0F / std::sqrt(squares / static_cast<float>(n) + eps);
    if (keep && (!few() || thread_ == 0))
      scale_by(x, own_.scale[t], norm.gain.data(), n, buffers_.normed[first + t].data);
  }
  const ActivationSource source{block.x.rows_slice(0, block.tokens),
                                {own_.scale.data(), block.tokens},
                                {norm.gain.data(), n}};
  note_squares(source, block, norm.input, norm.reader);
  store(source, block, kinds, norm.layer);
}

float DecodeProgram::Walk::add_branch_to(float* x, const Norm& norm, size_t token) {
  const ModelConfig& config = program_.config_;
  const size_t n = config.hidden_size;
  const float* branch = buffers_.branch[token].data;
  auto factor = static_cast<float>(config.residual_multiplier);
  const bool normed = !norm.post_gain->empty();
  if (normed)
    factor /= std::sqrt(sum_of_squares(branch, n) / static_cast<float>(n) +
                        static_cast<float>(config.rms_norm_eps));
  return add_branch(branch, factor, normed ? norm.post_gain->data() : nullptr, n, x);
}

void DecodeProgram::Walk::note_squares(const ActivationSource& source, const TokenBlock& block,
                                       ProductInput input, size_t layer) {
  // Of a short pass every thread has all tokens.
  if (pass_.squares == nullptr || (few() && thread_ != 0)) return;
  pass_.squares->add(layer, input, block.first / PassBuffers::kBlockTokens, source);
}

void DecodeProgram::Walk::store(const ActivationSource& source, TokenBlock& block,
                                ActivationKinds kinds, size_t layer, const size_t* tokens) {
  for (size_t kind = 0; kind < block.activations.size(); ++kind) {
    const auto k = static_cast<ActivationKind>(kind);
    if ((kinds & kinds_bit(k)) == 0) continue;
    const Activations to{k, block.tokens, source.x.cols, block.activations[kind]};
    if (store_activations(source, 0, to)) continue;
    size_t token = 0;
    while (token + 1 < block.tokens && all_finite_row(source.x[token])) ++token;
    note_fault(layer, tokens == nullptr ? block.first + token : tokens[token]);
  }
}

void DecodeProgram::Walk::store_rows(View2<const float> rows, ActivationKinds kinds,
                                     ProductInput input, size_t layer) {
  for (size_t i = 0; i < blocks_.size(); ++i) {
    if (!fills(i)) continue;
    const ActivationSource source{rows.rows_slice(blocks_[i].first, blocks_[i].tokens), {}, {}};
    note_squares(source, blocks_[i], input, layer);
    store(source, blocks_[i], kinds, layer);
  }
  meet_if_shared();
}

void DecodeProgram::Walk::multiply(const PlannedRows& rows, std::span<const TokenBlock> blocks,
                                   View2<float> y, const std::vector<float>& bias) {
  if (rows.tiles.rows == 0) return;
  const size_t group_bytes = tile_group_bytes(rows.tiles.kind, rows.tiles.cols);
  const size_t step = blocks.size() == 1
                          ? rows.tiles.rows
                          : std::max<size_t>(1, kResidentBytes / group_bytes) * kTileRows;
  for (size_t at = 0; at < rows.tiles.rows; at += step) {
    TileRows some = rows.tiles;
    some.rows = std::min(step, rows.tiles.rows - at);
    some.tiles += at / kTileRows * group_bytes;
    some.constant_cols = some.constant_cols && program_.parts_.constant_k;
    for (const TokenBlock& block : blocks) multiply_block(some, rows.first + at, block, y, bias);
  }
  stream_ = rows.tiles.tiles + tile_groups(rows.tiles.rows) * group_bytes;
}

void DecodeProgram::Walk::multiply_block(const TileRows& rows, size_t first,
                                         const TokenBlock& block, View2<float> y,
                                         const std::vector<float>& bias) {
  const ActivationKind kind = activation_kind_of(rows.kind);
  const Activations x{kind, block.tokens, rows.cols, block.activations[static_cast<size_t>(kind)]};
  const View2<float> out = y.rows_slice(block.first, block.tokens).cols_slice(first, rows.rows);
  // Without prefetch nothing beyond the matrix is asked for: only what is at hand anyway.
  const NextStream next = program_.parts_.prefetch ? NextStream{} : NextStream{x.data, 64};
  multiply_tiles(rows, x, out, next);
  if (bias.empty()) return;
  for (size_t t = 0; t < block.tokens; ++t)
    for (size_t r = 0; r < rows.rows; ++r) out[t][r] += bias[first + r];
}

void DecodeProgram::Walk::gate(const ThreadMlp& mlp, const Layer& layer,
                               std::span<const TokenBlock> blocks, View2<float> gated) {
  if (!program_.config_.gated_mlp) return activate(mlp, layer, blocks, gated);
  for (size_t i = 0; i < mlp.gate.size(); ++i) {
    const size_t first = mlp.gate[i].first, rows = mlp.gate[i].tiles.rows;
    const View2<float> both = own_.gate_up.rows_slice(0, gated.rows).cols_slice(0, 2 * rows);
    // The products write rows [first, ...) of a matrix; here the turn's first row is column 0.
    PlannedRows gate = mlp.gate[i], up = mlp.up[i];
    gate.first = up.first = 0;
    multiply(gate, blocks, both.cols_slice(0, rows), {});
    multiply(up, blocks, both.cols_slice(rows, rows), {});
    for (size_t t = 0; t < gated.rows && !layer.gate_bias.empty(); ++t)
      for (size_t r = 0; r < rows; ++r) {
        both[t][r] += layer.gate_bias[first + r];
        both[t][rows + r] += layer.up_bias[first + r];
      }
    gated_unit(program_.config_.gate, both, gated.cols_slice(first, rows));
  }
}

void DecodeProgram::Walk::activate(const ThreadMlp& mlp, const Layer& layer,
                                   std::span<const TokenBlock> blocks, View2<float> inner) {
  for (const PlannedRows& up : mlp.up) {
    multiply(up, blocks, inner, layer.up_bias);
    const View2<float> some = inner.cols_slice(up.first, up.tiles.rows);
    activation(program_.config_.gate, some, some);
  }
}

}  // namespace cairn
