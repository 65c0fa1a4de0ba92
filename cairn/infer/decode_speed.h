// Measures an engine as its users meet it: from a token's id to the next one's, or from a prompt to
// its first token. Texts and weights may be random: speed does not depend on them.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <vector>

#include "cairn/infer/engine.h"

namespace cairn {

// A decoder with random weights in one type, in the shape of a well-known model or one given.
// Layers share one matrix of each shape where it is stored; the engine still packs each its own.
class RandomDecoder {
 public:
  // "15m", "25m", "135m", "360m", "1b" or "1b-a400m". Throws Error (usage) with the known names.
  static ModelConfig shape(std::string_view name);
  // Throws Error (usage) when a width is no multiple of the type's blocks.
  RandomDecoder(const ModelConfig& config, BlockType type);
  const DecoderWeights& weights() const { return weights_; }

 private:
  StoredMatrix matrix(BlockType type, size_t rows, size_t cols);

  BlockType type_;
  std::deque<std::pair<StoredMatrix, std::vector<std::byte>>> matrices_;
  DecoderWeights weights_;
};

// One session of an engine, driven and timed. Times are in seconds.
class DecodeSpeed {
 public:
  // The engine must outlive it.
  explicit DecodeSpeed(Engine& engine) : engine_(engine), session_(engine.start()) {}

  // Tokens one by one behind `depth` others, each the first-best of the logits before it: the time
  // of each. Throws Error (usage) when they do not fit the context.
  std::vector<double> decode(size_t depth, size_t tokens);
  // Of the time of such a token, the part that a thread waits at barriers (the median).
  double barrier_share(size_t depth, size_t tokens);
  // A text of that length, to the next token.
  double prefill(size_t tokens);
  // Passes of `width` tokens behind `depth` others with the logits of each, all at that depth.
  std::vector<double> passes(size_t depth, size_t width, size_t count);

 private:
  void fill(size_t length);
  int32_t text(size_t position) const;

  Engine& engine_;
  Session session_;
};

}  // namespace cairn
