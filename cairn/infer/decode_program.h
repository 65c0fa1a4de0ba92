// Runs a compiled decode program (infer/decode_plan.h): one pass reads 1 to kMostTokens tokens
// behind those in the caches and leaves logits, or the highest of them. All threads of the team
// walk the program side by side in one parallel region and meet at barriers only; or, where the
// processors are wanted by others too, one thread walks it alone (infer/pass_governor.h).
//
// Passes of up to kFewTokens tokens, the steps of generation: every thread keeps the residual
// stream of its own and norms it itself, which is quicker than waiting for another to do it;
// attention is cut by keys. Longer passes, chunks of a prompt: norms are cut by tokens, attention
// by queries, with a barrier more behind each. Both compute every number in the same way, so a text
// has the same logits, bit for bit, however it is cut into passes and for any number of threads.
//
// Layers whose mechanism is more than plain softmax attention end the region, attend through the
// mechanism's own cache (attention/mechanism.h) on the whole team, and begin another; such a
// mechanism may make a cut of the text show in the last bits.
//
// Of an encoder, whose tokens all see each other, a pass is a whole source: it leaves keys and
// values for the layers of a decoder that read it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cairn/attention/mechanism.h"
#include "cairn/base/memory.h"
#include "cairn/infer/activation_squares.h"
#include "cairn/infer/decode_plan.h"
#include "cairn/infer/decoder_weights.h"
#include "cairn/infer/head_request.h"
#include "cairn/infer/paged_cache.h"
#include "cairn/infer/pass_buffers.h"
#include "cairn/infer/pass_governor.h"
#include "cairn/infer/program_parts.h"
#include "cairn/infer/team_barrier.h"

namespace cairn {

// One pass. Positions of the tokens follow those in the caches.
struct DecodePass {
  std::span<const int32_t> tokens;  // 1 to kMostTokens (an encoder: the context), in the vocabulary
  size_t position = 0;              // of the first
  PagedCache* cache = nullptr;      // with memory for all positions
  std::span<const std::unique_ptr<AttentionCache>> rooms;  // one a layer; null in plain layers
  // One a layer of the decoder that reads a source: an encoder's pass fills them.
  std::span<const std::shared_ptr<AttentionCache>> source;
  // Of one place, behind the last token; or of as many as there are tokens; or of none.
  HeadRequest head;
  ActivationSquares* squares = nullptr;  // of what products read, where somebody wants them
};

class DecodeProgram {
 public:
  static constexpr size_t kFewTokens = PassBuffers::kFewTokens;
  static constexpr size_t kMostTokens = PassBuffers::kMostTokens;

  // `team` must outlive it; what `weights` borrow may go. Passes may reach position `context`.
  // `relative` is a program of the same model, whose table of embeddings is then shared.
  // Throws what DecodePlan throws.
  DecodeProgram(const DecoderWeights& weights, std::optional<BlockType> type, size_t context,
                ThreadTeam& team, Walkers walkers = Walkers::automatic,
                const ProgramParts& parts = {}, const DecodeProgram* relative = nullptr);
  ~DecodeProgram();

  const ModelConfig& config() const { return config_; }
  // Branches of attention: of an encoder-decoder's decoder, two for each layer of the model.
  size_t layers() const { return layers_.size(); }
  const AttentionMechanism& attention(size_t layer) const { return *layers_[layer].attention; }
  bool reads_source(size_t layer) const { return attention(layer).mask() == AttentionMask::cross; }
  // Whether the program takes the attention of a layer itself.
  bool is_plain(size_t layer) const { return layers_[layer].plain.has_value(); }
  // What a PagedCache of such layers must hold.
  CacheShape cache_shape(BlockType type) const;
  const DecodePlan& plan() const { return plan_; }

  // Throws Error (data) that names position and layer when the activations are not finite; the
  // caches then hold tokens that mean nothing. Allocates nothing but what rooms do.
  void run(const DecodePass& pass);

  // With which parts passes go on. Throws Error (usage) when `stream` is not as it was compiled, or
  // without fusion of experts or of mechanisms other than plain softmax attention.
  void set_parts(const ProgramParts& parts);

  // Barriers of the last pass.
  size_t barriers() const { return barriers_; }
  // Whether passes take the time of each barrier, some tens of nanoseconds more.
  void time_barriers(bool yes) { times_barriers_ = yes; }
  // What threads have waited in the last pass, on average, the wait for its end included.
  double barrier_seconds() const;
  // Passes so far that one thread of a team of several has walked.
  size_t passes_alone() const { return passes_alone_; }
  // Bytes of the head that passes so far had no need to read.
  size_t skipped_bytes() const { return skipped_bytes_; }

 private:
  // One layer beside its products.
  struct Layer {
    const AttentionMechanism* attention = nullptr;
    std::vector<float> attention_gain, mlp_gain;            // [hidden_size], offset included
    std::vector<float> attention_post_gain, mlp_post_gain;  // or empty
    std::array<std::vector<float>, 3> qkv_bias;             // or empty
    std::vector<float> o_bias, gate_bias, up_bias, down_bias;
    std::vector<std::vector<float>> parameters;
    std::vector<View1<const float>> parameter_views;
    bool has_mlp = true;
    std::optional<PlainSoftmax> plain;
    std::vector<float> q_gain, k_gain;  // of plain attention with qk_norm
    size_t cache_layer = 0;             // among the plain ones
    size_t turns = 0;                   // which of the tables of angles
    size_t reader = 0;                  // among those that read a source

    // Of the branch that ends the layer.
    const std::vector<float>& last_post_gain() const {
      return has_mlp ? mlp_post_gain : attention_post_gain;
    }
  };
  // Where activations first were not finite.
  struct Fault {
    size_t layer = SIZE_MAX, token = 0;
  };
  class Walk;  // one thread's way through a pass

  void compile_layer(const DecoderLayerWeights& weights, size_t index);
  bool walks_alone() const;
  void walk(const DecodePass& pass, bool alone);
  void note_time(const DecodePass& pass, bool alone, std::chrono::nanoseconds took);
  void turn_angles(const DecodePass& pass);
  void in_region(const DecodePass& pass, bool alone, FunctionRef<void(Walk& walk)> body);
  void attend_outside(const DecodePass& pass, size_t layer);
  void attend_whole(const AttentionMechanism& mechanism, const AttentionInputs& inputs,
                    AnyView3 out);
  void fill_source(const DecodePass& pass, bool alone);
  void check_faults(const DecodePass& pass) const;
  // Before and behind a walk (head_step.cpp).
  void choose_head_rows(const HeadRequest& head);
  void collect_best(const HeadRequest& head, bool alone);

  ModelConfig config_;
  ThreadTeam& team_;
  LayerAttention attention_;
  std::shared_ptr<const AlignedBuffer> embedding_;  // rows as stored
  BlockType embedding_type_ = BlockType::f32;
  std::vector<float> final_gain_;
  std::vector<Layer> layers_;
  std::vector<const RotaryTable*> tables_;
  bool rooms_want_hidden_ = false;
  DecodePlan plan_;
  PassBuffers buffers_;
  TeamBarrier barrier_;
  Walkers walkers_;
  ProgramParts parts_;
  bool times_barriers_ = false;
  PassGovernor governor_;
  AlignedBuffer attention_saved_, attention_workspace_;  // of an encoder
  std::vector<int32_t> positions_;                       // of an encoder's tokens
  std::vector<Fault> faults_;                            // one a thread
  // Groups of the head's rows that hold an id that may follow, where some may not: neighbours of a
  // thread's part together.
  std::vector<PlannedRows> allowed_rows_;
  size_t allowed_groups_ = 0;
  size_t barriers_ = 0, passes_alone_ = 0, skipped_bytes_ = 0;
};

}  // namespace cairn
