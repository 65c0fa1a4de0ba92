// How fast this machine trains and uses tokenizers: the figures of `cairn bench tokenizer`.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "cairn/base/file.h"
#include "cairn/base/thread_team.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

// Rates in 10^6 bytes of text a second on one thread; medians over the runs.
struct TokenizerUseSpeed {
  uint64_t bytes = 0;      // of all documents
  uint64_t tokens = 0;     // they became
  double split_rate = 0;   // pre-tokenisation alone
  double encode_rate = 0;  // document by document, with a warm scratch
  double decode_rate = 0;
  double long_word_seconds = 0;  // encoding 2^20 times the letter 'e', one word
};

// Encodes and decodes `documents` `runs` times. Checks first that decoding gives them back and
// throws Error (failed) when it does not, unless the tokenizer has a normalizer, which may change
// text.
TokenizerUseSpeed measure_tokenizer_use(const Tokenizer& tokenizer,
                                        std::span<const std::string_view> documents, int runs = 5);

// Seconds from the file to a tokenizer that can encode, the median of `runs`.
double measure_tokenizer_load(const Path& file, int runs = 5);

struct TokenizerTrainingSpeed {
  int threads = 0;
  double train_rate = 0;           // 10^6 bytes of text a second
  double train_count_seconds = 0;  // in the last run: counting words,
  double train_merge_seconds = 0;  // and merging pairs
};

// Trains on `documents` `runs` times; `spec` becomes the tokenizer. Throws what train_bpe throws.
TokenizerTrainingSpeed measure_tokenizer_training(std::span<const std::string_view> documents,
                                                  const BpeTrainingOptions& options,
                                                  ThreadTeam& team, int runs, TokenizerSpec& spec);

}  // namespace cairn
