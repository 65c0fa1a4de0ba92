#include "cairn/infer/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/infer/products.h"
#include "cairn/kernels/activations.h"
#include "cairn/kernels/dispatch.h"
#include "cairn/kernels/elementwise.h"
#include "cairn/kernels/norms.h"
#include "cairn/model/decoder_layout.h"
#include "cairn/tensor/shape.h"
#include "cairn/tensor/tensor.h"

namespace cairn {
namespace {

// Rows of an element-wise pass that one chunk of the team takes.
constexpr size_t kRowGrain = 16;

// A projection [out, in] and its bias [out], empty where it has none.
struct Projection {
  AnyView2 weight;
  View1<const float> bias;
};

struct Layer {
  View1<const float> attention_norm, mlp_norm;            // [hidden]
  View1<const float> attention_post_norm, mlp_post_norm;  // [hidden] or empty
  Projection q, k, v;                                     // [heads * dim, hidden]
  Projection o;                                           // [hidden, heads * value_dim]
  Projection gate, up;                                    // [intermediate, hidden]
  Projection down;                                        // [hidden, intermediate]
  std::vector<View1<const float>> attention_parameters;
};

// The weights as decoding wants them: views into the model, or copies where the type differs.
class Weights {
 public:
  Weights(Model& model, const LayerAttention& attention, DType dtype, bool keep_model)
      : dtype_(dtype), copy_vectors_(!keep_model) {
    const ModelConfig& config = model.config();
    embedding = matrix(model, kEmbeddingName);
    final_norm = vector(model, kFinalNormName);
    head = config.tie_embeddings ? embedding : matrix(model, kHeadName);
    layers.reserve(config.layers);
    for (size_t i = 0; i < config.layers; ++i)
      layers.push_back(layer(model, attention[i], layer_names(config, i)));
  }

  AnyView2 embedding, head;  // [vocab, hidden]
  View1<const float> final_norm;
  std::vector<Layer> layers;

 private:
  AnyView2 matrix(Model& model, const std::string& name) {
    const View2<float> values = model.matrix(name);
    if (dtype_ == DType::f32) return values;
    Tensor& copy = copies_.emplace_back(DType::bf16, Shape{values.rows, values.cols});
    convert(values, copy.matrix<bf16>());
    return copy.matrix<bf16>();
  }

  // A tensor of any rank that is no matrix of a product, flat and f32; empty without a name.
  View1<const float> vector(Model& model, const std::string& name) {
    if (name.empty()) return {};
    const View1<float> values = model.values(model.find(name));
    if (!copy_vectors_) return values;
    Tensor& copy = copies_.emplace_back(DType::f32, Shape{values.size});
    std::copy(values.begin(), values.end(), copy.span<float>().begin());
    return {copy.span<float>().data(), values.size};
  }

  Layer layer(Model& model, const AttentionMechanism& attention, const LayerNames& names) {
    const auto projection = [&](const std::string& weight, const std::string& bias) {
      return Projection{matrix(model, weight), vector(model, bias)};
    };
    Layer layer;
    layer.attention_norm = vector(model, names.attention_norm);
    layer.q = projection(names.q, names.q_bias);
    layer.k = projection(names.k, names.k_bias);
    layer.v = projection(names.v, names.v_bias);
    for (const ParameterSpec& spec : attention.parameters())
      layer.attention_parameters.push_back(vector(model, names.attention + spec.name));
    layer.o = projection(names.o, names.o_bias);
    layer.attention_post_norm = vector(model, names.attention_post_norm);
    layer.mlp_norm = vector(model, names.mlp_norm);
    layer.gate = projection(names.gate, names.gate_bias);
    layer.up = projection(names.up, names.up_bias);
    layer.down = projection(names.down, names.down_bias);
    layer.mlp_post_norm = vector(model, names.mlp_post_norm);
    return layer;
  }

  DType dtype_;
  bool copy_vectors_;
  std::vector<Tensor> copies_;  // a Tensor's memory stays where it is when the vector grows
};

size_t bytes_of(const AnyView2& matrix) {
  return matrix.rows * matrix.cols * dtype_size(matrix.dtype);
}
size_t bytes_of(const Projection& projection) {
  return bytes_of(projection.weight) + projection.bias.size * sizeof(float);
}

// Activations of one call, [kMostTokens, ...].
class Scratch {
 public:
  Scratch(const ModelConfig& c, const AttentionGeometry& g)
      : hidden(room(c.hidden_size)),
        normed(room(c.hidden_size)),
        qkv(room(g.heads * g.head_dim + g.kv_heads * (g.head_dim + g.value_dim))),
        attended(room(g.heads * g.value_dim)),
        branch(room(c.hidden_size)),
        gate_up(room(2 * c.intermediate_size)),
        activated(room(c.intermediate_size)),
        logits(room(c.vocab_size, 1)) {}

 private:
  View2<float> room(size_t cols, size_t rows = Products::kMostTokens) {
    return buffers_.emplace_back(DType::f32, Shape{rows, cols}).matrix<float>();
  }
  std::vector<Tensor> buffers_;

 public:
  View2<float> hidden, normed, qkv, attended, branch, gate_up, activated, logits;
};

}  // namespace

struct Session::Implementation {
  Engine::Implementation* engine = nullptr;
  std::vector<int32_t> tokens;
  std::vector<std::unique_ptr<AttentionCache>> caches;  // one a layer
};

struct Engine::Implementation {
  Implementation(Model* borrowed, std::optional<Model> taken, ThreadTeam& the_team,
                 const EngineOptions& the_options);

  // Reads at most kMostTokens tokens: their normed final states in scratch.normed.
  void read(Session::Implementation& session, std::span<const int32_t> tokens);
  void check(const Session::Implementation& session, std::span<const int32_t> tokens) const;

  std::optional<Model> owned;
  ModelConfig config;
  ThreadTeam& team;
  EngineOptions options;
  LayerAttention attention;
  Weights weights;
  Products products;
  Scratch scratch;

 private:
  Model& model(Model* borrowed) { return borrowed != nullptr ? *borrowed : *owned; }
  void embed(std::span<const int32_t> tokens);
  void normalize(View1<const float> gain, size_t tokens, double factor = 1);
  void add_bias(const Projection& projection, View2<float> y, size_t tokens);
  void end_branch(const Projection& projection, View1<const float> post_norm, View2<const float> x,
                  size_t tokens);
  void attend(const Layer& layer, AttentionCache& cache, size_t tokens);
  void transform(const Layer& layer, size_t tokens);
  // Calls body(first row, rows) for chunks of the first `tokens` rows.
  template <class Body>
  void by_rows(size_t tokens, Body body) {
    team.run(chunk_count(tokens, kRowGrain), [&](size_t chunk, int /*thread*/) {
      const size_t begin = chunk * kRowGrain;
      body(begin, std::min(kRowGrain, tokens - begin));
    });
  }
};

Engine::Implementation::Implementation(Model* borrowed, std::optional<Model> taken,
                                       ThreadTeam& the_team, const EngineOptions& the_options)
    : owned(std::move(taken)),
      config(model(borrowed).config()),
      team(the_team),
      options(the_options),
      attention(config),
      weights(model(borrowed), attention, the_options.weights,
              borrowed != nullptr || the_options.weights == DType::f32),
      products(the_team),
      scratch(config, attention[0].geometry()) {
  if (options.context == 0) options.context = config.context_length;
  if (options.context > config.context_length)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "preparing to decode",
                 .subject = "context",
                 .expected = fmt::format("at most {} (the model's)", config.context_length),
                 .found = std::to_string(options.context)});
  if (options.weights != DType::f32) owned.reset();
}

void Engine::Implementation::embed(std::span<const int32_t> tokens) {
  const View2<float> hidden = scratch.hidden;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto id = static_cast<size_t>(tokens[t]);
    const View2<float> row = hidden.rows_slice(t, 1);
    if (weights.embedding.dtype == DType::bf16)
      convert(weights.embedding.as<const bf16>().rows_slice(id, 1), row);
    else
      copy(weights.embedding.as<const float>().rows_slice(id, 1), row);
    if (config.embedding_multiplier != 1)
      scale(row, static_cast<float>(config.embedding_multiplier), row);
  }
}

void Engine::Implementation::normalize(View1<const float> gain, size_t tokens, double factor) {
  const NormOptions options{static_cast<float>(config.rms_norm_eps),
                            static_cast<float>(config.norm_offset), static_cast<float>(factor)};
  by_rows(tokens, [&](size_t begin, size_t rows) {
    rms_norm(scratch.hidden.rows_slice(begin, rows), gain, options,
             scratch.normed.rows_slice(begin, rows));
  });
}

void Engine::Implementation::add_bias(const Projection& projection, View2<float> y, size_t tokens) {
  if (projection.bias.empty()) return;
  const View2<const float> bias(projection.bias.data, 1, projection.bias.size);
  for (size_t row = 0; row < tokens; ++row) add(bias, y.rows_slice(row, 1));
}

// hidden += residual_multiplier * post(x W^T + b)
void Engine::Implementation::end_branch(const Projection& projection, View1<const float> post_norm,
                                        View2<const float> x, size_t tokens) {
  const View2<float> branch = scratch.branch;
  const GemvPart output{projection.weight, branch};
  products.run({&output, 1}, x, tokens);
  add_bias(projection, branch, tokens);
  const NormOptions norm{static_cast<float>(config.rms_norm_eps),
                         static_cast<float>(config.norm_offset)};
  const auto factor = static_cast<float>(config.residual_multiplier);
  by_rows(tokens, [&](size_t begin, size_t rows) {
    const View2<float> some = branch.rows_slice(begin, rows);
    if (!post_norm.empty()) rms_norm(some, post_norm, norm, some);
    add_scaled(some, factor, scratch.hidden.rows_slice(begin, rows));
  });
}

void Engine::Implementation::attend(const Layer& layer, AttentionCache& cache, size_t tokens) {
  const AttentionGeometry& g = attention[0].geometry();
  const View2<float> qkv = scratch.qkv;
  const View2<float> q = qkv.cols_slice(0, layer.q.weight.rows);
  const View2<float> k = qkv.cols_slice(q.cols, layer.k.weight.rows);
  const View2<float> v = qkv.cols_slice(q.cols + k.cols, layer.v.weight.rows);
  const std::array<GemvPart, 3> projections = {
      {{layer.q.weight, q}, {layer.k.weight, k}, {layer.v.weight, v}}};
  const View2<float> normed = scratch.normed;
  products.run(projections, normed, tokens);
  add_bias(layer.q, q, tokens);
  add_bias(layer.k, k, tokens);
  add_bias(layer.v, v, tokens);

  const View2<float> attended = scratch.attended;
  AttentionInputs inputs;
  inputs.x = normed.rows_slice(0, tokens);
  inputs.q = split_heads(q.rows_slice(0, tokens), g.heads);
  inputs.k = split_heads(k.rows_slice(0, tokens), g.kv_heads);
  inputs.v = split_heads(v.rows_slice(0, tokens), g.kv_heads);
  inputs.parameters = layer.attention_parameters;
  cache.append_and_attend(inputs, split_heads(attended.rows_slice(0, tokens), g.heads), team);
  end_branch(layer.o, layer.attention_post_norm, attended, tokens);
}

void Engine::Implementation::transform(const Layer& layer, size_t tokens) {
  const View2<float> gate_up = scratch.gate_up;
  const View2<float> activated = scratch.activated;
  const size_t width = config.intermediate_size;
  const View2<float> gate = gate_up.cols_slice(0, width), up = gate_up.cols_slice(width, width);
  const std::array<GemvPart, 2> expansion = {{{layer.gate.weight, gate}, {layer.up.weight, up}}};
  products.run(expansion, scratch.normed, tokens);
  add_bias(layer.gate, gate, tokens);
  add_bias(layer.up, up, tokens);
  by_rows(tokens, [&](size_t begin, size_t rows) {
    gated_unit(config.gate, gate_up.rows_slice(begin, rows), activated.rows_slice(begin, rows));
  });
  end_branch(layer.down, layer.mlp_post_norm, activated, tokens);
}

void Engine::Implementation::read(Session::Implementation& session,
                                  std::span<const int32_t> tokens) {
  embed(tokens);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const Layer& layer = weights.layers[i];
    normalize(layer.attention_norm, tokens.size());
    attend(layer, *session.caches[i], tokens.size());
    normalize(layer.mlp_norm, tokens.size());
    transform(layer, tokens.size());
  }
  normalize(weights.final_norm, tokens.size(), 1 / config.logits_divisor);
  session.tokens.insert(session.tokens.end(), tokens.begin(), tokens.end());
}

void Engine::Implementation::check(const Session::Implementation& session,
                                   std::span<const int32_t> tokens) const {
  const size_t length = session.tokens.size();
  if (tokens.empty())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading tokens",
                 .expected = "at least one token",
                 .found = "none"});
  if (tokens.size() > options.context - length)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading tokens",
                 .expected = fmt::format("at most {} tokens (the context)", options.context),
                 .found = fmt::format("{} behind {} read before", tokens.size(), length),
                 .hint = "shorten the text, or use a model with a longer context"});
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || static_cast<size_t>(tokens[i]) >= config.vocab_size)
      throw Error({.kind = ErrorKind::data,
                   .doing = "reading tokens",
                   .subject = fmt::format("token {} of {}", i, tokens.size()),
                   .expected = fmt::format("0 to {} (vocab_size {})", config.vocab_size - 1,
                                           config.vocab_size),
                   .found = std::to_string(tokens[i]),
                   .hint = "is the tokenizer from another model?"});
}

Session::Session(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

View1<const float> Session::append(std::span<const int32_t> tokens) {
  Engine::Implementation& engine = *implementation_->engine;
  engine.check(*implementation_, tokens);
  const size_t before = length();
  try {
    size_t last = 0;
    while (!tokens.empty()) {
      const size_t count = std::min(tokens.size(), Products::kMostTokens);
      engine.read(*implementation_, tokens.first(count));
      tokens = tokens.subspan(count);
      last = count - 1;
    }
    const View2<float> logits = engine.scratch.logits;
    const GemvPart head{engine.weights.head, logits};
    engine.products.run({&head, 1}, engine.scratch.normed.rows_slice(last, 1), 1);
    return logits[0];
  } catch (...) {
    truncate(before);
    throw;
  }
}

void Session::append(std::span<const int32_t> tokens, View2<float> logits) {
  Engine::Implementation& engine = *implementation_->engine;
  engine.check(*implementation_, tokens);
  check_shape("reading tokens", "logits", {tokens.size(), engine.config.vocab_size},
              {logits.rows, logits.cols});
  const size_t before = length();
  try {
    for (size_t done = 0; done < tokens.size();) {
      const size_t count = std::min(tokens.size() - done, Products::kMostTokens);
      engine.read(*implementation_, tokens.subspan(done, count));
      for (size_t t = 0; t < count;) {
        // Large pieces touch exactly their own rows, so nothing is written behind `logits`.
        const size_t left = count - t;
        const size_t piece = left >= 32 ? 32 : std::min(left, Products::kFewTokens);
        const GemvPart head{engine.weights.head, logits.rows_slice(done + t, piece)};
        engine.products.run({&head, 1}, engine.scratch.normed.rows_slice(t, piece), piece);
        t += piece;
      }
      done += count;
    }
  } catch (...) {
    truncate(before);
    throw;
  }
}

std::span<const int32_t> Session::tokens() const {
  return implementation_->tokens;
}

size_t Session::room() const {
  return implementation_->engine->options.context - length();
}

const ModelConfig& Session::config() const {
  return implementation_->engine->config;
}

size_t Session::cache_bytes() const {
  size_t bytes = 0;
  for (const auto& cache : implementation_->caches) bytes += cache->bytes();
  return bytes;
}

void Session::truncate(size_t length) {
  if (length > this->length())
    throw Error({.kind = ErrorKind::usage,
                 .doing = "truncating a text",
                 .expected = fmt::format("at most its {} tokens", this->length()),
                 .found = std::to_string(length)});
  for (const auto& cache : implementation_->caches)
    if (cache->length() > length) cache->truncate(length);
  implementation_->tokens.resize(length);
}

Session Session::fork() const {
  auto copy = std::make_unique<Implementation>();
  copy->engine = implementation_->engine;
  copy->tokens.reserve(implementation_->engine->options.context);
  copy->tokens = implementation_->tokens;
  for (const auto& cache : implementation_->caches) copy->caches.push_back(cache->fork());
  return Session(std::move(copy));
}

Engine::Engine(Model& model, ThreadTeam& team, const EngineOptions& options) {
  apply_isa_limit();
  implementation_ = std::make_unique<Implementation>(&model, std::nullopt, team, options);
}

Engine::Engine(Model&& model, ThreadTeam& team, const EngineOptions& options) {
  apply_isa_limit();
  implementation_ = std::make_unique<Implementation>(nullptr, std::move(model), team, options);
}

Engine::~Engine() = default;

Session Engine::start() {
  auto session = std::make_unique<Session::Implementation>();
  session->engine = implementation_.get();
  session->tokens.reserve(implementation_->options.context);
  for (size_t i = 0; i < implementation_->config.layers; ++i)
    session->caches.push_back(implementation_->attention[i].make_cache(
        implementation_->options.context, implementation_->options.cache));
  return Session(std::move(session));
}

const ModelConfig& Engine::config() const {
  return implementation_->config;
}

size_t Engine::context() const {
  return implementation_->options.context;
}

size_t Engine::bytes_per_token() const {
  const Weights& weights = implementation_->weights;
  size_t bytes = bytes_of(weights.head);
  for (const Layer& layer : weights.layers)
    bytes += bytes_of(layer.q) + bytes_of(layer.k) + bytes_of(layer.v) + bytes_of(layer.o) +
             bytes_of(layer.gate) + bytes_of(layer.up) + bytes_of(layer.down);
  return bytes;
}

}  // namespace cairn
