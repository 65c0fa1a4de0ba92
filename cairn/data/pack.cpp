// Packing: documents in, token shards out.
#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/data/split_writer.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

// Documents are encoded side by side in groups, which end at either bound and are written in order.
constexpr size_t kGroupDocuments = 512;
constexpr uint64_t kGroupBytes = uint64_t{32} << 20;
// Documents longer than this are encoded in pieces, so that one large file keeps all threads busy.
constexpr size_t kPieceBytes = size_t{1} << 20;

bool is_blank(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

// Where the piece of `text` that begins at its start ends: at a line end between two letters, where
// no word of a byte-level tokenizer crosses, if the next piece's worth of text has one.
size_t piece_end(std::string_view text) {
  if (text.size() <= 2 * kPieceBytes) return text.size();
  size_t end = kPieceBytes;
  for (; end < 2 * kPieceBytes; ++end)
    if (text[end - 1] == '\n' && !is_blank(text[end - 2]) && !is_blank(text[end])) break;
  return end;
}

struct Piece {
  size_t document = 0;
  std::string_view text;
  std::vector<int32_t> tokens;
};

struct SplitPacker {
  const Tokenizer& tokenizer;
  const Path& folder;
  const PackOptions& options;
  ThreadTeam& team;
  ProgressCount& progress;
  std::vector<EncodeScratch> scratches;  // a thread

  SplitInfo pack(const std::vector<CorpusFile>& files, Split split) {
    SplitWriter writer(tokenizer.vocab_size(), tokenizer.fingerprint(), split, folder,
                       options.shard_tokens);
    for (size_t begin = 0, end = 0; begin < files.size(); begin = end) {
      end = group_end(files, begin);
      const std::vector<CorpusFile> group(files.begin() + static_cast<std::ptrdiff_t>(begin),
                                          files.begin() + static_cast<std::ptrdiff_t>(end));
      const std::vector<std::vector<int32_t>> documents = encode(group);
      for (size_t i = 0; i < group.size(); ++i) {
        writer.add(documents[i], group[i].bytes, group[i].path.string());
        writer.cut();
      }
      progress.advance(total_bytes(group));
    }
    return writer.finish();
  }

  // At least one document from `begin` on.
  static size_t group_end(const std::vector<CorpusFile>& files, size_t begin) {
    uint64_t bytes = 0;
    size_t end = begin;
    while (end < files.size() && end < begin + kGroupDocuments && bytes < kGroupBytes)
      bytes += files[end++].bytes;
    return end;
  }

  std::vector<std::vector<int32_t>> encode(const std::vector<CorpusFile>& group) {
    const Documents documents(group);
    std::vector<Piece> pieces;
    for (size_t i = 0; i < group.size(); ++i) {
      std::string_view rest = documents.views()[i];
      while (!rest.empty()) {
        const size_t end = piece_end(rest);
        pieces.push_back({.document = i, .text = rest.substr(0, end)});
        rest.remove_prefix(end);
      }
    }
    team.run(pieces.size(), [&](size_t i, int thread) {
      tokenizer.encode(pieces[i].text, pieces[i].tokens, scratches[static_cast<size_t>(thread)]);
    });
    std::vector<std::vector<int32_t>> tokens(group.size());
    for (Piece& piece : pieces) {
      std::vector<int32_t>& whole = tokens[piece.document];
      if (whole.empty())
        whole = std::move(piece.tokens);
      else
        whole.insert(whole.end(), piece.tokens.begin(), piece.tokens.end());
    }
    for (std::vector<int32_t>& document : tokens) document.push_back(tokenizer.eos_id());
    return tokens;
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
  refuse_existing_dataset(folder);
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
