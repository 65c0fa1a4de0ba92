// Packing: documents in, token shards out.
#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/data/dataset.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

// Documents encoded side by side before they are written in order.
constexpr size_t kGroup = 512;

struct SplitPacker {
  const Tokenizer& tokenizer;
  const Path& folder;
  const PackOptions& options;
  ThreadTeam& team;
  ProgressCount& progress;
  std::vector<EncodeScratch> scratches;  // a thread

  SplitInfo pack(const std::vector<CorpusFile>& files, Split split) {
    SplitInfo info;
    ShardWriter writer(tokenizer.vocab_size(), tokenizer.fingerprint());
    std::string names;
    for (size_t begin = 0; begin < files.size(); begin += kGroup) {
      const std::vector<CorpusFile> group(
          files.begin() + static_cast<std::ptrdiff_t>(begin),
          files.begin() + static_cast<std::ptrdiff_t>(std::min(begin + kGroup, files.size())));
      for (const auto& document : encode(group)) {
        writer.add_document(document);
        info.tokens += document.size();
        if (writer.tokens() >= options.shard_tokens) write(writer, split, info);
      }
      for (const CorpusFile& file : group) names += one_line(file.path.string()) + "\n";
      info.documents += group.size();
      info.bytes += total_bytes(group);
      progress.advance(total_bytes(group));
    }
    if (writer.tokens() > 0) write(writer, split, info);
    write_file_atomically(folder / (std::string(split_name(split)) + ".files"), names);
    return info;
  }

  std::vector<std::vector<int32_t>> encode(const std::vector<CorpusFile>& group) {
    const Documents documents(group);
    std::vector<std::vector<int32_t>> tokens(group.size());
    team.run(group.size(), [&](size_t i, int thread) {
      tokenizer.encode(documents.views()[i], tokens[i], scratches[static_cast<size_t>(thread)]);
      tokens[i].push_back(tokenizer.eos_id());
    });
    return tokens;
  }

  void write(ShardWriter& writer, Split split, SplitInfo& info) const {
    info.shards.push_back(fmt::format("{}-{:05}.tokens", split_name(split), info.shards.size()));
    writer.write(folder / info.shards.back());
  }

  // File names may hold anything but '/'; the list has one line each.
  static std::string one_line(std::string name) {
    std::replace(name.begin(), name.end(), '\n', '?');
    return name;
  }
};

}  // namespace

DatasetInfo pack_dataset(const Corpus& corpus, const Tokenizer& tokenizer, const Path& folder,
                         const PackOptions& options, ThreadTeam& team) {
  if (tokenizer.eos_id() < 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing a dataset",
                 .expected = "a tokenizer with an end-of-text token",
                 .hint = "tokenizer_config.json names it as eos_token"});
  if (std::filesystem::exists(folder / "dataset.json"))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing a dataset into " + folder.string(),
                 .expected = "a folder without a dataset",
                 .found = "dataset.json",
                 .hint = "remove the folder or choose another"});
  make_folders(folder);
  ProgressCount progress(
      "packing", total_bytes(corpus.training) + total_bytes(corpus.held_out), "B",
      options.show_progress ? ProgressLine::Style::automatic : ProgressLine::Style::quiet);
  SplitPacker packer{tokenizer, folder,
                     options,   team,
                     progress,  std::vector<EncodeScratch>(static_cast<size_t>(team.size()))};
  DatasetInfo info{.vocab_size = tokenizer.vocab_size(),
                   .tokenizer = tokenizer.fingerprint(),
                   .eos_id = tokenizer.eos_id()};
  info.training = packer.pack(corpus.training, Split::training);
  info.held_out = packer.pack(corpus.held_out, Split::held_out);
  progress.finish();
  save_tokenizer(tokenizer.spec(), folder);
  write_dataset_info(info, folder);  // last: a folder without it is no dataset
  return info;
}

}  // namespace cairn
