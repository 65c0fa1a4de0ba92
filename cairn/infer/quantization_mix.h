// Which tensor of a model gets which type when a file is quantised: the mixes that llama.cpp gives
// file types such as q4_k_m, so that files of that name have the same size and quality anywhere.
// Source: github.com/ggml-org/llama.cpp, its quantiser; names and ids as in general.file_type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "cairn/tensor/block_type.h"
#include "cairn/tensor/shape.h"

namespace cairn {

struct FileType {
  std::string_view name;  // "q4_k_m"
  uint32_t id = 0;        // general.file_type
  BlockType base = BlockType::f32;
};

// All that can be written, from f32 to q2_k.
std::span<const FileType> file_types();
// In either case; "q4_k" is q4_k_m, "q3_k" q3_k_m, "q5_k" q5_k_m. Throws Error (usage) with the
// known names.
const FileType& find_file_type(std::string_view name);
// By general.file_type; null when there is none.
const FileType* find_file_type(uint32_t id);

// What a mix looks at beside a tensor's name.
struct MixModel {
  size_t layers = 0;
  size_t heads = 1;
  size_t kv_heads = 1;
  size_t experts = 0;
  bool tied_head = false;  // no output.weight: token_embd.weight is the head
  bool weighted = false;   // there is an importance matrix
};

// The type of a tensor (GGUF name; shape outermost first), one that its rows can have; empty: the
// tensor stays as it is (vectors, norms, routers, what is no weight).
std::optional<BlockType> mixed_type(const FileType& file_type, std::string_view name,
                                    const Shape& shape, const MixModel& model);

}  // namespace cairn
