#include "cairn/text/bpe_trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <unordered_set>

#include "cairn/base/error.h"
#include "cairn/base/seconds_since.h"
#include "cairn/text/byte_level.h"
#include "cairn/text/pair_merger.h"
#include "cairn/text/word_counts.h"

namespace cairn {
namespace {

constexpr size_t kBytes = 256;
constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMostVocabulary = 1 << 24;

using Phase = BpeTrainingProgress::Phase;
using Report = std::function<void(const BpeTrainingProgress&)>;

Error bad_options(std::string subject, std::string expected, std::string found) {
  return Error({.kind = ErrorKind::usage,
                .doing = "training a tokenizer",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .found = std::move(found)});
}

void check(const BpeTrainingOptions& options) {
  const size_t least = options.special_tokens.size() + kBytes;
  if (options.vocab_size < least || options.vocab_size > kMostVocabulary) {
    throw bad_options("vocabulary size",
                      fmt::format("{} (special tokens and bytes) to {}", least, kMostVocabulary),
                      std::to_string(options.vocab_size));
  }
  std::unordered_set<std::string> seen;
  for (const uint8_t byte : byte_level_order()) {
    seen.insert(to_byte_level(std::string(1, static_cast<char>(byte))));
  }
  for (const std::string& token : options.special_tokens) {
    if (token.empty() || !is_utf8(token) || !seen.insert(token).second) {
      throw bad_options("special token \"" + token + "\"",
                        "valid UTF-8, not empty, unlike the others and unlike a single byte",
                        std::to_string(token.size()) + " bytes");
    }
  }
}

// The first place at or after `from` where the text can be cut without changing a word.
size_t next_cut(std::string_view text, size_t from) {
  for (size_t at = std::max<size_t>(from, 1); at < text.size(); ++at) {
    const bool space = text[at] == ' ' || text[at] == '\n';
    if (space && text[at - 1] > ' ' && text[at - 1] < 0x7F) return at;
  }
  return text.size();
}

// The documents in pieces of about kChunkBytes, in order. Boundaries depend on the text alone.
std::vector<std::string_view> cut_documents(std::span<const std::string_view> documents,
                                            bool may_cut) {
  std::vector<std::string_view> pieces;
  for (std::string_view rest : documents) {
    while (may_cut && rest.size() > kChunkBytes) {
      const size_t cut = next_cut(rest, kChunkBytes);
      pieces.push_back(rest.substr(0, cut));
      rest.remove_prefix(cut);
    }
    if (!rest.empty()) pieces.push_back(rest);
  }
  return pieces;
}

// First pieces of runs of about kChunkBytes, and one past the last: small documents share a chunk.
std::vector<size_t> group_pieces(const std::vector<std::string_view>& pieces) {
  std::vector<size_t> starts = {0};
  size_t bytes = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    bytes += pieces[i].size();
    if (bytes >= kChunkBytes || i + 1 == pieces.size()) {
      starts.push_back(i + 1);
      bytes = 0;
    }
  }
  return starts;
}

// Counts are sums, so it does not matter which thread counted what.
WordCounts count_words(std::span<const std::string_view> documents,
                       const Pretokenizer& pretokenizer, ThreadTeam& team, const Report& report,
                       uint64_t total) {
  const auto pieces = cut_documents(documents, pretokenizer.cuts_before_space());
  const auto starts = group_pieces(pieces);
  std::vector<WordCounts> counts(static_cast<size_t>(team.size()));
  std::atomic<uint64_t> done{0};
  std::atomic<bool> stop{false};
  const auto caller = std::this_thread::get_id();
  team.run(starts.size() - 1, [&](size_t chunk, int thread) {
    if (stop) return;
    WordCounts& mine = counts[static_cast<size_t>(thread)];
    uint64_t bytes = 0;
    try {
      for (size_t i = starts[chunk]; i < starts[chunk + 1]; ++i) {
        pretokenizer.for_each_word(pieces[i], [&](std::string_view word) { mine.add(word); });
        bytes += pieces[i].size();
      }
      const uint64_t now = done += bytes;
      if (report && std::this_thread::get_id() == caller) report({Phase::counting, now, total});
    } catch (...) {
      stop = true;
      throw;
    }
  });
  for (size_t thread = 1; thread < counts.size(); ++thread) {
    counts[0].add_all(counts[thread]);
    counts[thread] = {};
  }
  return std::move(counts[0]);
}

// The special tokens and the bytes, with the ids the HF library gives them.
TokenizerSpec first_tokens(const BpeTrainingOptions& options, std::array<int32_t, kBytes>& ids) {
  TokenizerSpec spec;
  spec.pretokenizer = options.pretokenizer;
  for (const std::string& token : options.special_tokens) {
    const auto id = static_cast<int32_t>(spec.vocabulary.size());
    spec.vocabulary.push_back(token);
    spec.added.push_back({.id = id, .content = token, .special = true});
  }
  for (const uint8_t byte : byte_level_order()) {
    ids[byte] = static_cast<int32_t>(spec.vocabulary.size());
    spec.vocabulary.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
  }
  if (!options.special_tokens.empty()) spec.bos_id = spec.eos_id = 0;
  return spec;
}

void make_merges(PairMerger& merger, const BpeTrainingOptions& options, const Report& report,
                 TokenizerSpec& spec) {
  std::unordered_map<std::string, int32_t> ids;
  for (size_t id = 0; id < spec.vocabulary.size(); ++id) {
    ids.emplace(spec.vocabulary[id], static_cast<int32_t>(id));
  }
  const size_t first = spec.vocabulary.size();
  while (spec.vocabulary.size() < options.vocab_size) {
    const PairMerger::Pair pair = merger.most_frequent();
    if (pair.count < std::max<int64_t>(options.min_count, 1)) break;
    const std::string joined = spec.vocabulary[static_cast<size_t>(pair.left)] +
                               spec.vocabulary[static_cast<size_t>(pair.right)];
    // Two pairs may spell the same token: it has one id.
    const auto [known, is_new] = ids.emplace(joined, static_cast<int32_t>(spec.vocabulary.size()));
    if (is_new) spec.vocabulary.push_back(joined);
    spec.merges.emplace_back(pair.left, pair.right);
    merger.merge(pair, known->second);
    if (report && is_new) {
      report({Phase::merging, spec.vocabulary.size() - first, options.vocab_size - first});
    }
  }
}

}  // namespace

TokenizerSpec train_bpe(std::span<const std::string_view> documents,
                        const BpeTrainingOptions& options, ThreadTeam& team, const Report& progress,
                        BpeTrainingFacts* facts) {
  check(options);
  BpeTrainingFacts found;
  for (const std::string_view document : documents) found.bytes += document.size();
  if (found.bytes == 0) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "training a tokenizer",
                 .expected = "documents with text",
                 .found = fmt::format("{} documents, all empty", documents.size())});
  }
  auto start = std::chrono::steady_clock::now();
  const Pretokenizer pretokenizer(options.pretokenizer);
  const WordCounts counts = count_words(documents, pretokenizer, team, progress, found.bytes);
  found.different_words = counts.size();
  found.count_seconds = seconds_since(start);

  start = std::chrono::steady_clock::now();
  std::array<int32_t, kBytes> byte_ids{};
  TokenizerSpec spec = first_tokens(options, byte_ids);
  PairMerger merger(counts, byte_ids);
  make_merges(merger, options, progress, spec);
  found.merge_seconds = seconds_since(start);
  if (facts != nullptr) *facts = found;
  return spec;
}

}  // namespace cairn
