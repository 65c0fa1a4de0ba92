// What all rooms check before they work on views. Each throws Error (usage) that names the call
// (`doing`), the argument, what was expected and what was found. Thread-safe; nothing is allocated
// unless something is wrong.
#pragma once

#include <string>
#include <string_view>

#include "cairn/attention/mechanism.h"

namespace cairn {

// Throws Error (usage).
[[noreturn]] void refuse(std::string_view doing, std::string_view subject, std::string expected,
                         std::string found);

// Head sizes from 1 to 256, heads a positive multiple of kv_heads, a finite scale that is not
// negative.
void check_geometry(std::string_view doing, const AttentionGeometry& geometry);

// What writes from left to right attends to nothing that is not there yet: refuses other masks.
void check_causal(std::string_view doing, const AttentionMechanism& mechanism);

// A number, written whole or not.
double number_option(std::string_view doing, const std::string& key, const OptionValue& value);

// [tokens, heads, dim] of type `dtype`, which is f32 or bf16.
void check_heads(std::string_view doing, std::string_view argument, const AnyView3& view,
                 size_t tokens, size_t heads, size_t dim, DType dtype);

// q, k and v that fit the geometry and agree in type and in tokens; in cross-attention keys and
// values agree in theirs.
void check_queries_keys_values(std::string_view doing, const AttentionGeometry& geometry,
                               const AttentionInputs& inputs,
                               AttentionMask mask = AttentionMask::causal);

// One view for each of `specs`, of its size.
void check_parameters(std::string_view doing, const std::vector<ParameterSpec>& specs,
                      std::span<const View1<const float>> parameters);

// A position in [0, context_length) for each token.
void check_positions(std::string_view doing, View1<const int32_t> positions, size_t tokens,
                     size_t context_length);

enum class EmptySequences { refused, allowed };
// Offsets that rise (or stay, where empty sequences are allowed) from 0 to `tokens`.
void check_offsets(std::string_view doing, View1<const int32_t> offsets, size_t tokens,
                   EmptySequences empty = EmptySequences::refused);

// The same of layout.offsets, in rooms that attend to their own tokens only: key offsets are
// refused.
void check_layout(std::string_view doing, const TokenLayout& layout, size_t tokens,
                  EmptySequences empty = EmptySequences::refused);

// Of cross-attention: offsets and as many key offsets, whose sequences may be empty.
void check_cross_layout(std::string_view doing, const TokenLayout& layout, size_t tokens,
                        size_t keys);

// Zeros for reference_weights(). Throws Error (usage) unless `layout` is of one sequence.
AttentionWeights no_weights(size_t heads, const TokenLayout& layout);

void check_bytes(std::string_view doing, std::string_view argument, size_t needed, size_t given);

}  // namespace cairn
