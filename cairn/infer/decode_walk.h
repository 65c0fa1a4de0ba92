// One thread's way through a pass of a decode program: over its own rows, side by side with the
// other threads of the team, or alone over the rows of all. Internal to decode_program.
#pragma once

#include <span>
#include <vector>

#include "cairn/infer/attention_step.h"
#include "cairn/infer/decode_program.h"

namespace cairn {

class DecodeProgram::Walk {
 public:
  Walk(DecodeProgram& program, const DecodePass& pass, int thread)
      : Walk(program, pass, static_cast<size_t>(thread), program.plan_.programs().size(),
             program.plan_.programs().subspan(static_cast<size_t>(thread), 1)) {}
  // Alone.
  Walk(DecodeProgram& program, const DecodePass& pass)
      : Walk(program, pass, 0, 1, program.plan_.programs()) {}

  // From behind the attention of layer `from` (kBeginning: from the embedding) until before the
  // attention of layer `to` (layers: until the logits).
  static constexpr size_t kBeginning = SIZE_MAX;
  void run(size_t from, size_t to);
  // Of an encoder, behind run(): keys and values for a reader, in the pass's columns of such.
  void read_for(size_t reader);
  // Waits for the other threads' ends.
  void end();

 private:
  Walk(DecodeProgram& program, const DecodePass& pass, size_t thread, size_t threads,
       std::span<const ThreadProgram> rows);

  // What a norm before products reads: the branch that ended before it, if any, joins the residual
  // stream first.
  struct Norm {
    const std::vector<float>& gain;
    const std::vector<float>* post_gain;  // of the branch; null: no branch; empty: no norm
    size_t layer;                         // whose output it reads, for errors
    ProductInput input;                   // of layer `reader`, which products will read it
    size_t reader;
  };

  void embed();
  void before_attention(size_t layer);
  void after_attention(size_t layer);
  void read_head();
  // What the pass asks of the head, for the tokens of these blocks (head_step.cpp).
  void multiply_head(std::span<const TokenBlock> blocks);
  void multiply_allowed(const TokenBlock& block);
  void multiply_asked(const PlannedRows& rows, const TokenBlock& block, const std::byte* then);

  void normalize(const Norm& norm, ActivationKinds kinds, bool keep);
  // The branch joins the residual stream x of a token; the sum of squares of what x becomes.
  float add_branch_to(float* x, const Norm& norm, size_t token);
  void normalize_block(const Norm& norm, size_t first, TokenBlock& block, ActivationKinds kinds,
                       bool keep);
  // `tokens`: of the pass, of each row of the block; null: they follow the block's first.
  void store(const ActivationSource& source, TokenBlock& block, ActivationKinds kinds, size_t layer,
             const size_t* tokens = nullptr);
  void store_rows(View2<const float> rows, ActivationKinds kinds, ProductInput input, size_t layer);
  void note_squares(const ActivationSource& source, const TokenBlock& block, ProductInput input,
                    size_t layer);
  void multiply(const PlannedRows& rows, std::span<const TokenBlock> blocks, View2<float> y,
                const std::vector<float>& bias);
  void multiply_block(const TileRows& rows, size_t first, const TokenBlock& block, View2<float> y,
                      const std::vector<float>& bias);
  void gate(const ThreadMlp& mlp, const Layer& layer, std::span<const TokenBlock> blocks,
            View2<float> gated);
  void activate(const ThreadMlp& mlp, const Layer& layer, std::span<const TokenBlock> blocks,
                View2<float> inner);
  // A mixture of experts: its gated units, then what they give to the branch (expert_step.cpp).
  void choose_experts(size_t layer);
  void gate_experts(size_t layer);
  void add_experts(size_t layer);
  void add_experts(std::span<const ThreadMlp> experts);
  std::span<TokenBlock> blocks_of(size_t expert);
  void store_routed(View2<const float> rows, ActivationKinds kinds, ProductInput input,
                    size_t layer);
  void note_routed_squares(View2<const float> rows, ProductInput input, size_t layer);

  void attend(const Layer& layer);
  void attend_few(const Layer& layer);
  void attend_unit(const Layer& layer, size_t kv_head, size_t first, size_t count, bool merged);
  void attend_rows(const Layer& layer, size_t kv_head, size_t first, size_t rows, size_t c);
  void attend_many(const Layer& layer);
  void attend_queries(const Layer& layer, size_t kv_head, size_t first, size_t count);
  void prepare_queries(const Layer& layer, size_t kv_head, size_t first, size_t count);
  void append_token(const Layer& layer, size_t kv_head, size_t token);
  bool by_spans(const Layer& layer) const;
  void combine_few(const Layer& layer);
  void normalize_head(const std::vector<float>& gain, float eps, View1<float> head);
  size_t first_key(const Layer& layer, size_t position) const;
  CachedChunk chunk_at(const Layer& layer, size_t kv_head, size_t chunk) const;

  // Passes of few tokens without fusion (decode_apart.cpp).
  void normalize_apart(const Norm& norm, ActivationKinds kinds);
  void append_apart(const Layer& layer);
  void gate_apart(size_t layer);

  bool few() const { return tokens_ <= kFewTokens; }
  // Whether blocks are filled by one thread for all.
  bool shares() const { return !few() || apart_; }
  // Whether this thread fills the activations of block i.
  bool fills(size_t i) const { return !shares() || i % threads_ == thread_; }
  void meet();
  template <class Idle>
  void wait_for_all(Idle idle);
  void meet_if_shared() {
    if (shares()) meet();
  }
  // Where the attention of a short pass ends.
  View2<float> attended_few() const { return apart_ ? buffers_.attended : own_.attended; }
  void note_fault(size_t layer, size_t token);

  DecodeProgram& program_;
  const DecodePass& pass_;
  PassBuffers& buffers_;
  PassBuffers::Own& own_;
  const AttentionGeometry& geometry_;
  size_t thread_, threads_;              // who walks: 0 of 1 when alone
  std::span<const ThreadProgram> mine_;  // whose rows it multiplies
  size_t tokens_, group_;
  bool apart_ = false;                 // few tokens, without fusion
  std::span<TokenBlock> blocks_;       // all that products read
  const std::byte* stream_ = nullptr;  // where this thread's weights go on
};

}  // namespace cairn
