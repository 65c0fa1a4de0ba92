#include "cairn/infer/decode_speed.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>

#include "cairn/base/error.h"
#include "cairn/base/median.h"
#include "cairn/base/random.h"
#include "cairn/base/seconds_since.h"
#include "cairn/base/suggest.h"
#include "cairn/kernels/blocks.h"

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens decoded before the clock starts: threads wake up, caches fill.
constexpr size_t kWarmUp = 4;
// Rows that are drawn; a matrix repeats them.
constexpr size_t kDrawnRows = 64;

struct NamedShape {
  std::string_view name;
  size_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  size_t experts = 0, experts_per_token = 0;
};

// The first two are the shapes of llama2.c's story models and of a small planner, the others those
// of SmolLM2-135M, SmolLM2-360M, Llama-3.2-1B and Granite-3.0-1B-A400M.
constexpr std::array kShapes = {
    NamedShape{"15m", 6, 288, 768, 6, 6, 48, 32000},
    NamedShape{"25m", 12, 384, 1024, 6, 2, 64, 16384},
    NamedShape{"135m", 30, 576, 1536, 9, 3, 64, 49152},
    NamedShape{"360m", 32, 960, 2560, 15, 5, 64, 49152},
    NamedShape{"1b", 16, 2048, 8192, 32, 8, 64, 128256},
    NamedShape{"1b-a400m", 24, 1024, 512, 16, 8, 64, 49155, 32, 8},
};

std::vector<float> start_of(const ParameterSpec& spec) {
  const Initializer& start = spec.initializer;
  std::vector<float> values(element_count(spec.shape), static_cast<float>(start.value));
  if (start.kind == Initializer::Kind::constant) return values;
  const RandomStream stream(1, spec.name);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(start.value * stream.normal(i));
  return values;
}

}  // namespace

ModelConfig RandomDecoder::shape(std::string_view name) {
  std::vector<std::string> names;
  for (const NamedShape& s : kShapes) {
    names.emplace_back(s.name);
    if (s.name != name) continue;
    ModelConfig config;
    config.layers = s.layers;
    config.hidden_size = s.hidden;
    config.intermediate_size = s.intermediate;
    config.heads = s.heads;
    config.kv_heads = s.kv_heads;
    config.head_dim = s.head_dim;
    config.vocab_size = s.vocab;
    config.context_length = 8192;
    config.experts = s.experts;
    config.experts_per_token = s.experts_per_token;
    if (s.experts > 0) config.architecture = "granitemoe";
    return normalized(config);
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a shape to measure",
               .expected = "15m, 25m, 135m, 360m, 1b or 1b-a400m",
               .found = std::string(name),
               .hint = did_you_mean(std::string(name), names)});
}

RandomDecoder::RandomDecoder(const ModelConfig& config, BlockType type) : type_(type) {
  const size_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const auto matrix = [&](size_t rows, size_t cols) { return this->matrix(type_, rows, cols); };
  const std::vector<float> ones(config.hidden_size, 1.0F);
  const LayerAttention attention(config);
  weights_.config = config;
  weights_.embedding = matrix(config.vocab_size, config.hidden_size);
  weights_.head = weights_.embedding;
  weights_.final_norm = ones;
  for (size_t i = 0; i < config.layers; ++i) {
    DecoderLayerWeights& layer = weights_.layers.emplace_back();
    layer.attention_norm = layer.mlp_norm = ones;
    layer.q = matrix(q, config.hidden_size);
    layer.k = layer.v = matrix(kv, config.hidden_size);
    layer.o = matrix(config.hidden_size, q);
    for (const ParameterSpec& spec : attention[i].parameters())
      layer.attention_parameters.push_back(start_of(spec));
    const StoredMatrix in = matrix(config.intermediate_size, config.hidden_size);
    const StoredMatrix out = matrix(config.hidden_size, config.intermediate_size);
    if (config.experts > 0) {
      layer.router = this->matrix(BlockType::f32, config.experts, config.hidden_size);
      layer.experts.assign(config.experts, {in, in, out});
    } else {
      layer.gate = layer.up = in;
      layer.down = out;
    }
  }
}

StoredMatrix RandomDecoder::matrix(BlockType type, size_t rows, size_t cols) {
  for (const auto& [known, bytes] : matrices_)
    if (known.type == type && known.rows == rows && known.cols == cols) return known;
  const size_t row_bytes = block_row_bytes(type, cols);
  auto& [made, bytes] = matrices_.emplace_back();
  bytes.resize(rows * row_bytes);
  const RandomStream stream(rows * 131 + cols, "random decoder");
  std::vector<float> row(cols);
  for (size_t r = 0; r < rows; ++r) {
    const auto to = std::span(bytes).subspan(r * row_bytes, row_bytes);
    if (r >= kDrawnRows) {
      std::copy_n(bytes.begin() + static_cast<int64_t>(r % kDrawnRows * row_bytes), row_bytes,
                  to.begin());
      continue;
    }
    for (size_t c = 0; c < cols; ++c) row[c] = static_cast<float>(0.02 * stream.normal(r, c));
    encode_blocks(type, {row.data(), cols}, to);
  }
  made = {type, rows, cols, bytes.data()};
  return made;
}

int32_t DecodeSpeed::text(size_t position) const {
  return static_cast<int32_t>((position * 7919 + 17) % session_.config().vocab_size);
}

void DecodeSpeed::fill(size_t length, FunctionRef<void(size_t)> read) {
  constexpr size_t kStep = 256;
  if (session_.length() > length) session_.keep(length);
  while (session_.length() < length) {
    if (session_.length() >= kRead && session_.repeat_to(length)) return;
    std::vector<int32_t> tokens;
    for (size_t i = session_.length(); i < length && tokens.size() < kStep; ++i)
      tokens.push_back(text(i));
    session_.append(tokens);
    read(tokens.size());
  }
}

int32_t DecodeSpeed::next_token(int32_t token) {
  next_.read(session_, {&token, 1});
  return next_.draw(session_.tokens());
}

std::vector<double> DecodeSpeed::decode(size_t depth, size_t tokens) {
  fill(depth);
  session_.reserve(depth + std::max(tokens, kWarmUp));
  int32_t token = text(depth);
  for (size_t i = 0; i < kWarmUp; ++i) token = next_token(token);
  session_.truncate(depth);
  std::vector<double> seconds;
  for (size_t i = 0; i < tokens; ++i) {
    const auto start = Clock::now();
    token = next_token(token);
    seconds.push_back(seconds_since(start));
  }
  session_.keep(depth);
  return seconds;
}

double DecodeSpeed::barrier_share(size_t depth, size_t tokens) {
  fill(depth);
  session_.reserve(depth + tokens);
  engine_.time_barriers(true);
  int32_t token = text(depth);
  std::vector<double> shares;
  for (size_t i = 0; i < tokens; ++i) {
    const auto start = Clock::now();
    token = next_token(token);
    shares.push_back(engine_.barrier_seconds() / seconds_since(start));
  }
  engine_.time_barriers(false);
  session_.truncate(depth);
  return median_of(shares);
}

double DecodeSpeed::prefill(size_t tokens) {
  session_.truncate(0);
  fill(std::min<size_t>(tokens, 32));
  session_.truncate(0);
  session_.reserve(tokens);
  std::vector<int32_t> prompt;
  for (size_t i = 0; i < tokens; ++i) prompt.push_back(text(i));
  const auto start = Clock::now();
  next_.read(session_, prompt);
  next_.draw(session_.tokens());
  return seconds_since(start);
}

std::vector<double> DecodeSpeed::passes(size_t depth, size_t width, size_t count) {
  fill(depth);
  const size_t vocab = session_.config().vocab_size;
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < width; ++i) tokens.push_back(text(depth + i));
  std::vector<float> logits(width * vocab);
  std::vector<double> seconds;
  for (size_t i = 0; i < count + kWarmUp; ++i) {
    const auto start = Clock::now();
    session_.append(tokens, {logits.data(), width, vocab});
    if (i >= kWarmUp) seconds.push_back(seconds_since(start));
    session_.truncate(depth);
  }
  return seconds;
}

}  // namespace cairn
