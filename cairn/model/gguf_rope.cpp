// Rotary positions in GGUF files. Linear and YaRN scaling are keys; those that change each
// frequency by itself (llama3, longrope) are tensors of divisors, from which llama3's few numbers
// are found again.
#include <fmt/core.h>

#include <cmath>

#include "cairn/base/error.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"
#include "cairn/model/gguf.h"
#include "cairn/model/gguf_family.h"

namespace cairn {
namespace {

using Kind = RotaryScaling::Kind;

constexpr const char* kFreqs = "rope_freqs.weight";
constexpr const char* kShort = "rope_factors_short.weight";
constexpr const char* kLong = "rope_factors_long.weight";
constexpr double kDefaultTheta = 10000.0;  // where rope.freq_base is absent

std::vector<double> read_factors(const GgufArchive& archive, const char* name, size_t pairs) {
  const GgufTensor tensor = archive.tensor(name);
  if (tensor.type != BlockType::f32 || tensor.shape != Shape{pairs})
    throw Error(
        {.kind = ErrorKind::data,
         .doing = "loading " + archive.path().string(),
         .subject = "tensor " + in_quotes(name),
         .expected = "f32 " + to_string(Shape{pairs}),
         .found = fmt::format("{} {}", block_type_name(tensor.type), to_string(tensor.shape))});
  std::vector<float> values(pairs);
  decode_blocks(BlockType::f32, tensor.bytes, {values.data(), pairs});
  return {values.begin(), values.end()};
}

// By how much each frequency is divided.
std::vector<double> divisors(size_t dim, double theta, const RotaryScaling& scaling) {
  std::vector<double> result = rotary_frequencies(dim, theta);
  const std::vector<double> scaled = rotary_frequencies(dim, theta, scaling);
  for (size_t i = 0; i < result.size(); ++i) result[i] /= scaled[i];
  return result;
}

// llama3's scaling whose divisors these are, with the usual bounds of 1 and 4 turns.
bool is_llama3(const std::vector<double>& factors, size_t dim, double theta, double context,
               AttentionOptions& options) {
  RotaryScaling scaling{.kind = Kind::llama3,
                        .factor = std::round(8 * factors.back()) / 8,
                        .original_context = context};
  if (!(scaling.factor >= 1) || scaling.factor > 1e6) return false;
  const std::vector<double> expected = divisors(dim, theta, scaling);
  for (size_t i = 0; i < factors.size(); ++i)
    if (std::abs(expected[i] - factors[i]) > 1e-5 * expected[i]) return false;
  options.values["rope_scaling"] = std::string("llama3");
  options.values["rope_factor"] = scaling.factor;
  options.values["rope_low_freq_factor"] = 1.0;
  options.values["rope_high_freq_factor"] = 4.0;
  options.values["rope_original_context"] = context;
  return true;
}

void read_divisors(const GgufKeys& keys, size_t dim, double theta, AttentionOptions& options) {
  const std::vector<double> factors = read_factors(keys.archive(), kFreqs, dim / 2);
  for (double context = 32; context <= 1 << 20; context *= 2)
    if (is_llama3(factors, dim, theta, context, options)) return;
  options.values["rope_scaling"] = std::string("longrope");
  options.values["rope_short_factors"] = factors;
  options.values["rope_long_factors"] = factors;
  options.values["rope_attention_factor"] = 1.0;
}

// The growth that a file states, unless it is what the kind has anyway.
void read_growth(double stated, double usual, AttentionOptions& options) {
  if (std::abs(stated - usual) > 1e-5 * usual) options.values["rope_attention_factor"] = stated;
}

void read_longrope(const GgufKeys& keys, size_t dim, size_t context, AttentionOptions& options) {
  const auto original =
      static_cast<double>(keys.size("rope.scaling.original_context_length", context));
  const RotaryScaling scaling{.kind = Kind::longrope,
                              .factor = std::max(1.0, static_cast<double>(context) / original),
                              .original_context = original};
  options.values["rope_scaling"] = std::string("longrope");
  options.values["rope_short_factors"] = read_factors(keys.archive(), kShort, dim / 2);
  options.values["rope_long_factors"] = read_factors(keys.archive(), kLong, dim / 2);
  options.values["rope_original_context"] = original;
  options.values["rope_factor"] = scaling.factor;
  read_growth(keys.number("rope.scaling.attn_factor", 1), scaling.growth(), options);
}

void read_kind(const GgufKeys& keys, AttentionOptions& options) {
  const auto type = keys.find("rope.scaling.type");
  const std::string kind(type ? type->as_string() : "linear");
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  if (kind == "none" || (kind == "linear" && (factor == 1 || factor == 0))) return;
  options.values["rope_scaling"] = kind;
  options.values["rope_factor"] = factor;
  if (kind == "linear") return;
  if (kind != "yarn")
    type->fail("\"none\", \"linear\", \"yarn\" or, with tensors of factors, \"longrope\"",
               "other scaled rotary positions are not supported");
  options.values["rope_original_context"] =
      static_cast<double>(keys.size("rope.scaling.original_context_length"));
  for (const auto& [key, option] : {std::pair{"rope.scaling.yarn_beta_fast", "rope_beta_fast"},
                                    std::pair{"rope.scaling.yarn_beta_slow", "rope_beta_slow"}})
    if (const auto value = keys.find(key)) options.values[option] = gguf_decimal(*value);
  // One key multiplies YaRN's own growth, the other is in its place.
  const double own = RotaryScaling{.kind = Kind::yarn, .factor = factor}.growth();
  const double multiplied = own * keys.number("rope.scaling.attn_factor", 1);
  read_growth(keys.number("rope.scaling.yarn_attn_factor", multiplied), own, options);
}

}  // namespace

AttentionOptions read_gguf_rope(const GgufKeys& keys, size_t head_dim, size_t context) {
  AttentionOptions options;
  const double theta = keys.number("rope.freq_base", kDefaultTheta);
  if (!(theta > 0)) keys.at("rope.freq_base").fail("a positive number");
  options.values["rope_theta"] = theta;
  const size_t dim = keys.size("rope.dimension_count", head_dim);
  if (dim % 2 != 0 || dim > head_dim)
    keys.at("rope.dimension_count").fail(fmt::format("an even number up to head_dim {}", head_dim));
  if (dim != head_dim) options.values["rope_dim"] = static_cast<int64_t>(dim);
  if (keys.archive().find_tensor(kLong))
    read_longrope(keys, dim, context, options);
  else if (keys.archive().find_tensor(kFreqs))
    read_divisors(keys, dim, theta, options);
  else
    read_kind(keys, options);
  return options;
}

SoftmaxOptions gguf_softmax_options(const AttentionOptions& options, const ModelConfig& config) {
  const AttentionGeometry geometry{.hidden_size = config.hidden_size,
                                   .heads = config.heads,
                                   .kv_heads = config.kv_heads,
                                   .head_dim = config.head_dim,
                                   .value_dim = config.head_dim};
  return read_softmax_options("writing attention for GGUF", options, geometry, PositionKind::rope);
}

void write_gguf_rope(const ModelConfig& config, std::string_view family, GgufMetadata& metadata) {
  const SoftmaxOptions options = gguf_softmax_options(config.attention, config);
  const RotaryScaling& scaling = options.rope_scaling;
  const auto key = [&](const char* name) { return fmt::format("{}.rope.{}", family, name); };
  const auto number = [&](const char* name, double value) {
    metadata.set_f32(key(name), static_cast<float>(value));
  };
  const auto original = [&] {
    metadata.set_u32(key("scaling.original_context_length"),
                     static_cast<uint32_t>(scaling.original_context));
  };
  number("freq_base", options.rope_theta);
  metadata.set_u32(key("dimension_count"), static_cast<uint32_t>(options.rope_dim));
  if (scaling.kind == Kind::linear || scaling.kind == Kind::yarn) {
    metadata.set_string(key("scaling.type"), scaling.kind == Kind::linear ? "linear" : "yarn");
    number("scaling.factor", scaling.factor);
  } else if (scaling.kind == Kind::longrope) {
    metadata.set_string(key("scaling.type"), "longrope");
    original();
    number("scaling.attn_factor", scaling.growth());
  }
  if (scaling.kind != Kind::yarn) return;
  original();
  number("scaling.yarn_beta_fast", scaling.fast_turns);
  number("scaling.yarn_beta_slow", scaling.slow_turns);
  if (scaling.attention_factor > 0)
    number("scaling.attn_factor",
           scaling.attention_factor /
               RotaryScaling{.kind = Kind::yarn, .factor = scaling.factor}.growth());
}

std::vector<GgufTable> gguf_tables(const ModelConfig& config) {
  if (config.has_encoder()) return {};
  const SoftmaxOptions options = gguf_softmax_options(config.attention, config);
  const RotaryScaling& scaling = options.rope_scaling;
  const auto table = [](const char* name, const std::vector<double>& values) {
    return GgufTable{name, {values.begin(), values.end()}};
  };
  if (options.position != PositionKind::rope) return {};
  if (scaling.kind == Kind::llama3)
    return {table(kFreqs, divisors(options.rope_dim, options.rope_theta, scaling))};
  if (scaling.kind == Kind::longrope)
    return {table(kLong, scaling.long_factors), table(kShort, scaling.short_factors)};
  return {};
}

}  // namespace cairn
