// Measures an engine as its users meet it: from a token's id to the next one's, or from a prompt to
// its first token. Texts and weights may be random: speed does not depend on them.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/infer/engine.h"
#include "cairn/infer/next_tokens.h"

namespace cairn {

// A decoder with random weights in one type, in the shape of a well-known model or one given.
// Layers share one matrix of each shape where it is stored; the engine still packs each its own.
class RandomDecoder {
 public:
  // "15m", "25m", "135m", "360m", "1b" or "1b-a400m". Throws Error (usage) with the known names.
  static ModelConfig shape(std::string_view name);
  // Parameters of the attention mechanism start as its ParameterSpec says.
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
  explicit DecodeSpeed(Engine& engine) : DecodeSpeed(engine, engine.start()) {}
  // Another text that continues from here.
  DecodeSpeed fork() const { return {engine_, session_.fork()}; }

  // The text then has `length` tokens, those of an earlier call kept. `read(n)` is told of n more
  // that have been read; long texts of plain attention are read up to kRead tokens and repeated
  // from there, as what they say does not matter.
  void fill(
      size_t length, FunctionRef<void(size_t)> read = [](size_t /*tokens*/) {});
  static constexpr size_t kRead = 2048;
  const Session& session() const { return session_; }

  // Tokens one by one behind `depth` others, each drawn greedily as generate() draws them: the time
  // of each. Throws Error (usage) when they do not fit the context.
  std::vector<double> decode(size_t depth, size_t tokens);
  // Of the time of such a token, the part that a thread waits at barriers (the median).
  double barrier_share(size_t depth, size_t tokens);
  // A text of that length, to the next token.
  double prefill(size_t tokens);
  // Passes of `width` tokens behind `depth` others with the logits of each, all at that depth.
  std::vector<double> passes(size_t depth, size_t width, size_t count);

 private:
  DecodeSpeed(Engine& engine, Session session)
      : engine_(engine),
        session_(std::move(session)),
        next_({.temperature = 0}, engine.config().vocab_size) {}
  int32_t text(size_t position) const;
  // Reads a token and draws the next.
  int32_t next_token(int32_t token);

  Engine& engine_;
  Session session_;
  NextTokens next_;  // greedy
};

}  // namespace cairn
