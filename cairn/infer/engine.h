// Decoding with a cache: the same model that nn trains, compiled from the same ModelConfig and the
// same tensor names for reading one token after another. An Engine holds what all texts share
// (weights, scratch); a Session is one text with its attention caches.
//
//   ThreadTeam team;
//   Engine engine(load_model(folder), team);
//   Session session = engine.start();
//   View1<const float> logits = session.append(prompt);      // prefill, in chunks
//   while (...) logits = session.append(sampler.sample(logits, session.tokens()));
//
// Activations are f32, weights f32 or bf16. The attention mechanism is known only by its contract
// (attention/mechanism.h). Any split of a text into calls gives the same logits to rounding.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/model/model.h"
#include "cairn/tensor/view.h"

namespace cairn {

class Engine;

struct EngineOptions {
  DType weights = DType::f32;  // of the matrices: f32, or bf16 for half the bytes a token
  DType cache = DType::f32;    // of keys and values: f32 or bf16
  size_t context = 0;          // tokens a session may hold; 0: the model's context length
};

// One text being read and continued. Movable. Its engine must outlive it, and one call at a time
// may run on all sessions of an engine.
class Session {
 public:
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Reads tokens behind those read so far and returns the logits [vocab_size] that follow the last
  // one. They live in the engine until its next call. Throws Error (usage) when the context
  // overflows or `tokens` is empty and Error (data) on an id outside the vocabulary; the session is
  // then unchanged. Allocates nothing for one token.
  View1<const float> append(std::span<const int32_t> tokens);
  View1<const float> append(int32_t token) { return append({&token, 1}); }
  // The same, with the logits that follow each of the tokens: logits [tokens, vocab_size].
  void append(std::span<const int32_t> tokens, View2<float> logits);

  // Everything read so far.
  std::span<const int32_t> tokens() const;
  size_t length() const { return tokens().size(); }
  // Tokens that still fit.
  size_t room() const;
  const ModelConfig& config() const;
  // Bytes of the attention caches.
  size_t cache_bytes() const;
  // Forgets all tokens from `length` on. Throws Error (usage) when the text is shorter or the
  // mechanism cannot.
  void truncate(size_t length);
  // An independent text that continues from here.
  Session fork() const;

 private:
  friend class Engine;
  struct Implementation;
  explicit Session(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

class Engine {
 public:
  // Borrows the model and the team, which must outlive it. Bf16 weights are the engine's own copy.
  Engine(Model& model, ThreadTeam& team, const EngineOptions& options = {});
  // Takes the model; with bf16 weights its f32 matrices are let go.
  Engine(Model&& model, ThreadTeam& team, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error (failed) when there is not enough memory for the caches.
  Session start();

  const ModelConfig& config() const;
  size_t context() const;
  // Bytes of weights that decoding one token reads.
  size_t bytes_per_token() const;

 private:
  friend class Session;
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace cairn
