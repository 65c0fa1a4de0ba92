// Packing the token files of other trainers into a dataset.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cairn/base/error.h"
#include "cairn/base/progress.h"
#include "cairn/data/split_writer.h"
#include "cairn/data/token_file.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

constexpr size_t kReadTokens = size_t{1} << 20;

// Bytes of text by token id; empty when nothing is known about the tokens.
std::vector<uint32_t> bytes_of_tokens(const Tokenizer* tokenizer) {
  std::vector<uint32_t> counts;
  if (tokenizer == nullptr) return counts;
  for (size_t id = 0; id < tokenizer->vocab_size(); ++id)
    counts.push_back(
        static_cast<uint32_t>(tokenizer->is_special(static_cast<int32_t>(id))
                                  ? 0
                                  : tokenizer->token_bytes(static_cast<int32_t>(id)).size()));
  return counts;
}

// Cuts token files into documents and hands them to the two splits.
class TokenPacker {
 public:
  TokenPacker(const TokenPackOptions& options, int32_t eos, std::span<const uint32_t> byte_counts,
              SplitWriter& training, SplitWriter& held_out, ProgressCount& progress)
      : options_(options),
        eos_(eos),
        byte_counts_(byte_counts),
        training_(training),
        held_out_(held_out),
        progress_(progress) {}

  // Documents from token `cut` of all files on are held out.
  void pack(const std::vector<std::unique_ptr<TokenFile>>& files, uint64_t cut) {
    cut_ = cut;
    for (const auto& file : files) pack_file(*file);
  }

 private:
  // Where documents end: behind each end-of-text token, or where the file says; one that is longer
  // than a shard, or reaches into the held-out part, is cut.
  void pack_file(const TokenFile& file) {
    const std::vector<uint64_t>& starts = file.document_starts();
    auto next_start = std::upper_bound(starts.begin(), starts.end(), uint64_t{0});
    std::vector<int32_t> tokens;
    for (uint64_t begin = 0; begin < file.tokens(); begin += tokens.size()) {
      tokens.resize(std::min<uint64_t>(kReadTokens, file.tokens() - begin));
      file.read(begin, tokens);
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (next_start != starts.end() && *next_start == begin + i) {
          end_document(file);
          while (next_start != starts.end() && *next_start == begin + i) ++next_start;
        }
        document_.push_back(tokens[i]);
        const bool ends = starts.empty() && tokens[i] == eos_;
        const bool at_cut = packed_ + document_.size() == cut_;
        if (ends || at_cut || document_.size() >= options_.shard_tokens) end_document(file);
      }
      progress_.advance(tokens.size());
    }
    end_document(file);
  }

  uint64_t document_bytes() const {
    uint64_t bytes = 0;
    for (const int32_t token : document_)
      if (static_cast<size_t>(token) < byte_counts_.size())
        bytes += byte_counts_[static_cast<size_t>(token)];
    return bytes;
  }

  void end_document(const TokenFile& file) {
    if (document_.empty()) return;
    try {
      SplitWriter& split = packed_ < cut_ ? training_ : held_out_;
      split.add(document_, document_bytes(), file.path().string());
      split.cut();
    } catch (const Error& error) {
      Problem problem = error.problem();
      problem.subject = file.path().string();
      if (problem.kind == ErrorKind::data)
        problem.hint = "were these tokens made with another tokenizer?";
      throw Error(std::move(problem));
    }
    packed_ += document_.size();
    document_.clear();
  }

  const TokenPackOptions& options_;
  const int32_t eos_;
  std::span<const uint32_t> byte_counts_;
  SplitWriter& training_;
  SplitWriter& held_out_;
  ProgressCount& progress_;
  std::vector<int32_t> document_;
  uint64_t packed_ = 0, cut_ = 0;
};

void check(const TokenPackOptions& options, const Path& folder) {
  const auto refuse = [](const std::string& subject, const std::string& expected,
                         const std::string& found) {
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing token files",
                 .subject = subject,
                 .expected = expected,
                 .found = found});
  };
  if (options.files.empty()) refuse("files", "at least one", "none");
  if (options.tokenizer == nullptr && options.vocab_size == 0)
    refuse("vocabulary", "a tokenizer, or the number of tokens", "neither");
  if (options.shard_tokens == 0) refuse("tokens a shard", "at least 1", "0");
  if (!(options.held_out_fraction >= 0 && options.held_out_fraction < 1))
    refuse("held-out fraction", "0 to below 1", std::to_string(options.held_out_fraction));
  refuse_existing_dataset(folder);
}

std::vector<std::unique_ptr<TokenFile>> open_all(const std::vector<Path>& paths, uint64_t& tokens) {
  std::vector<std::unique_ptr<TokenFile>> files;
  for (const Path& path : paths) {
    files.push_back(std::make_unique<TokenFile>(path));
    tokens += files.back()->tokens();
  }
  return files;
}

}  // namespace

DatasetInfo pack_token_files(const TokenPackOptions& options, const Path& folder) {
  check(options, folder);
  uint64_t tokens = 0, held_out_tokens = 0;
  const auto files = open_all(options.files, tokens);
  const auto held_out_files = open_all(options.held_out_files, held_out_tokens);
  DatasetInfo info{.vocab_size = options.vocab_size, .tokenizer = 0, .eos_id = options.eos_id};
  if (options.tokenizer != nullptr)
    info = {.vocab_size = options.tokenizer->vocab_size(),
            .tokenizer = options.tokenizer->fingerprint(),
            .eos_id = options.tokenizer->eos_id()};
  make_folders(folder);
  const std::vector<uint32_t> bytes = bytes_of_tokens(options.tokenizer);
  SplitWriter training(info.vocab_size, info.tokenizer, Split::training, folder,
                       options.shard_tokens);
  SplitWriter held_out(info.vocab_size, info.tokenizer, Split::held_out, folder,
                       options.shard_tokens);
  ProgressCount progress(
      "packing", tokens + held_out_tokens, "tokens",
      options.show_progress ? ProgressLine::Style::automatic : ProgressLine::Style::quiet);
  const double share = held_out_files.empty() ? options.held_out_fraction : 0;
  const auto cut = static_cast<uint64_t>(std::ceil(static_cast<double>(tokens) * (1 - share)));
  const auto pack = [&](const auto& some, uint64_t from) {
    TokenPacker(options, info.eos_id, bytes, training, held_out, progress).pack(some, from);
  };
  pack(files, cut);
  pack(held_out_files, 0);
  info.training = training.finish();
  info.held_out = held_out.finish();
  progress.finish();
  if (options.tokenizer != nullptr) save_tokenizer(options.tokenizer->spec(), folder);
  write_dataset_info(info, folder);  // last: a folder without it is no dataset
  return info;
}

}  // namespace cairn
