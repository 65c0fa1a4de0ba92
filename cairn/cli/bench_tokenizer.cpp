// `cairn bench tokenizer`: training, encoding and decoding speed on text of the user's.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/cli/bench.h"
#include "cairn/data/corpus.h"
#include "cairn/io/json.h"
#include "cairn/text/tokenizer_speed.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> from = {"/usr/include"};
  int64_t vocab_size = 4096;
  int64_t runs = 5;
  int64_t threads = 0;
  bool json = false;
};

int run_tokenizer(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  CorpusOptions corpus_options;
  for (const std::string& folder : options.from) corpus_options.roots.emplace_back(folder);
  const Corpus corpus = gather_corpus(corpus_options, team);
  const Documents text(corpus.training);
  BpeTrainingOptions training;
  training.vocab_size = static_cast<size_t>(options.vocab_size);
  const TokenizerSpeed speed =
      measure_tokenizer_speed(text.views(), training, team, static_cast<int>(options.runs));
  if (options.json) {
    fmt::print("{}", json_line({{"bench", "tokenizer"},
                                {"processor", processor_family()},
                                {"threads", speed.threads},
                                {"bytes", speed.bytes},
                                {"tokens", speed.tokens},
                                {"train_mbs", speed.train_rate},
                                {"split_mbs", speed.split_rate},
                                {"encode_mbs", speed.encode_rate},
                                {"decode_mbs", speed.decode_rate},
                                {"long_word_seconds", speed.long_word_seconds}}));
    return 0;
  }
  fmt::print("{:.1f} MB of text, {:.2f} M tokens\n", static_cast<double>(speed.bytes) / 1e6,
             static_cast<double>(speed.tokens) / 1e6);
  fmt::print("  training, {} threads  {:7.1f} MB/s (counting {:.2f} s, merging {:.2f} s)\n",
             speed.threads, speed.train_rate, speed.train_count_seconds, speed.train_merge_seconds);
  fmt::print("  splitting, a core     {:7.1f} MB/s\n", speed.split_rate);
  fmt::print("  encoding, a core      {:7.1f} MB/s\n", speed.encode_rate);
  fmt::print("  decoding, a core      {:7.1f} MB/s\n", speed.decode_rate);
  fmt::print("  1 MiB of one letter   {:7.3f} s\n", speed.long_word_seconds);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--from", "folder with text (/usr/include)", options->from);
  arguments.option("--vocab-size", "tokens to train (4096)", options->vocab_size);
  arguments.option("--runs", "to take the median of (5)", options->runs);
  arguments.option("--threads", "threads (default: all allowed)", options->threads);
  arguments.flag("--json", "print one JSON line", options->json);
  return [options] { return run_tokenizer(*options); };
}

}  // namespace

const Verb kBenchTokenizerVerb{.name = "tokenizer",
                               .does = "Tokenizer training, encoding and decoding",
                               .example = "cairn bench tokenizer --from /usr/include",
                               .prepare = prepare};

}  // namespace cairn
