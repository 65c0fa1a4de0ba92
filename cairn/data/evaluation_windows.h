// Held-out text as batches: the one way in which texts are cut for evaluation, in training and in
// `cairn eval` alike.
//
// A text is cut into windows of `length` tokens that begin `stride` tokens after one another. Every
// token but the first is predicted exactly once; with a stride below the length each window also
// sees tokens that the one before it has scored, as context.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cairn/data/dataset.h"
#include "cairn/nn/batch.h"

namespace cairn {

// The tokens of a text, wherever they are.
struct TokenSource {
  uint64_t size = 0;
  // Copies tokens [begin, begin + out.size()), all below `size`.
  std::function<void(uint64_t begin, std::span<int32_t> out)> read;
  // Where documents begin in [begin, end), rising; needed only for masks.
  std::function<std::vector<uint64_t>(uint64_t begin, uint64_t end)> document_starts = {};
};

// Tokens in memory. The vector is moved into the source.
TokenSource token_source(std::vector<int32_t> tokens);
// All shards of a split as one text. `stream` must outlive the source.
TokenSource token_source(const TokenStream& stream);

struct WindowOptions {
  size_t length = 0;
  size_t stride = 0;            // 1 to length; 0: length
  bool mask_documents = false;  // attention does not cross from one document into the next
};

// The windows of a text, in order: always the same ones. Thread-safe if the source is.
class EvaluationWindows {
 public:
  // Error (usage) when options make no sense; Error (data) when there are not two tokens.
  EvaluationWindows(TokenSource source, const WindowOptions& options);

  uint64_t size() const { return windows_; }
  // `count` windows from `first` on. Targets that another window scores, and those beyond the end
  // of the text, are kIgnoredTarget. Error (usage) beyond the last window.
  Batch batch(uint64_t first, uint64_t count) const;

 private:
  void add_window(uint64_t window, Batch& batch) const;

  TokenSource source_;
  WindowOptions options_;
  uint64_t windows_ = 0;
};

}  // namespace cairn
