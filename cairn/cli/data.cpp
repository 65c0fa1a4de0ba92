// `cairn data`: text files into token shards, and a look into them.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/progress.h"
#include "cairn/cli/tasks.h"
#include "cairn/cli/verbs.h"
#include "cairn/data/dataset.h"
#include "cairn/data/loader.h"
#include "cairn/data/pairs.h"
#include "cairn/data/tasks/task.h"
#include "cairn/io/json.h"
#include "cairn/text/tokenizer_json.h"
#include "cairn/train/config.h"
#include "cairn/train/task_source.h"

namespace cairn {
namespace {

constexpr Split kSplits[] = {Split::training, Split::held_out};

// "held-out" in sentences; split_name() is for files and JSON.
std::string_view spoken(Split split) {
  return split == Split::training ? "training" : "held-out";
}

[[noreturn]] void wrong_use(const std::string& doing, const std::string& expected,
                            const std::string& found, const std::string& hint = "") {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing,
               .expected = expected,
               .found = found,
               .hint = hint});
}

uint64_t at_least(int64_t value, int64_t least, const std::string& option) {
  if (value < least)
    wrong_use("reading " + option, "at least " + std::to_string(least), std::to_string(value));
  return static_cast<uint64_t>(value);
}

Json split_json(const SplitInfo& split) {
  return {{"documents", split.documents},
          {"bytes", split.bytes},
          {"tokens", split.tokens},
          {"shards", split.shards.size()}};
}

Json dataset_json(const std::string& folder, const DatasetInfo& info) {
  return {{"dataset", folder},
          {"vocab_size", info.vocab_size},
          {"tokenizer", hex64(info.tokenizer)},
          {"training", split_json(info.training)},
          {"held_out", split_json(info.held_out)}};
}

void print_splits(const DatasetInfo& info) {
  fmt::print("           {:>10} {:>12} {:>10} {:>7}  {}\n", "documents", "text", "tokens", "shards",
             "bytes a token");
  for (const Split which : kSplits) {
    const SplitInfo& split = info.split(which);
    // Each document ends with a token that stands for no text.
    const uint64_t text_tokens = split.tokens - std::min(split.tokens, split.documents);
    fmt::print("{:<10} {:>10} {:>12} {:>10} {:>7}  {}\n", spoken(which), split.documents,
               format_bytes(split.bytes), format_count(static_cast<double>(split.tokens)),
               split.shards.size(),
               text_tokens == 0 ? std::string("-")
                                : fmt::format("{:.3f}", static_cast<double>(split.bytes) /
                                                            static_cast<double>(text_tokens)));
  }
}

// ---- pack ----

struct PackArguments {
  std::vector<std::string> from;
  std::vector<std::string> from_tokens, held_out_tokens;
  std::vector<std::string> pairs;
  int64_t vocab_size = 0;
  int64_t eos_id = -1;
  std::string tokenizer;
  std::string out;
  double held_out_fraction = CorpusOptions{}.held_out_fraction;
  int64_t max_file_bytes = static_cast<int64_t>(CorpusOptions{}.max_file_bytes);
  int64_t shard_tokens = static_cast<int64_t>(PackOptions{}.shard_tokens);
  int64_t threads = 0;
  bool json = false;
};

Json report_json(const CorpusReport& report) {
  return {{"binary", report.binary},       {"too_small", report.too_small},
          {"too_large", report.too_large}, {"unreadable", report.unreadable},
          {"copies", report.copies},       {"near_duplicates", report.near_duplicates}};
}

int run_pack(const PackArguments& arguments) {
  ThreadTeam team(static_cast<int>(arguments.threads));
  const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer);
  CorpusOptions where;
  where.roots.assign(arguments.from.begin(), arguments.from.end());
  where.held_out_fraction = arguments.held_out_fraction;
  where.max_file_bytes = at_least(arguments.max_file_bytes, 1, "--max-file-bytes");
  PackOptions how;
  how.shard_tokens = at_least(arguments.shard_tokens, 1, "--shard-tokens");
  how.show_progress = !arguments.json;
  const Corpus corpus = gather_corpus(where, team);
  const DatasetInfo info = pack_dataset(corpus, tokenizer, arguments.out, how, team);
  const CorpusReport& report = corpus.report;
  if (arguments.json) {
    Json line = dataset_json(arguments.out, info);
    line["left_out"] = report_json(report);
    fmt::print("{}", json_line(line));
    return 0;
  }
  print_splits(info);
  fmt::print(
      "left out: {} binary, {} too small, {} too large, {} unreadable files, {} copies of "
      "others\n",
      report.binary, report.too_small, report.too_large, report.unreadable, report.copies);
  if (corpus.held_out_is_a_tail)
    fmt::print("too few files to hold one out: the held-out text is the end of {}\n",
               corpus.held_out.front().path.string());
  if (corpus.held_out.empty() && where.held_out_fraction > 0)
    fmt::print("nothing could be held out: give more, or more varied, text\n");
  fmt::print("refused: {} held-out files, near-duplicates of training files\n",
             report.near_duplicates);
  return 0;
}

int run_pack_tokens(const PackArguments& arguments) {
  TokenPackOptions how{.held_out_fraction = arguments.held_out_fraction,
                       .vocab_size = at_least(arguments.vocab_size, 0, "--vocab-size"),
                       .shard_tokens = at_least(arguments.shard_tokens, 1, "--shard-tokens"),
                       .show_progress = !arguments.json};
  how.files.assign(arguments.from_tokens.begin(), arguments.from_tokens.end());
  how.held_out_files.assign(arguments.held_out_tokens.begin(), arguments.held_out_tokens.end());
  how.eos_id = static_cast<int32_t>(std::clamp<int64_t>(arguments.eos_id, -1, INT32_MAX));
  std::optional<Tokenizer> tokenizer;
  if (!arguments.tokenizer.empty())
    how.tokenizer = &tokenizer.emplace(load_tokenizer(arguments.tokenizer));
  const DatasetInfo info = pack_token_files(how, arguments.out);
  if (arguments.json)
    fmt::print("{}", json_line(dataset_json(arguments.out, info)));
  else
    print_splits(info);
  return 0;
}

int run_pack_pairs(const PackArguments& arguments) {
  const Tokenizer tokenizer = load_tokenizer(arguments.tokenizer);
  PairPackOptions how{.held_out_fraction = arguments.held_out_fraction,
                      .shard_tokens = at_least(arguments.shard_tokens, 1, "--shard-tokens")};
  how.files.assign(arguments.pairs.begin(), arguments.pairs.end());
  const DatasetInfo info = pack_pairs(how, tokenizer, arguments.out);
  if (arguments.json)
    fmt::print("{}", json_line(dataset_json(arguments.out, info)));
  else
    print_splits(info);
  return 0;
}

void check_pack_arguments(const PackArguments& arguments) {
  const char* doing = "packing a dataset";
  const char* hint = "cairn data pack --help shows an example";
  if (arguments.out.empty()) wrong_use(doing, "--out FOLDER", "none", hint);
  const int kinds = (arguments.from.empty() ? 0 : 1) + (arguments.from_tokens.empty() ? 0 : 1) +
                    (arguments.pairs.empty() ? 0 : 1);
  if (kinds != 1)
    wrong_use(doing,
              "--from FOLDER for text, --from-tokens FILE for tokens, or --pairs FILE for pairs",
              kinds == 0 ? "none" : "several", hint);
  if (arguments.from_tokens.empty() && arguments.tokenizer.empty())
    wrong_use(doing, "--tokenizer FOLDER", "none", hint);
  if (!arguments.from_tokens.empty() && arguments.tokenizer.empty() && arguments.vocab_size == 0)
    wrong_use(doing, "--tokenizer FOLDER, or --vocab-size N and --eos-id N", "none of them", hint);
}

std::function<int()> prepare_pack(Arguments& arguments) {
  auto options = std::make_shared<PackArguments>();
  arguments.option("--from", "folder or file with text; may be given again", options->from);
  arguments.option(
      "--from-tokens",
      "instead of text: tokens of nanoGPT or llm.c (.bin) or Megatron (.bin and .idx); "
      "may be given again",
      options->from_tokens);
  arguments.option("--held-out-tokens", "the held-out part of those (the last of --from-tokens)",
                   options->held_out_tokens);
  arguments.option(
      "--pairs",
      "for encoder-decoders: a file of {\"source\": ..., \"target\": ...} lines, or .tsv; "
      "may be given again",
      options->pairs);
  arguments.option("--tokenizer", "folder with tokenizer.json", options->tokenizer);
  arguments.option("--vocab-size", "of tokens whose tokenizer is not at hand", options->vocab_size);
  arguments.option("--eos-id", "the token that ends a document, if without --tokenizer (none)",
                   options->eos_id);
  arguments.option("-o,--out", "folder for the dataset", options->out);
  arguments.option("--held-out-fraction",
                   "share of files kept from training (0.05); as for cairn tokenizer train",
                   options->held_out_fraction);
  arguments.option("--max-file-bytes", "larger files are left out (8 MiB)",
                   options->max_file_bytes);
  arguments.option("--shard-tokens", "a new shard begins after so many (67108864)",
                   options->shard_tokens);
  arguments.option("--threads", "threads (all allowed)", options->threads);
  arguments.flag("--json", "print JSON", options->json);
  return [options] {
    check_pack_arguments(*options);
    if (!options->pairs.empty()) return run_pack_pairs(*options);
    return options->from.empty() ? run_pack_tokens(*options) : run_pack(*options);
  };
}

// ---- stat ----

struct StatArguments {
  std::string folder;
  bool verify = false;
  bool json = false;
};

// Reads every token, so that every block's hash and every id is checked.
void verify(const TokenStream& stream, ProgressCount& progress) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < stream.shards(); ++i) {
    const Shard& shard = stream.shard(i);
    for (uint64_t begin = 0; begin < shard.info().tokens; begin += tokens.size()) {
      tokens.resize(std::min<uint64_t>(uint64_t{1} << 20, shard.info().tokens - begin));
      shard.read(begin, tokens);
      progress.advance(tokens.size());
    }
  }
}

int run_stat(const StatArguments& arguments) {
  const TokenStream training(arguments.folder, Split::training);
  const TokenStream held_out(arguments.folder, Split::held_out);
  if (arguments.verify) {
    ProgressCount progress(
        "verifying", training.tokens() + held_out.tokens(), "tokens",
        arguments.json ? ProgressLine::Style::quiet : ProgressLine::Style::automatic);
    verify(training, progress);
    verify(held_out, progress);
    progress.finish();
  }
  const DatasetInfo& info = training.dataset();
  if (arguments.json) {
    Json line = dataset_json(arguments.folder, info);
    line["verified"] = arguments.verify;
    fmt::print("{}", json_line(line));
    return 0;
  }
  fmt::print("{}: {} tokens in the vocabulary, tokenizer {}\n", arguments.folder, info.vocab_size,
             hex64(info.tokenizer));
  print_splits(info);
  if (arguments.verify) fmt::print("every block is as it was written\n");
  return 0;
}

std::function<int()> prepare_stat(Arguments& arguments) {
  auto options = std::make_shared<StatArguments>();
  arguments.positional("FOLDER", "a dataset, as cairn data pack makes it", options->folder);
  arguments.flag("--verify", "read everything and check every hash", options->verify);
  arguments.flag("--json", "print JSON", options->json);
  return [options] { return run_stat(*options); };
}

// ---- sample ----

struct SampleArguments {
  std::string folder;
  std::string task;
  std::vector<std::string> task_options;
  std::string tokenizer;
  std::string split = "training";
  int64_t index = 0;
  int64_t count = 1;
  int64_t length = 512;
  int64_t seed = 0;
  bool json = false;
};

Split split_of(const std::string& name) {
  for (const Split split : kSplits)
    if (name == split_name(split)) return split;
  wrong_use("reading --split", "training or held_out", name);
}

// The tokenizer in the dataset's folder, or another that must be equal.
Tokenizer tokenizer_of(const SampleArguments& arguments, const DatasetInfo& info) {
  const std::string& folder = arguments.tokenizer.empty() ? arguments.folder : arguments.tokenizer;
  Tokenizer tokenizer = load_tokenizer(folder);
  if (tokenizer.fingerprint() != info.tokenizer)
    throw Error({.kind = ErrorKind::data,
                 .doing = "decoding a sample of " + arguments.folder,
                 .subject = "tokenizer " + folder,
                 .expected = "fingerprint " + hex64(info.tokenizer),
                 .found = hex64(tokenizer.fingerprint())});
  return tokenizer;
}

// What of a dataset samples are cut from and shown with.
struct SampleView {
  const TokenStream& stream;
  const BatchMaker& maker;
  const Tokenizer& tokenizer;
};

void show_sample(const SampleView& view, uint64_t index, bool json) {
  const SamplePlace place = view.maker.sampler().place(index);
  const Batch batch = view.maker.batch(index);
  const std::vector<std::string> files = view.maker.files(index);
  const std::string shard = view.stream.shard(place.shard).path().filename().string();
  if (json) {
    fmt::print("{}", json_line({{"index", index},
                                {"epoch", view.maker.sampler().epoch_of(index)},
                                {"shard", shard},
                                {"offset", place.offset},
                                {"files", files},
                                {"tokens", batch.tokens},
                                {"next", batch.targets.back()}}));
    return;
  }
  fmt::print("sample {} of {} an epoch: {}, tokens {} to {}\n", index,
             view.maker.sampler().samples_per_epoch(), shard, place.offset,
             place.offset + batch.tokens.size());
  for (const std::string& file : files) fmt::print("  {}\n", file);
  fmt::print("\n{}\n", view.tokenizer.decode(batch.tokens));
}

// A token with the answer that it asks for: "r>1".
std::string spelled(const Task& task, int32_t token, int32_t target) {
  if (target == kIgnoredTarget) return task.token_text(token);
  return fmt::format("{}>{}", task.token_text(token), task.token_text(target));
}

// Sequences as the trainer draws them with data.seed = --seed.
int run_task_sample(const SampleArguments& arguments) {
  const uint64_t index = at_least(arguments.index, 0, "--index");
  const uint64_t count = at_least(arguments.count, 1, "--count");
  const TaskSource source(task_options(arguments.task, arguments.task_options), 1,
                          at_least(arguments.seed, 0, "--seed"));
  if (!arguments.json)
    fmt::print("{}: {} tokens a sequence, vocabulary {}; a>b: after a, b is asked for\n",
               arguments.task, source.task().length(), source.task().vocab_size());
  for (uint64_t i = index; i < index + count; ++i) {
    const Batch batch = source.training(i, 1);
    if (arguments.json) {
      fmt::print("{}", json_line({{"index", i},
                                  {"tokens", batch.tokens},
                                  {"targets", batch.targets},
                                  {"vocab_size", source.task().vocab_size()}}));
      continue;
    }
    std::string line;
    for (size_t t = 0; t < batch.tokens.size(); ++t)
      line += fmt::format("{}{}", t == 0 ? "" : " ",
                          spelled(source.task(), batch.tokens[t], batch.targets[t]));
    fmt::print("{}\n", line);
  }
  return 0;
}

int run_sample(const SampleArguments& arguments) {
  if (arguments.folder.empty() == arguments.task.empty())
    wrong_use("showing samples", "either a dataset FOLDER or --task NAME",
              arguments.task.empty() ? "neither" : "both");
  if (!arguments.task.empty()) return run_task_sample(arguments);
  const uint64_t index = at_least(arguments.index, 0, "--index");
  const uint64_t count = at_least(arguments.count, 1, "--count");
  const TokenStream stream(arguments.folder, split_of(arguments.split));
  const BatchMaker maker(stream, {.sequences = 1,
                                  .length = at_least(arguments.length, 1, "--length"),
                                  .seed = static_cast<uint64_t>(arguments.seed)});
  const Tokenizer tokenizer = tokenizer_of(arguments, stream.dataset());
  for (uint64_t i = index; i < index + count; ++i)
    show_sample({stream, maker, tokenizer}, i, arguments.json);
  return 0;
}

std::function<int()> prepare_sample(Arguments& arguments) {
  auto options = std::make_shared<SampleArguments>();
  std::string tasks;
  for (const TaskDescription& task : task_descriptions())
    tasks += (tasks.empty() ? "" : ", ") + std::string(task.name);
  arguments.positional("FOLDER", "a dataset, as cairn data pack makes it", options->folder, false);
  arguments.option("--task", "show a synthetic task instead: " + tasks, options->task);
  arguments.overrides("sets an option of the task: --task.ignore=0.98", options->task_options);
  arguments.option("--index", "which sample, counted over all epochs (0)", options->index);
  arguments.option("--count", "how many from there on (1)", options->count);
  arguments.option("--length", "tokens a sample (512)", options->length);
  arguments.option("--seed", "of the order, as in training (0)", options->seed);
  arguments.option("--split", "training or held_out", options->split);
  arguments.option("--tokenizer", "folder with tokenizer.json (the dataset's own)",
                   options->tokenizer);
  arguments.flag("--json", "print JSON", options->json);
  return [options] { return run_sample(*options); };
}

}  // namespace

const Verb kDataVerb{
    .name = "data",
    .does = "Turn text files into token shards, and look into them",
    .example = "cairn data pack --from /usr/include --tokenizer tok --out dataset",
    .prepare = nullptr,
    .subverbs = {
        {.name = "pack",
         .does = "Split text files into training and held-out parts and tokenise them",
         .example = "cairn data pack --from /usr/include --from notes --tokenizer tok --out "
                    "dataset\n"
                    "  cairn data pack --from-tokens train.bin --held-out-tokens val.bin "
                    "--tokenizer gpt2 --out dataset\n"
                    "  cairn data pack --pairs questions.jsonl --tokenizer flan-t5-small --out "
                    "dataset",
         .prepare = prepare_pack},
        {.name = "stat",
         .does = "Show how much a dataset holds",
         .example = "cairn data stat dataset --verify",
         .prepare = prepare_stat},
        {.name = "sample",
         .does = "Show what the trainer sees as sample k",
         .example = "cairn data sample dataset --index 1000000000 --length 256\n"
                    "cairn data sample --task flip_flop --task.length=32 --count 4",
         .prepare = prepare_sample},
    }};

}  // namespace cairn
