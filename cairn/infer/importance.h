// Importance matrices: for each matrix of a model the mean square of what each of its columns is
// multiplied with, on some text. Quantisers weigh errors by it. Files are those of
// github.com/ggml-org/llama.cpp (its imatrix program): GGUF with general.type "imatrix", for each
// tensor NAME.in_sum2 [matrices, cols] and NAME.counts [matrices, 1], both f32.
//
//   const ImportanceSums sums = gather_importance(model, tokens, {}, team);
//   write_importance_sums("imatrix.gguf", sums);
//   write_gguf_model(content, out, type, means_of(sums), team);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/base/thread_team.h"

namespace cairn {

// Means of squares for each tensor by its GGUF name: [cols], and of experts [experts * cols].
using ImportanceMatrix = std::map<std::string, std::vector<float>, std::less<>>;

// As files have it.
struct ImportanceSums {
  struct Tensor {
    std::vector<float> squares;  // [matrices * cols]
    std::vector<float> counts;   // [matrices]
  };
  std::map<std::string, Tensor, std::less<>> tensors;
  std::string text;  // where the tokens came from
  uint32_t chunks = 0, chunk_tokens = 0;
};

struct ImportanceOptions {
  size_t chunk_tokens = 512;     // read at a time, nothing before them; at most the model's context
  uint64_t chunks = 0;           // at most; 0: all
  std::optional<int32_t> begin;  // takes the place of each chunk's first token
};

// Runs the model of a folder or GGUF file over whole chunks of `tokens` (a text shorter than one is
// one). The head is not weighed. `done`, when given, hears the tokens of each chunk. The same for
// any number of threads. Throws Error: data when the model cannot be read, usage when it cannot be
// run or be GGUF, or when there are no tokens.
ImportanceSums gather_importance(const Path& model, std::span<const int32_t> tokens,
                                 const ImportanceOptions& options, ThreadTeam& team,
                                 const std::function<void(uint64_t)>& done = {});

// Sums over counts; a matrix that was never reached (an expert) counts as if all its columns were
// the same. Throws Error (data) naming the tensor whose sums are not finite.
ImportanceMatrix means_of(const ImportanceSums& sums);

// Throws Error (data).
ImportanceSums read_importance_sums(const Path& path);
// Throws what write_gguf throws.
void write_importance_sums(const Path& path, const ImportanceSums& sums);

}  // namespace cairn
