#include "cairn/text/tokenizer_speed.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/function_ref.h"
#include "cairn/base/median.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

constexpr size_t kLongWord = size_t{1} << 20;

double median_seconds(int runs, FunctionRef<void()> work) {
  std::vector<double> seconds;
  for (int run = 0; run < std::max(runs, 1); ++run) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds.push_back(taken.count());
  }
  return std::max(median(std::move(seconds)), 1e-9);
}

void check_round_trip(const Tokenizer& tokenizer, std::span<const std::string_view> documents) {
  EncodeScratch scratch;
  std::vector<int32_t> ids;
  for (const std::string_view document : documents) {
    ids.clear();
    tokenizer.encode(document, ids, scratch);
    if (tokenizer.decode(ids) != document) {
      throw Error({.doing = "measuring a tokenizer",
                   .expected = "the document back from its tokens",
                   .found = "something else"});
    }
  }
}

}  // namespace

TokenizerTrainingSpeed measure_tokenizer_training(std::span<const std::string_view> documents,
                                                  const BpeTrainingOptions& options,
                                                  ThreadTeam& team, int runs, TokenizerSpec& spec) {
  BpeTrainingFacts facts;
  const double train =
      median_seconds(runs, [&] { spec = train_bpe(documents, options, team, {}, &facts); });
  return {.threads = team.size(),
          .train_rate = static_cast<double>(facts.bytes) / 1e6 / train,
          .train_count_seconds = facts.count_seconds,
          .train_merge_seconds = facts.merge_seconds};
}

TokenizerUseSpeed measure_tokenizer_use(const Tokenizer& tokenizer,
                                        std::span<const std::string_view> documents, int runs) {
  if (tokenizer.spec().normalizer.empty()) check_round_trip(tokenizer, documents);
  TokenizerUseSpeed speed;
  for (const std::string_view document : documents) speed.bytes += document.size();
  const double megabytes = static_cast<double>(speed.bytes) / 1e6;
  const Pretokenizer pretokenizer(tokenizer.spec().pretokenizer);
  size_t words = 0;
  speed.split_rate = megabytes / median_seconds(runs, [&] {
                       for (const std::string_view document : documents) {
                         pretokenizer.for_each_word(document, [&](std::string_view) { ++words; });
                       }
                     });
  EncodeScratch scratch;
  std::vector<int32_t> ids;
  speed.encode_rate = megabytes / median_seconds(runs, [&] {
                        ids.clear();
                        for (const std::string_view document : documents) {
                          tokenizer.encode(document, ids, scratch);
                        }
                      });
  speed.tokens = ids.size();
  size_t decoded = 0;
  speed.decode_rate =
      megabytes / median_seconds(runs, [&] { decoded += tokenizer.decode(ids).size(); });
  const std::string long_word(kLongWord, 'e');
  speed.long_word_seconds =
      median_seconds(runs, [&] { decoded += tokenizer.encode(long_word).size(); });
  // The sums are used, so that no loop is optimised away.
  if (words + decoded == 0) speed.bytes = 0;
  return speed;
}

double measure_tokenizer_load(const Path& file, int runs) {
  size_t tokens = 0;
  const double seconds = median_seconds(runs, [&] { tokens += load_tokenizer(file).vocab_size(); });
  return tokens == 0 ? 0 : seconds;
}

}  // namespace cairn
