// `cairn bench tokenizer`: training, loading, encoding and decoding speed on text of the user's.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/cli/bench.h"
#include "cairn/data/corpus.h"
#include "cairn/io/json.h"
#include "cairn/text/tokenizer_json.h"
#include "cairn/text/tokenizer_speed.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> from = {"/usr/include"};
  std::string tokenizer;
  int64_t vocab_size = 4096;
  int64_t runs = 5;
  int64_t threads = 0;
  bool json = false;
};

Json to_json(const TokenizerUseSpeed& speed) {
  return {{"bench", "tokenizer"},
          {"processor", processor_family()},
          {"bytes", speed.bytes},
          {"tokens", speed.tokens},
          {"split_mbs", speed.split_rate},
          {"encode_mbs", speed.encode_rate},
          {"decode_mbs", speed.decode_rate},
          {"long_word_seconds", speed.long_word_seconds}};
}

void print(const TokenizerUseSpeed& speed) {
  fmt::print("  splitting, a core     {:7.1f} MB/s\n", speed.split_rate);
  fmt::print("  encoding, a core      {:7.1f} MB/s\n", speed.encode_rate);
  fmt::print("  decoding, a core      {:7.1f} MB/s\n", speed.decode_rate);
  fmt::print("  1 MiB of one letter   {:7.3f} s\n", speed.long_word_seconds);
}

void print_size(const TokenizerUseSpeed& speed) {
  fmt::print("{:.1f} MB of text, {:.2f} M tokens\n", static_cast<double>(speed.bytes) / 1e6,
             static_cast<double>(speed.tokens) / 1e6);
}

void bench_given(const Options& options, const Documents& text) {
  const auto runs = static_cast<int>(options.runs);
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  const double load = measure_tokenizer_load(options.tokenizer, runs);
  const TokenizerUseSpeed speed = measure_tokenizer_use(tokenizer, text.views(), runs);
  if (options.json) {
    Json line = to_json(speed);
    line["load_seconds"] = load;
    line["vocab_size"] = tokenizer.vocab_size();
    fmt::print("{}", json_line(line));
    return;
  }
  print_size(speed);
  fmt::print("  loading {:7} tokens {:5.1f} ms\n", tokenizer.vocab_size(), 1e3 * load);
  print(speed);
}

void bench_trained(const Options& options, const Documents& text, ThreadTeam& team) {
  const auto runs = static_cast<int>(options.runs);
  BpeTrainingOptions training;
  training.vocab_size = static_cast<size_t>(options.vocab_size);
  TokenizerSpec spec;
  const TokenizerTrainingSpeed trained =
      measure_tokenizer_training(text.views(), training, team, runs, spec);
  const TokenizerUseSpeed speed =
      measure_tokenizer_use(Tokenizer(std::move(spec)), text.views(), runs);
  if (options.json) {
    Json line = to_json(speed);
    line["threads"] = trained.threads;
    line["train_mbs"] = trained.train_rate;
    fmt::print("{}", json_line(line));
    return;
  }
  print_size(speed);
  fmt::print("  training, {} threads  {:7.1f} MB/s (counting {:.2f} s, merging {:.2f} s)\n",
             trained.threads, trained.train_rate, trained.train_count_seconds,
             trained.train_merge_seconds);
  print(speed);
}

int run_tokenizer(const Options& options) {
  ThreadTeam team(static_cast<int>(options.threads));
  CorpusOptions corpus_options;
  corpus_options.held_out_fraction = 0;
  for (const std::string& folder : options.from) corpus_options.roots.emplace_back(folder);
  const Corpus corpus = gather_corpus(corpus_options, team);
  const Documents text(corpus.training);
  if (options.tokenizer.empty())
    bench_trained(options, text, team);
  else
    bench_given(options, text);
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--from", "folder or file with text (/usr/include)", options->from);
  arguments.option("--tokenizer",
                   "load this one (tokenizer.json, a folder, GGUF) instead of "
                   "training one",
                   options->tokenizer);
  arguments.option("--vocab-size", "tokens to train (4096)", options->vocab_size);
  arguments.option("--runs", "to take the median of (5)", options->runs);
  arguments.option("--threads", "of training (default: all allowed)", options->threads);
  arguments.flag("--json", "print one JSON line", options->json);
  return [options] { return run_tokenizer(*options); };
}

}  // namespace

const Verb kBenchTokenizerVerb{.name = "tokenizer",
                               .does = "Tokenizer training, loading, encoding and decoding",
                               .example =
                                   "cairn bench tokenizer --from /usr/include\n"
                                   "cairn bench tokenizer --tokenizer smollm2.gguf",
                               .prepare = prepare};

}  // namespace cairn
