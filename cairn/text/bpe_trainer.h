// Training a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019
// for bytes): count the words of the corpus, then merge the pair of neighbours that occurs most
// often into a new token, again and again.
//
// The result is a function of the corpus and the options alone, for every number of threads, and is
// that of the HF library's BpeTrainer with its ByteLevel alphabet: ids are the special tokens, the
// 256 bytes in the order of their characters, then one a merge; of pairs with equal counts the one
// with the lower ids (left, then right) merges first.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/thread_team.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {

struct BpeTrainingOptions {
  size_t vocab_size = 4096;  // with special tokens and bytes; fewer when the corpus runs out
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // ids 0, 1, ...
  std::vector<PretokenizerStep> pretokenizer = Pretokenizer::gpt2();
  int64_t min_count = 2;  // a pair must occur this often to merge
};

// How far training is.
struct BpeTrainingProgress {
  enum class Phase { counting, merging };
  Phase phase = Phase::counting;
  uint64_t done = 0;   // bytes counted, or tokens made
  uint64_t total = 0;  // of as many
};

// What training found out besides the tokenizer.
struct BpeTrainingFacts {
  uint64_t bytes = 0;            // of the documents
  uint64_t different_words = 0;  // met in them
  double count_seconds = 0;
  double merge_seconds = 0;
};

// The trained tokenizer. The first special token is its end (and beginning) of text: eos_id and
// bos_id; with none given both are -1. `documents` are only read. `progress`, when given, is called
// from the calling thread and never changes the result; what it throws ends the training.
// Throws Error (usage) for a vocabulary too small for specials and bytes or special tokens that are
// empty, repeated or spelled like a byte; Error (data) when the documents hold no bytes.
TokenizerSpec train_bpe(std::span<const std::string_view> documents,
                        const BpeTrainingOptions& options, ThreadTeam& team,
                        const std::function<void(const BpeTrainingProgress&)>& progress = {},
                        BpeTrainingFacts* facts = nullptr);

}  // namespace cairn
