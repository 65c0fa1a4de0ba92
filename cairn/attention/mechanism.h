// The contract of an attention mechanism: the only thing that autograd, nn and infer know about
// one. A mechanism is a room: its own folder below attention/, its tests, its bench and one line in
// registry.cpp.
//
// All tokens of a micro-batch lie one after another: [tokens, heads, dim]. `offsets` cut them into
// sequences that do not see each other (rows of the batch, or documents where these are masked);
// `positions` give each token its place for mechanisms that care. Grouped queries: query head h
// uses key head h / (heads / kv_heads).
//
// Views may be strided and are f32 or bf16 alike (q, k, v, x, out of one call have one type); sums,
// softmax and saved statistics are f32 in both. Memory is O(tokens). A query sees the keys of its
// sequence up to its own, unless AttentionMechanism::mask() says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/tensor/parameter.h"
#include "cairn/tensor/view.h"

namespace cairn {

class RotaryTable;  // attention/rotary.h

// A mechanism by name, with its options ("rope_theta" = 10000.0). They are stored in config.json;
// each room validates its own and names the keys it knows.
using OptionValue = std::variant<bool, int64_t, double, std::string, std::vector<double>>;
struct AttentionOptions {
  std::string mechanism = "softmax";
  std::map<std::string, OptionValue> values;

  bool operator==(const AttentionOptions&) const = default;
};

struct AttentionGeometry {
  size_t hidden_size = 0;
  size_t heads = 0;
  size_t kv_heads = 0;
  size_t head_dim = 0;   // of q and k
  size_t value_dim = 0;  // of v and out
  float scale = 0;       // of the scores; 0 means 1/sqrt(head_dim)
};

// Which keys a query sees.
enum class AttentionMask {
  causal,         // of its own sequence, up to its own token
  bidirectional,  // of its own sequence: all
  cross,          // those of another stream of tokens, see TokenLayout::key_offsets: all
};

// Which tokens belong together.
struct TokenLayout {
  View1<const int32_t> offsets;    // [sequences + 1], rising, first 0, last = tokens
  View1<const int32_t> positions;  // [tokens]
  // In cross-attention the keys and values are of other tokens: sequence i of the queries reads
  // those in [key_offsets[i], key_offsets[i + 1]), as many offsets as `offsets` has. There, either
  // side of a sequence may be empty; a query without keys gets 0. Empty in all other attention.
  View1<const int32_t> key_offsets = {};
};

// What a mechanism reads. x is the normed hidden state from which some rooms derive gates or
// directions themselves; parameters are in the order of AttentionMechanism::parameters().
struct AttentionInputs {
  AnyView2 x;  // [tokens, hidden_size]; may be empty if uses_hidden_state() is false
  AnyView3 q;  // [tokens, heads, head_dim]
  AnyView3 k;  // [tokens, kv_heads, head_dim]; in cross-attention with tokens of their own
  AnyView3 v;  // [tokens, kv_heads, value_dim], as many
  std::span<const View1<const float>> parameters;
};

// Where backward puts gradients: dq, dk, dv are overwritten (same type as q, k, v); dx is f32 and
// added to; parameter gradients are f32 and added to.
struct AttentionGradients {
  View2<float> dx;
  AnyView3 dq, dk, dv;
  std::span<const View1<float>> parameters;
};

// Bytes that a call needs. `saved` is what forward leaves for backward and must survive in between;
// `workspace` is free for others after each call.
struct AttentionMemory {
  size_t saved = 0;
  size_t workspace = 0;
};

// What a room that may leave keys unread has read, summed over query heads. Counts are of pairs of
// a query tile and a key tile in a forward pass; in a cache of keys, once for each step or, in a
// prompt, for each tile of queries.
struct AttentionStatistics {
  uint64_t visible = 0;  // that the causal mask leaves
  uint64_t visited = 0;  // of these, whose scores were computed
  // Mean over queries and heads of the weight given to no key, in rooms whose weights may sum to
  // less than 1.
  double mean_remainder = 0;
};

// Who attends to whom in one sequence: for people who look at a model.
struct AttentionWeights {
  size_t heads = 0, tokens = 0;  // queries
  size_t keys = 0;               // as many as tokens but in cross-attention
  std::vector<double> weights;   // [heads][query][key], 0 for keys that the query does not see
  // What else the room tells of a query and a key, in the same shape; 0 for keys out of sight.
  struct Extra {
    std::string name;     // one word: "stick"
    std::string meaning;  // one line
    double lowest = 0;    // values lie between this and 1
    std::vector<double> values;
  };
  std::vector<Extra> extras;

  size_t at(size_t head, size_t query, size_t key) const {
    return (head * tokens + query) * keys + key;
  }
};

// Keys and values (or whatever the room keeps) of one sequence during generation.
class AttentionCache {
 public:
  virtual ~AttentionCache() = default;
  virtual size_t length() const = 0;
  virtual size_t bytes() const = 0;
  // Appends the n tokens of `inputs` (positions length() .. length() + n - 1) and writes what each
  // of them attends to: any split of a prompt into calls gives the same result to rounding.
  // In cross-attention `inputs` may hold keys without queries, the source's, and queries without
  // keys, the decoder's: keys are appended first and counted by length(), queries see all of them.
  // Throws Error (usage) beyond the capacity; then nothing has changed.
  virtual void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) = 0;
  // Forgets all tokens from `length` on. Rooms that cannot say so by an Error (usage).
  virtual void truncate(size_t length) = 0;
  // An independent copy that continues from here.
  virtual std::unique_ptr<AttentionCache> fork() const = 0;
  // Of all calls since the cache was made (a fork counts on); empty in rooms that read every key.
  virtual std::optional<AttentionStatistics> statistics() const { return std::nullopt; }
};

// All that there is to a mechanism which is plain softmax attention over rotated queries and keys:
// a compiled decode program takes such steps itself, side by side with the products around them.
struct PlainSoftmax {
  float scale = 1;                      // of the scores
  const RotaryTable* rotary = nullptr;  // of the mechanism; null: no positions
  size_t window = 0;                    // keys that a query sees, its own included; 0: all
  // Whether each head of queries and keys is first divided by its root mean square and multiplied
  // by norm_offset + parameters()[0] or [1], [head_dim].
  bool qk_norm = false;
  float norm_eps = 0;
  float norm_offset = 0;
};

class AttentionMechanism {
 public:
  virtual ~AttentionMechanism() = default;

  virtual std::string_view name() const = 0;
  virtual const AttentionGeometry& geometry() const = 0;
  // Parameters beyond the q, k, v and output projections, named within the attention block
  // ("w_conv.weight").
  virtual std::vector<ParameterSpec> parameters() const { return {}; }
  virtual bool uses_hidden_state() const { return false; }
  virtual AttentionMask mask() const { return AttentionMask::causal; }

  // Memory for up to `tokens` tokens (in cross-attention, and as many keys) whose longest sequence
  // is `longest`, at `threads` threads.
  virtual AttentionMemory memory(size_t tokens, size_t longest, DType dtype, int threads) const = 0;
  // FLOPs of one token's forward step at a mean of `context` visible keys (multiply-add = 2);
  // projections excluded.
  virtual double forward_flops(double context) const = 0;

  // out [tokens, heads, value_dim]. Reads q, k and v without changing them. Results are the same
  // for any number of threads. Throws Error (usage) on shapes that disagree.
  virtual void forward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                       std::span<std::byte> saved, std::span<std::byte> workspace,
                       ThreadTeam& team) const = 0;
  // Inputs, out and saved as forward left them.
  virtual void backward(const AttentionInputs& inputs, const TokenLayout& layout, AnyView3 out,
                        AnyView3 dout, std::span<const std::byte> saved,
                        const AttentionGradients& gradients, std::span<std::byte> workspace,
                        ThreadTeam& team) const = 0;

  // Of the forward pass that left `saved`; empty in rooms that read every key.
  virtual std::optional<AttentionStatistics> statistics(
      const TokenLayout& /*layout*/, std::span<const std::byte> /*saved*/) const {
    return std::nullopt;
  }

  // Set by rooms that are no more than it says; they may be decoded without their cache.
  virtual std::optional<PlainSoftmax> plain_softmax() const { return std::nullopt; }

  // A cache for at most `capacity` tokens that keeps f32 or bf16. Throws Error (usage) in
  // bidirectional attention, where a later token would change what earlier ones have read.
  virtual std::unique_ptr<AttentionCache> make_cache(size_t capacity, DType dtype) const = 0;

  // The definition, in float64 and O(T^2): what everything else is held to. All arrays contiguous.
  struct Reference {
    std::vector<double> x, q, k, v;
    std::vector<std::vector<double>> parameters;
  };
  virtual std::vector<double> reference_forward(const Reference& inputs,
                                                const TokenLayout& layout) const = 0;
  // Gradients of sum(out * dout), as a Reference of the same shapes.
  virtual Reference reference_backward(const Reference& inputs, const TokenLayout& layout,
                                       std::span<const double> dout) const = 0;
  // The weights of every query on every key before anything is done to what they gather (norms,
  // remainders), O(T^2) in memory too. `layout` must be of one sequence.
  virtual AttentionWeights reference_weights(const Reference& inputs,
                                             const TokenLayout& layout) const = 0;
};

// The names of all rooms, in the order of the registry.
std::vector<std::string> attention_names();

// Makes the mechanism that `options` name. `context_length` bounds positions (tables).
// Throws Error (usage) that lists the known names, with a suggestion, or the room's options.
std::unique_ptr<AttentionMechanism> make_attention(const AttentionOptions& options,
                                                   const AttentionGeometry& geometry,
                                                   size_t context_length);

}  // namespace cairn
