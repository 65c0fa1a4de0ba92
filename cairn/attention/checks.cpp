#include "cairn/attention/checks.h"

#include <cmath>

#include "cairn/base/error.h"
#include "cairn/tensor/shape.h"

namespace cairn {
namespace {}  // namespace

void refuse(std::string_view doing, std::string_view subject, std::string expected,
            std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(doing),
               .subject = std::string(subject),
               .expected = std::move(expected),
               .found = std::move(found)});
}

void check_geometry(std::string_view doing, const AttentionGeometry& g) {
  const auto in_range = [](size_t dim) { return dim >= 1 && dim <= 256; };
  if (!in_range(g.head_dim)) refuse(doing, "head_dim", "1 to 256", std::to_string(g.head_dim));
  if (!in_range(g.value_dim)) refuse(doing, "value_dim", "1 to 256", std::to_string(g.value_dim));
  if (g.kv_heads == 0 || g.heads == 0 || g.heads % g.kv_heads != 0)
    refuse(doing, "heads", "a multiple of kv_heads (" + std::to_string(g.kv_heads) + ")",
           std::to_string(g.heads));
  if (!(g.scale >= 0) || !std::isfinite(g.scale))
    refuse(doing, "scale", "0 (for 1/sqrt(head_dim)) or positive", std::to_string(g.scale));
}

void check_causal(std::string_view doing, const AttentionMechanism& mechanism) {
  if (mechanism.mask() == AttentionMask::causal) return;
  refuse(doing, std::string(mechanism.name()) + " attention, option mask",
         "causal, in what writes from left to right",
         mechanism.mask() == AttentionMask::cross ? "cross" : "bidirectional");
}

double number_option(std::string_view doing, const std::string& key, const OptionValue& value) {
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
  refuse(doing, "option " + key, "a number", "another type");
}

void check_heads(std::string_view doing, std::string_view argument, const AnyView3& view,
                 size_t tokens, size_t heads, size_t dim, DType dtype) {
  check_shape(doing, argument, {tokens, heads, dim}, {view.tokens, view.heads, view.dim});
  if (view.dtype == dtype && (dtype == DType::f32 || dtype == DType::bf16)) return;
  refuse(doing, argument, "f32 or bf16, the type of q", std::string(dtype_name(view.dtype)));
}

void check_queries_keys_values(std::string_view doing, const AttentionGeometry& g,
                               const AttentionInputs& inputs, AttentionMask mask) {
  const size_t tokens = inputs.q.tokens;
  const size_t keys = mask == AttentionMask::cross ? inputs.k.tokens : tokens;
  const DType dtype = inputs.q.dtype;
  check_heads(doing, "q", inputs.q, tokens, g.heads, g.head_dim, dtype);
  check_heads(doing, "k", inputs.k, keys, g.kv_heads, g.head_dim, dtype);
  check_heads(doing, "v", inputs.v, keys, g.kv_heads, g.value_dim, dtype);
}

void check_parameters(std::string_view doing, const std::vector<ParameterSpec>& specs,
                      std::span<const View1<const float>> parameters) {
  check_shape(doing, "parameters", {specs.size()}, {parameters.size()});
  for (size_t i = 0; i < specs.size(); ++i)
    check_shape(doing, specs[i].name, {element_count(specs[i].shape)}, {parameters[i].size});
}

void check_positions(std::string_view doing, View1<const int32_t> positions, size_t tokens,
                     size_t context_length) {
  check_shape(doing, "positions", {tokens}, {positions.size});
  for (const int32_t position : positions)
    if (position < 0 || static_cast<size_t>(position) >= context_length)
      refuse(doing, "positions",
             "0 to " + std::to_string(context_length) + " (context length), end excluded",
             std::to_string(position));
}

namespace {

void check_rising(std::string_view doing, std::string_view name, View1<const int32_t> offsets,
                  size_t tokens, EmptySequences empty) {
  const auto wrong = [&](const std::string& found) {
    refuse(doing, name, "rising from 0 to " + std::to_string(tokens) + " (tokens)", found);
  };
  if (offsets.size < 2 && !(offsets.size == 1 && tokens == 0))
    wrong(std::to_string(offsets.size) + " entries");
  if (offsets[0] != 0) wrong("first " + std::to_string(offsets[0]));
  const int32_t least = empty == EmptySequences::allowed ? 0 : 1;
  for (size_t i = 1; i < offsets.size; ++i)
    if (offsets[i] - offsets[i - 1] < least) wrong("entry " + std::to_string(offsets[i]));
  if (static_cast<size_t>(offsets[offsets.size - 1]) != tokens)
    wrong("last " + std::to_string(offsets[offsets.size - 1]));
}

}  // namespace

void check_offsets(std::string_view doing, View1<const int32_t> offsets, size_t tokens,
                   EmptySequences empty) {
  check_rising(doing, "offsets", offsets, tokens, empty);
}

void check_cross_layout(std::string_view doing, const TokenLayout& layout, size_t tokens,
                        size_t keys) {
  check_shape(doing, "key_offsets", {layout.offsets.size}, {layout.key_offsets.size});
  check_rising(doing, "offsets", layout.offsets, tokens, EmptySequences::allowed);
  check_rising(doing, "key_offsets", layout.key_offsets, keys, EmptySequences::allowed);
}

void check_layout(std::string_view doing, const TokenLayout& layout, size_t tokens,
                  EmptySequences empty) {
  if (!layout.key_offsets.empty())
    refuse(doing, "key_offsets", "none: keys are the queries' own tokens",
           std::to_string(layout.key_offsets.size) + " entries");
  check_offsets(doing, layout.offsets, tokens, empty);
}

AttentionWeights no_weights(size_t heads, const TokenLayout& layout) {
  if (layout.offsets.size != 2)
    refuse("weighing the tokens of a text", "offsets", "one sequence",
           std::to_string(layout.offsets.size - std::min<size_t>(layout.offsets.size, 1)));
  AttentionWeights result;
  result.heads = heads;
  result.tokens = static_cast<size_t>(layout.offsets[1]);
  result.keys = result.tokens;
  result.weights.resize(heads * result.tokens * result.keys);
  return result;
}

void check_bytes(std::string_view doing, std::string_view argument, size_t needed, size_t given) {
  if (given >= needed) return;
  refuse(doing, argument, "at least " + std::to_string(needed) + " bytes",
         std::to_string(given) + " bytes");
}

}  // namespace cairn
