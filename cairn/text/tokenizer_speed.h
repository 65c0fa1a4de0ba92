// How fast this machine trains and uses tokenizers: the figures of `cairn bench tokenizer`.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "cairn/base/thread_team.h"
#include "cairn/text/bpe_trainer.h"

namespace cairn {

// Rates in 10^6 bytes of text a second; medians over the runs.
struct TokenizerSpeed {
  uint64_t bytes = 0;   // of all documents
  uint64_t tokens = 0;  // they became
  int threads = 0;      // of the training; everything else runs on one
  double train_rate = 0;
  double train_count_seconds = 0;  // in the last run: counting words,
  double train_merge_seconds = 0;  // and merging pairs
  double split_rate = 0;           // pre-tokenisation alone
  double encode_rate = 0;          // document by document, with a warm scratch
  double decode_rate = 0;
  double long_word_seconds = 0;  // encoding 2^20 times the letter 'e', one word
};

// Trains on `documents` `runs` times, then encodes and decodes them as often. Checks first that
// decoding gives the documents back. Throws what train_bpe throws, and Error (failed) when the
// check fails.
TokenizerSpeed measure_tokenizer_speed(std::span<const std::string_view> documents,
                                       const BpeTrainingOptions& options, ThreadTeam& team,
                                       int runs = 5);

}  // namespace cairn
