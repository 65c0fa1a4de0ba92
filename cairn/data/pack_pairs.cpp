// Packing pairs: lines in, token shards out.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/data/pairs.h"
#include "cairn/data/split_writer.h"
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

void add_pair(const Pair& pair, const Tokenizer& tokenizer, const std::string& origin,
              SplitWriter& split) {
  for (const std::string* text : {&pair.source, &pair.target}) {
    std::vector<int32_t> tokens = tokenizer.encode(*text);
    tokens.push_back(tokenizer.eos_id());
    split.add(tokens, text->size(), origin);
  }
  split.cut();  // a shard holds whole pairs
}

void pack_file(const Path& file, const Tokenizer& tokenizer, double held_out_fraction,
               SplitWriter& training, SplitWriter& held_out) {
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
    const std::string origin = fmt::format("{}:{}", file.string(), number);
    const Pair pair = tabs ? parse_tsv(line, origin) : parse_json_line(line, origin);
    add_pair(pair, tokenizer, origin, is_held_out(pair, held_out_fraction) ? held_out : training);
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
  DatasetInfo info{.vocab_size = tokenizer.vocab_size(),
                   .tokenizer = tokenizer.fingerprint(),
                   .eos_id = tokenizer.eos_id(),
                   .pairs = true};
  SplitWriter training(info.vocab_size, info.tokenizer, Split::training, folder,
                       options.shard_tokens);
  SplitWriter held_out(info.vocab_size, info.tokenizer, Split::held_out, folder,
                       options.shard_tokens);
  for (const Path& file : options.files)
    pack_file(file, tokenizer, options.held_out_fraction, training, held_out);
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
