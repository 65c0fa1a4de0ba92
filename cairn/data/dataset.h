// A dataset folder: what `cairn data pack` leaves and training reads.
//
//   dataset.json                 what is in it (below)
//   training-00000.tokens ...    token shards (shard.h)
//   held_out-00000.tokens ...
//   training.files, held_out.files   the file of each document, a line each, in order
//   tokenizer.json, tokenizer_config.json   the tokenizer that made it
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/data/corpus.h"
#include "cairn/data/shard.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

enum class Split { training, held_out };
std::string_view split_name(Split split);  // "training", "held_out"

struct SplitInfo {
  uint64_t tokens = 0;
  uint64_t documents = 0;
  uint64_t bytes = 0;  // of text
  std::vector<std::string> shards;
};

struct DatasetInfo {
  uint64_t vocab_size = 0;
  uint64_t tokenizer = 0;  // fingerprint
  int32_t eos_id = -1;     // after each document
  bool pairs = false;      // documents are sources and targets in turns (data/pairs.h)
  SplitInfo training, held_out;
  const SplitInfo& split(Split which) const {
    return which == Split::training ? training : held_out;
  }
};

struct PackOptions {
  uint64_t shard_tokens = uint64_t{1} << 26;  // a new shard begins after so many
  bool show_progress = true;
};

// Tokenises both parts of `corpus`, each document followed by the tokenizer's end-of-text token,
// and writes the dataset into `folder` (made if absent; refused with Error (usage) if it holds a
// dataset already). Documents are encoded in parallel and written in order: the bytes are the same
// for any number of threads.
DatasetInfo pack_dataset(const Corpus& corpus, const Tokenizer& tokenizer, const Path& folder,
                         const PackOptions& options, ThreadTeam& team);

struct TokenPackOptions {
  std::vector<Path> files;           // of any format of data/token_file.h, one after the other
  std::vector<Path> held_out_files;  // if none: the last documents of `files`
  double held_out_fraction = 0.05;   // of tokens, then
  // What made the tokens: a tokenizer, or at least their number and the one that ends a document.
  const Tokenizer* tokenizer = nullptr;
  uint64_t vocab_size = 0;
  int32_t eos_id = -1;
  uint64_t shard_tokens = uint64_t{1} << 26;
  bool show_progress = true;
};

// The same from tokens that another trainer has made. A document ends where the file says so or
// behind the end-of-text token. Memory: about two shards. Throws Error (data) naming the file when
// one is damaged or has tokens outside the vocabulary, Error (usage) as above.
DatasetInfo pack_token_files(const TokenPackOptions& options, const Path& folder);

// Throws Error (usage) when `folder` holds a dataset already.
void refuse_existing_dataset(const Path& folder);

// One split opened for reading: its shards as one long stream. Thread-safe.
class TokenStream {
 public:
  // Throws Error (data) when a shard has vanished, is damaged, or does not fit dataset.json.
  TokenStream(const Path& folder, Split split);

  const DatasetInfo& dataset() const { return info_; }
  uint64_t tokens() const { return starts_.back(); }
  size_t shards() const { return shards_.size(); }
  const Shard& shard(size_t index) const { return *shards_[index]; }
  // Copies tokens [begin, begin + out.size()) of the whole stream. Errors as Shard::read's.
  void read(uint64_t begin, std::span<int32_t> out) const;
  // Where documents begin in tokens [begin, end) of the whole stream, rising.
  std::vector<uint64_t> document_starts(uint64_t begin, uint64_t end) const;
  // The file that document `document` of shard `shard` came from.
  std::string file_of(size_t shard, uint64_t document) const;

 private:
  Path folder_;
  Split split_;
  DatasetInfo info_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<uint64_t> starts_;           // tokens before each shard, and all
  std::vector<uint64_t> document_starts_;  // documents before each shard
};

// Reads dataset.json. Throws Error (data) naming the field.
DatasetInfo read_dataset_info(const Path& folder);
// Writes it, whole or not at all.
void write_dataset_info(const DatasetInfo& info, const Path& folder);

}  // namespace cairn
