// Packing pairs: lines in, token shards out.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/data/pairs.h"
#include "cairn/io/json.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

struct Pair {
  std::string source, target;
};

Pair parse_tsv(std::string_view line, const std::string& origin) {
  const size_t tab = line.find('\t');
  if (tab == std::string_view::npos || line.find('\t', tab + 1) != std::string_view::npos)
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading pairs",
                 .subject = origin,
                 .expected = "a source, a tab and a target",
                 .found = in_quotes(line)});
  return {std::string(line.substr(0, tab)), std::string(line.substr(tab + 1))};
}

Pair parse_json_line(std::string_view line, const std::string& origin) {
  const Json document = parse_json(line, origin);
  const JsonField field(document, origin);
  return {field.member("source").as_string(), field.member("target").as_string()};
}

// Whether a pair is held out: the same for equal pairs, wherever they stand.
bool is_held_out(const Pair& pair, double fraction) {
  Hasher hasher;
  hasher.update(pair.source.data(), pair.source.size());
  hasher.update("\t", 1);
  hasher.update(pair.target.data(), pair.target.size());
  return static_cast<double>(hasher.digest() >> 11) * 0x1p-53 < fraction;
}

// One split on its way to shards.
class SplitWriter {
 public:
  SplitWriter(const Tokenizer& tokenizer, const Path& folder, Split split, uint64_t shard_tokens)
      : tokenizer_(tokenizer),
        folder_(folder),
        split_(split),
        shard_tokens_(shard_tokens),
        writer_(tokenizer.vocab_size(), tokenizer.fingerprint()) {}

  void add(const Pair& pair, const std::string& origin) {
    for (const std::string* text : {&pair.source, &pair.target}) {
      std::vector<int32_t> tokens = tokenizer_.encode(*text);
      tokens.push_back(tokenizer_.eos_id());
      writer_.add_document(tokens);
      info_.tokens += tokens.size();
      info_.bytes += text->size();
      ++info_.documents;
      names_ += origin + "\n";
    }
    if (writer_.tokens() >= shard_tokens_) write();
  }

  SplitInfo finish() {
    if (writer_.tokens() > 0) write();
    write_file_atomically(folder_ / (std::string(split_name(split_)) + ".files"), names_);
    return info_;
  }

 private:
  void write() {
    info_.shards.push_back(fmt::format("{}-{:05}.tokens", split_name(split_), info_.shards.size()));
    writer_.write(folder_ / info_.shards.back());
  }

  const Tokenizer& tokenizer_;
  const Path& folder_;
  Split split_;
  uint64_t shard_tokens_;
  ShardWriter writer_;
  SplitInfo info_;
  std::string names_;
};

void pack_file(const Path& file, double held_out_fraction, SplitWriter& training,
               SplitWriter& held_out) {
  const std::string text = read_file(file);
  const bool tabs = file.extension() == ".tsv";
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    std::string origin = fmt::format("{}:{}", file.string(), number);
    std::replace(origin.begin(), origin.end(), '\n', '?');
    const Pair pair = tabs ? parse_tsv(line, origin) : parse_json_line(line, origin);
    (is_held_out(pair, held_out_fraction) ? held_out : training).add(pair, origin);
  }
}

}  // namespace

DatasetInfo pack_pairs(const PairPackOptions& options, const Tokenizer& tokenizer,
                       const Path& folder) {
  if (tokenizer.eos_id() < 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "packing pairs",
                 .expected = "a tokenizer with an end-of-text token",
                 .hint = "tokenizer_config.json names it as eos_token"});
  refuse_existing_dataset(folder);
  make_folders(folder);
  SplitWriter training(tokenizer, folder, Split::training, options.shard_tokens);
  SplitWriter held_out(tokenizer, folder, Split::held_out, options.shard_tokens);
  for (const Path& file : options.files)
    pack_file(file, options.held_out_fraction, training, held_out);
  DatasetInfo info{.vocab_size = tokenizer.vocab_size(),
                   .tokenizer = tokenizer.fingerprint(),
                   .eos_id = tokenizer.eos_id(),
                   .pairs = true};
  info.training = training.finish();
  info.held_out = held_out.finish();
  if (info.training.documents == 0)
    throw Error({.kind = ErrorKind::data,
                 .doing = "packing pairs",
                 .expected = "at least one pair to train on",
                 .found = "none"});
  save_tokenizer(tokenizer.spec(), folder);
  write_dataset_info(info, folder);  // last: a folder without it is no dataset
  return info;
}

}  // namespace cairn
