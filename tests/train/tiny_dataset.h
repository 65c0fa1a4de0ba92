// A packed dataset that takes a moment to make and to learn.
#pragma once

#include <string>
#include <vector>

#include "cairn/base/random.h"
#include "cairn/data/dataset.h"

namespace cairn {

// A dataset of counting documents in 40 tokens' vocabulary.
inline void write_tiny_dataset(const Path& folder, uint64_t seed = 1) {
  make_folders(folder);
  DatasetInfo info{.vocab_size = 40, .tokenizer = 9, .eos_id = 39};
  const RandomStream random(seed, "session test");
  for (const Split split : {Split::training, Split::held_out}) {
    SplitInfo& part = split == Split::training ? info.training : info.held_out;
    ShardWriter writer(info.vocab_size, info.tokenizer);
    std::string files;
    for (uint64_t d = 0; d < (split == Split::training ? 40U : 6U); ++d) {
      std::vector<int32_t> tokens;
      const auto start = random.below(39, d, static_cast<uint64_t>(split));
      for (uint64_t i = 0; i < 50; ++i) tokens.push_back(static_cast<int32_t>((start + i) % 39));
      tokens.push_back(39);
      writer.add_document(tokens);
      files += "document-" + std::to_string(d) + ".txt\n";
    }
    part = {.tokens = writer.tokens(),
            .documents = writer.documents(),
            .bytes = 4 * writer.tokens(),
            .shards = {std::string(split_name(split)) + "-00000.tokens"}};
    writer.write(folder / part.shards[0]);
    write_file_atomically(folder / (std::string(split_name(split)) + ".files"), files);
  }
  write_dataset_info(info, folder);
}

}  // namespace cairn
