#include "cairn/eval/attention_map.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "cairn/base/error.h"
#include "cairn/nn/language_model.h"
#include "cairn/text/char_classes.h"

namespace cairn {
namespace {

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "looking at attention",
               .subject = subject,
               .expected = expected,
               .found = found});
}

std::vector<double> doubles(const View3<const float>& from) {
  std::vector<double> to;
  to.reserve(from.tokens * from.heads * from.dim);
  for (size_t t = 0; t < from.tokens; ++t)
    for (size_t head = 0; head < from.heads; ++head) {
      const float* row = from.data + t * from.token_stride + head * from.head_stride;
      to.insert(to.end(), row, row + from.dim);
    }
  return to;
}

AttentionMechanism::Reference reference_of(const AttentionInputs& in) {
  AttentionMechanism::Reference out;
  out.q = doubles(in.q.as<const float>());
  out.k = doubles(in.k.as<const float>());
  out.v = doubles(in.v.as<const float>());
  for (size_t t = 0; t < in.x.rows; ++t) {
    const View1<const float> row = in.x.as<const float>()[t];
    out.x.insert(out.x.end(), row.begin(), row.end());
  }
  for (const View1<const float>& parameter : in.parameters)
    out.parameters.emplace_back(parameter.begin(), parameter.end());
  return out;
}

Batch batch_of(std::span<const int32_t> tokens) {
  Batch batch;
  batch.sequences = 1;
  batch.length = tokens.size();
  batch.tokens.assign(tokens.begin(), tokens.end());
  batch.targets.assign(tokens.size(), kIgnoredTarget);
  batch.offsets = {0, static_cast<int32_t>(tokens.size())};
  batch.positions.resize(tokens.size());
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  return batch;
}

// The same shape with one head, all zero.
AttentionWeights single(const AttentionWeights& of) {
  AttentionWeights result;
  result.heads = 1;
  result.tokens = of.tokens;
  result.keys = of.keys;
  result.weights.resize(of.tokens * of.keys);
  for (const AttentionWeights::Extra& extra : of.extras) {
    result.extras.push_back({extra.name, extra.meaning, extra.lowest, {}});
    result.extras.back().values.resize(of.tokens * of.keys);
  }
  return result;
}

// Adds `factor` times what `head` has for one query and key.
void add_head(const AttentionWeights& from, size_t head, size_t query, size_t key, double factor,
              AttentionWeights& to) {
  const size_t source = from.at(head, query, key), target = to.at(0, query, key);
  to.weights[target] += factor * from.weights[source];
  for (size_t e = 0; e < from.extras.size(); ++e)
    to.extras[e].values[target] += factor * from.extras[e].values[source];
}

}  // namespace

std::vector<LayerWeights> read_attention(Model& model, std::span<const int32_t> tokens,
                                         std::span<const size_t> layers, ThreadTeam& team) {
  if (tokens.empty() || tokens.size() > kMostLookedAt)
    refuse("text", fmt::format("1 to {} tokens", kMostLookedAt), std::to_string(tokens.size()));
  for (const size_t layer : layers)
    if (layer >= model.config().layers)
      refuse("layer", fmt::format("0 to {}", model.config().layers - 1), std::to_string(layer));
  LanguageModel network(model, {1, tokens.size(), Precision::f32}, team);
  std::vector<LayerWeights> result;
  size_t layer = 0;
  network.observe_attention([&](const AttentionSeen& seen) {
    if (std::find(layers.begin(), layers.end(), layer) != layers.end())
      result.push_back({layer, std::string(seen.mechanism.name()),
                        seen.mechanism.reference_weights(reference_of(seen.inputs), seen.layout)});
    ++layer;
  });
  network.forward(batch_of(tokens));
  return result;
}

AttentionWeights mean_of_heads(const AttentionWeights& weights) {
  AttentionWeights result = single(weights);
  for (size_t head = 0; head < weights.heads; ++head)
    for (size_t query = 0; query < weights.tokens; ++query)
      for (size_t key = 0; key <= query; ++key)
        add_head(weights, head, query, key, 1.0 / static_cast<double>(weights.heads), result);
  return result;
}

AttentionWeights strongest_of_heads(const AttentionWeights& weights) {
  AttentionWeights result = single(weights);
  for (size_t query = 0; query < weights.tokens; ++query)
    for (size_t key = 0; key <= query; ++key) {
      size_t best = 0;
      for (size_t head = 1; head < weights.heads; ++head)
        if (weights.weights[weights.at(head, query, key)] >
            weights.weights[weights.at(best, query, key)])
          best = head;
      add_head(weights, best, query, key, 1, result);
    }
  return result;
}

AttentionWeights one_head(const AttentionWeights& weights, size_t head) {
  if (head >= weights.heads)
    refuse("head", fmt::format("0 to {}", weights.heads - 1), std::to_string(head));
  AttentionWeights result = single(weights);
  for (size_t query = 0; query < weights.tokens; ++query)
    for (size_t key = 0; key <= query; ++key) add_head(weights, head, query, key, 1, result);
  return result;
}

std::string visible_token(std::string_view bytes) {
  const bool readable = is_utf8(bytes);
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == ' ')
      text += "·";
    else if (c == '\n')
      text += "⏎";
    else if (c == '\t')
      text += "→";
    else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !readable))
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  return text;
}

}  // namespace cairn
