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
// An encoder-decoder reads its source when a session starts; what is appended are the decoder's
// tokens, config().decoder_start_id first:
//
//   Session session = engine.start(source);
//   View1<const float> logits = session.append(*engine.config().decoder_start_id);
//
// Weights stay in the type they are stored in (f32, f16, bf16, q4_0 to q8_0, q2_k to q6_k) and are
// repacked once into streams that a pass reads from beginning to end (infer/decode_program.h); what
// products read of activations is rounded to 8 bits for quantised weights, to bf16 for bf16
// (kernels/tile_products.h). Any split of a text into calls, and any number of threads, gives the
// same bits for plain softmax attention; other mechanisms (attention/mechanism.h) decode through
// their own caches, where a split shows in the last bits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/base/thread_team.h"
#include "cairn/infer/activation_squares.h"
#include "cairn/infer/decoder_weights.h"
#include "cairn/infer/head_request.h"
#include "cairn/infer/pass_governor.h"
#include "cairn/infer/program_parts.h"
#include "cairn/tensor/view.h"

namespace cairn {

class Engine;

struct EngineOptions {
  std::optional<BlockType> weights;  // what matrices become in memory; empty: as they are stored
  // Of keys and values: f32, f16, bf16 or q8_0 (mechanisms with a cache of their own: f32 or bf16).
  // Empty: f16, and f32 where the mechanism has its own.
  std::optional<BlockType> cache;
  size_t context = 0;  // tokens a session may hold; 0: usual_context() of the model
  Walkers walkers = Walkers::automatic;
  ProgramParts parts = {};  // for measuring what they bring
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
  // overflows or `tokens` is empty, Error (data) on an id outside the vocabulary or when
  // activations are not finite, naming position and layer, and Error (failed) when there is no
  // memory for the cache; the session is then unchanged and can go on. Allocates nothing for one
  // token but a page of the cache every 256 (reserve).
  View1<const float> append(std::span<const int32_t> tokens);
  View1<const float> append(int32_t token) { return append({&token, 1}); }
  // The same, with the logits that follow each of the tokens: logits [tokens, vocab_size].
  void append(std::span<const int32_t> tokens, View2<float> logits);
  // Reads them too, and answers what `head` asks about the tokens that may follow the last one
  // (places() 1) or each of them, as many as HeadRequest::kMostPlaces. Throws as the others do, and
  // Error (usage) when the request does not fit model and tokens. The highest logits are the same
  // as among all logits, bit for bit; one that is NaN or infinite is left for the sampler to
  // refuse.
  void append(std::span<const int32_t> tokens, const HeadRequest& head);
  // Reads tokens without logits and adds the squares of what the products of every layer read.
  void append(std::span<const int32_t> tokens, ActivationSquares& squares);

  // Everything read so far.
  std::span<const int32_t> tokens() const;
  size_t length() const { return tokens().size(); }
  // Tokens that still fit.
  size_t room() const;
  const ModelConfig& config() const;
  // Bytes of the attention caches.
  size_t cache_bytes() const;
  // What mechanisms that may leave keys unread have read so far, summed over layers; empty without
  // such.
  std::optional<AttentionStatistics> attention_statistics() const;
  // Forgets all tokens from `length` on. Throws Error (usage) when the text is shorter, or the
  // mechanism cannot. Layers with a window hold few older keys: they can forget all tokens, or up
  // to PagedCache::kRewind of the longest that the text has been; else they refuse likewise.
  void truncate(size_t length);
  // The same where it can be; else forgets everything. Returns how many tokens are left.
  size_t keep(size_t length);
  // An independent text that continues from here.
  Session fork() const;
  // Takes the memory for a text of `length` tokens now, so that appending up to there cannot fail
  // for want of it (layers with a window may hold another window while more than
  // PagedCache::kRewind tokens are appended to a text at once). Throws Error (usage) beyond the
  // context and Error (failed) when there is not enough.
  void reserve(size_t length);
  // For measuring long texts without reading them: goes on behind the last whole page of keys and
  // values with copies of those before, up to `length` tokens. What follows then means nothing, but
  // takes its time. Does nothing and returns false where there is no whole page, or a layer has a
  // window, reads a source or keeps a cache of its own. Throws as reserve() does.
  bool repeat_to(size_t length);

 private:
  friend class Engine;
  struct Implementation;
  explicit Session(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

class Engine {
 public:
  // Compiles `weights` for the team, which must outlive it; nothing else of them is kept. Throws
  // what DecodePlan throws, and Error (usage) on a context beyond the model's or a cache that a
  // layer cannot have.
  Engine(const DecoderWeights& weights, ThreadTeam& team, const EngineOptions& options = {});
  Engine(const Model& model, ThreadTeam& team, const EngineOptions& options = {})
      : Engine(decoder_weights(model), team, options) {}
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error (failed) when there is not enough memory for the caches, and Error (usage) where
  // the model wants a source.
  Session start();
  // A text that an encoder-decoder writes to `source`, 1 to context() tokens; forks share what was
  // read of it. Throws Error (usage) where the model has no encoder or the source does not fit,
  // Error (data) as Session::append does, and Error (failed) for want of memory.
  Session start(std::span<const int32_t> source);

  const ModelConfig& config() const;
  size_t context() const;
  // Bytes of weights that decoding one token reads, those of an encoder not among them.
  size_t bytes_per_token() const;
  // Goes on with other parts. Throws what DecodeProgram::set_parts throws.
  void set_parts(const ProgramParts& parts);
  // Whether passes take the time of each barrier; what threads waited in the last one, on average.
  void time_barriers(bool yes);
  double barrier_seconds() const;
  // Barriers that the last pass had.
  size_t barriers() const;
  // Passes so far that one thread of a team of several has walked.
  size_t passes_alone() const;
  // Bytes of the head that all passes so far had no need to read (HeadRequest::allowed).
  size_t skipped_bytes() const;

 private:
  friend class Session;
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace cairn
