// `cairn tokenizer`: makes a tokenizer from text, and shows what tokenizers do with text.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"
#include "cairn/base/progress.h"
#include "cairn/cli/verbs.h"
#include "cairn/data/corpus.h"
#include "cairn/io/base64.h"
#include "cairn/io/json.h"
#include "cairn/text/bpe_trainer.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/chat_template.h"
#include "cairn/text/tokenizer.h"
#include "cairn/text/tokenizer_description.h"
#include "cairn/text/tokenizer_json.h"

namespace cairn {
namespace {

// All of standard output or an error: a full disk behind a pipe must not pass for success.
void print_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error({.doing = "writing to standard output", .found = describe_errno(errno)});
  }
}

bool is_standard_input(const std::string& file) {
  return file.empty() || file == "-";
}

std::string input_name(const std::string& file) {
  return is_standard_input(file) ? "standard input" : file;
}

// The file, or all of standard input for "" and "-".
std::string read_input(const std::string& file) {
  if (!is_standard_input(file)) return read_file(file);
  std::string text;
  char buffer[1 << 16];
  while (const size_t got = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, got);
  if (std::ferror(stdin) != 0) {
    throw Error({.doing = "reading standard input", .found = describe_errno(errno)});
  }
  return text;
}

// ---- train ----

struct TrainOptions {
  std::vector<std::string> from;
  std::string out;
  int64_t vocab_size = 4096;
  std::string rule = "gpt2";
  std::vector<std::string> special;
  int64_t min_count = 2;
  double held_out_fraction = CorpusOptions{}.held_out_fraction;
  int64_t max_file_bytes = static_cast<int64_t>(CorpusOptions{}.max_file_bytes);
  int64_t threads = 0;
  bool json = false;
};

std::vector<PretokenizerStep> steps_of(const std::string& rule) {
  if (rule == "gpt2") return Pretokenizer::gpt2();
  if (rule == "smollm") return Pretokenizer::smollm();
  throw Error({.kind = ErrorKind::usage,
               .doing = "training a tokenizer",
               .subject = "--rule",
               .expected = "gpt2 or smollm",
               .found = rule});
}

void check_not_negative(const char* name, int64_t value) {
  if (value >= 0) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "training a tokenizer",
               .subject = name,
               .expected = "a number that is not negative",
               .found = std::to_string(value)});
}

BpeTrainingOptions training_options(const TrainOptions& options) {
  check_not_negative("--vocab-size", options.vocab_size);
  check_not_negative("--max-file-bytes", options.max_file_bytes);
  BpeTrainingOptions training;
  training.vocab_size = static_cast<size_t>(options.vocab_size);
  training.pretokenizer = steps_of(options.rule);
  training.min_count = options.min_count;
  if (!options.special.empty()) training.special_tokens = options.special;
  return training;
}

// Shows both phases; they have different units, so each has its own line.
class TrainingProgress {
 public:
  void operator()(const BpeTrainingProgress& now) {
    if (!count_ || now.phase != phase_) {
      if (count_) count_->finish();
      const bool counting = now.phase == BpeTrainingProgress::Phase::counting;
      count_ = std::make_unique<ProgressCount>(counting ? "counting words" : "merging pairs",
                                               now.total, counting ? "B" : "tokens");
      phase_ = now.phase;
      done_ = 0;
    }
    count_->advance(now.done - done_);
    done_ = now.done;
  }

 private:
  std::unique_ptr<ProgressCount> count_;
  BpeTrainingProgress::Phase phase_{};
  uint64_t done_ = 0;
};

int run_train(const TrainOptions& options) {
  const BpeTrainingOptions training = training_options(options);
  ThreadTeam team(static_cast<int>(options.threads));
  CorpusOptions where;
  where.roots.assign(options.from.begin(), options.from.end());
  where.held_out_fraction = options.held_out_fraction;
  where.max_file_bytes = static_cast<uint64_t>(options.max_file_bytes);
  const Corpus corpus = gather_corpus(where, team);
  const Documents documents(corpus.training);

  TrainingProgress progress;
  BpeTrainingFacts facts;
  const Tokenizer tokenizer(train_bpe(
      documents.views(), training, team, [&](const BpeTrainingProgress& now) { progress(now); },
      &facts));
  save_tokenizer(tokenizer.spec(), options.out);

  const double seconds = facts.count_seconds + facts.merge_seconds;
  const double rate = static_cast<double>(facts.bytes) / 1e6 / seconds;
  if (options.json) {
    print_out(json_line({{"tokenizer", options.out},
                         {"vocab_size", tokenizer.vocab_size()},
                         {"merges", tokenizer.spec().merges.size()},
                         {"files", corpus.training.size()},
                         {"held_out_files", corpus.held_out.size()},
                         {"bytes", facts.bytes},
                         {"different_words", facts.different_words},
                         {"count_seconds", facts.count_seconds},
                         {"merge_seconds", facts.merge_seconds},
                         {"mb_per_second", rate},
                         {"threads", team.size()},
                         {"fingerprint", hex64(tokenizer.fingerprint())}}));
    return 0;
  }
  print_out(fmt::format(
      "{}: {} tokens from {} in {} files, {} different words, {:.1f} s ({:.1f} MB/s)\n"
      "{} held-out files were not read. Next: cairn data pack\n",
      options.out, tokenizer.vocab_size(), format_bytes(facts.bytes), corpus.training.size(),
      facts.different_words, seconds, rate, corpus.held_out.size()));
  return 0;
}

std::function<int()> prepare_train(Arguments& arguments) {
  auto options = std::make_shared<TrainOptions>();
  arguments.option("--from", "folder or file with text; may be given again", options->from);
  arguments.option("-o,--out", "folder for tokenizer.json and tokenizer_config.json", options->out);
  arguments.option("--vocab-size", "tokens, with special ones and the 256 bytes (4096)",
                   options->vocab_size);
  arguments.option("--rule", "how words are cut: gpt2, or smollm (every digit apart)",
                   options->rule);
  arguments.option("--special", "a special token; may be given again (<|endoftext|>)",
                   options->special);
  arguments.option("--min-count", "pairs that occur less often do not merge (2)",
                   options->min_count);
  arguments.option("--held-out-fraction", "share of files kept from training (0.05)",
                   options->held_out_fraction);
  arguments.option("--max-file-bytes", "larger files are left out (8 MiB)",
                   options->max_file_bytes);
  arguments.option("--threads", "threads (all allowed)", options->threads);
  arguments.flag("--json", "print JSON", options->json);
  return [options] {
    if (options->from.empty() || options->out.empty()) {
      throw Error({.kind = ErrorKind::usage,
                   .doing = "training a tokenizer",
                   .expected = "--from FOLDER and --out FOLDER",
                   .hint = "cairn tokenizer train --help shows an example"});
    }
    return run_train(*options);
  };
}

// ---- encode, decode ----

struct TextOptions {
  std::string tokenizer;
  std::string file;
  bool parse_special = false;
  bool add_special = false;
  bool skip_special = false;
  bool chat = false;
  std::string chat_template;
  bool json = false;
};

// A conversation from a JSON object: messages, tools, documents, add_generation_prompt, now
// (seconds since 1970); everything else are variables of the template.
Conversation conversation_of(const std::string& text, const std::string& source) {
  parse_json(text, source);  // says where it is wrong
  jinja::Dict members;
  const jinja::Value document = jinja::from_json(text, "the conversation", false);
  if (document.is_dict()) members = document.dict();
  if (members.find_name("messages") == nullptr) {
    throw Error({.kind = ErrorKind::data,
                 .doing = "reading " + source,
                 .expected = "a conversation: a JSON object with \"messages\""});
  }
  jinja::Context context("the conversation", {});
  jinja::Dict variables;
  Conversation conversation;
  for (auto& [key, value] : members.items) {
    const std::string& name = key.text().bytes;
    const auto json = [&](const jinja::Value& part) {
      return jinja::to_json(context, part, -1, false, ", ", ": ").bytes;
    };
    if (name == "messages") {
      conversation.messages = json(value);
    } else if (name == "tools" && !value.is_none()) {
      conversation.tools = json(value);
    } else if (name == "documents" && !value.is_none()) {
      conversation.documents = json(value);
    } else if (name == "add_generation_prompt") {
      conversation.add_generation_prompt = value.truth();
    } else if (name == "now" && value.is_integer()) {
      conversation.now = static_cast<std::time_t>(value.integer());
    } else {
      variables.set(key, value);
    }
  }
  conversation.variables =
      jinja::to_json(context, jinja::Value(variables), -1, false, ", ", ": ").bytes;
  return conversation;
}

int run_encode_chat(const Tokenizer& tokenizer, const TextOptions& options) {
  const ChatTemplate chat(tokenizer, options.chat_template);
  const RenderedChat rendered =
      chat.render(conversation_of(read_input(options.file), input_name(options.file)));
  const std::vector<int32_t> ids = chat.encode(rendered);
  if (options.json) {
    print_out(json_line({{"ids", ids}, {"tokens", ids.size()}, {"text", rendered.text}}));
  } else {
    print_out(fmt::format("{}\n", fmt::join(ids, " ")));
  }
  return 0;
}

int run_encode(const TextOptions& options) {
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  if (options.chat) return run_encode_chat(tokenizer, options);
  const std::string text = read_input(options.file);
  const std::vector<int32_t> ids = tokenizer.encode(
      text, {.parse_special = options.parse_special, .add_special = options.add_special});
  if (options.json) {
    print_out(json_line({{"ids", ids}, {"tokens", ids.size()}, {"bytes", text.size()}}));
    return 0;
  }
  std::string line;
  for (const int32_t id : ids) {
    if (!line.empty()) line.push_back(' ');
    line += std::to_string(id);
  }
  line.push_back('\n');
  print_out(line);
  return 0;
}

std::function<int()> prepare_encode(Arguments& arguments) {
  auto options = std::make_shared<TextOptions>();
  arguments.positional("TOKENIZER", "tokenizer.json, or a folder that holds one",
                       options->tokenizer);
  arguments.positional("FILE", "the text (standard input)", options->file, false);
  arguments.flag("--parse-special", "spellings of special tokens become those tokens",
                 options->parse_special);
  arguments.flag("--add-special", "add what the tokenizer puts around a text",
                 options->add_special);
  arguments.flag("--chat", "FILE is a conversation (JSON), rendered by the chat template first",
                 options->chat);
  arguments.option("--template", "which of its chat templates (default, tool_use, ...)",
                   options->chat_template);
  arguments.flag("--json", "print JSON", options->json);
  return [options] { return run_encode(*options); };
}

// The numbers of `text`, apart by white space, commas or brackets: also a JSON array of them.
std::vector<int32_t> parse_ids(const std::string& text, const std::string& source) {
  const auto bad = [&](size_t at) {
    return Error({.kind = ErrorKind::data,
                  .doing = "reading token ids of " + source,
                  .subject = "byte " + std::to_string(at),
                  .expected = "numbers below 2^31 apart by blanks",
                  .found = in_quotes(std::string_view(text).substr(at, 20))});
  };
  std::vector<int32_t> ids;
  constexpr std::string_view kBetween = " \t\r\n,[]";
  for (size_t at = 0; at < text.size();) {
    if (kBetween.find(text[at]) != std::string_view::npos) {
      ++at;
      continue;
    }
    const size_t start = at;
    int64_t id = 0;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      id = id * 10 + (text[at] - '0');
      if (id > INT32_MAX) throw bad(start);
    }
    if (at == start) throw bad(start);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

int run_decode(const TextOptions& options) {
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  const std::vector<int32_t> ids = parse_ids(read_input(options.file), input_name(options.file));
  const std::string text = tokenizer.decode(ids, options.skip_special);
  if (!options.json) {
    print_out(text);
    return 0;
  }
  Json line = {{"tokens", ids.size()}, {"bytes", text.size()}};
  // Tokens may cut a character, or stand for bytes that are no text.
  if (is_utf8(text))
    line["text"] = text;
  else
    line["base64"] = to_base64(text);
  print_out(json_line(line));
  return 0;
}

std::function<int()> prepare_decode(Arguments& arguments) {
  auto options = std::make_shared<TextOptions>();
  arguments.positional("TOKENIZER", "tokenizer.json, or a folder that holds one",
                       options->tokenizer);
  arguments.positional("FILE", "the ids (standard input)", options->file, false);
  arguments.flag("--skip-special", "leave special tokens out", options->skip_special);
  arguments.flag("--json", "print JSON: text, or base64 of bytes that are not UTF-8",
                 options->json);
  return [options] { return run_decode(*options); };
}

// ---- info ----

struct InfoOptions {
  std::string tokenizer;
  bool json = false;
};

// Null without a template; else its size, and what it asks for or why it is not understood.
Json template_facts(const Tokenizer& tokenizer) {
  const std::vector<std::string> names = ChatTemplate::names(tokenizer);
  if (names.empty()) return nullptr;
  Json facts = {{"bytes", tokenizer.spec().chat_template.size()}, {"names", names}};
  try {
    facts["variables"] = ChatTemplate(tokenizer).variables();
  } catch (const Error& error) {
    facts["problem"] = error.what();
  }
  return facts;
}

std::string template_text(const Json& facts) {
  if (facts.is_null()) return "none";
  if (facts.contains("problem")) return facts["problem"].get<std::string>();
  std::string names;
  for (const Json& name : facts["variables"]) names.append(" ").append(name.get<std::string>());
  std::string all;
  for (const Json& name : facts["names"])
    all += (all.empty() ? "" : ", ") + name.get<std::string>();
  return fmt::format("{}: {} bytes, asks for{}", all, facts["bytes"].get<size_t>(), names);
}

Json facts_of(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  Json special = Json::array();
  for (const AddedToken& token : spec.added) {
    if (token.special) special.push_back({{"id", token.id}, {"content", token.content}});
  }
  size_t longest = 0;
  Json endings = Json::array();
  for (size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    longest = std::max(longest, tokenizer.token_bytes(id).size());
    if (tokenizer.ends_text(id)) endings.push_back(id);
  }
  return {{"kind", describe(spec.model)},
          {"vocab_size", tokenizer.vocab_size()},
          {"merges", spec.merges.size()},
          {"added_tokens", spec.added.size()},
          {"special_tokens", std::move(special)},
          {"bos_id", spec.bos_id},
          {"eos_id", spec.eos_id},
          {"pad_id", spec.pad_id},
          {"end_ids", std::move(endings)},
          {"normalizer", describe(spec.normalizer)},
          {"pre_tokenizer", describe(spec.pretokenizer)},
          {"decoder", describe(spec.decoder)},
          {"prefix", spec.prefix},
          {"suffix", spec.suffix},
          {"bytes_without_token", tokenizer.bytes_without_token()},
          {"longest_token_bytes", longest},
          {"chat_template", template_facts(tokenizer)},
          {"fingerprint", hex64(tokenizer.fingerprint())},
          {"unicode", CharClasses::unicode_version()}};
}

std::string id_text(const Tokenizer& tokenizer, int32_t id) {
  if (id < 0) return "none";
  return fmt::format("{} {}", id, in_quotes(tokenizer.token_bytes(id)));
}

// "NFC, then ..." or what stands for no step.
std::string steps_text(const Json& phrases, const char* none) {
  std::string text;
  for (const Json& phrase : phrases) {
    text += (text.empty() ? "" : ", then ") + phrase.get<std::string>();
  }
  return text.empty() ? none : text;
}

std::string ids_text(const Tokenizer& tokenizer, const Json& ids) {
  std::string text;
  for (const Json& id : ids)
    text += (text.empty() ? "" : ", ") + id_text(tokenizer, id.get<int32_t>());
  return text.empty() ? "none" : text;
}

int run_info(const InfoOptions& options) {
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  const Json facts = facts_of(tokenizer);
  if (options.json) {
    print_out(json_line(facts));
    return 0;
  }
  print_out(fmt::format(
      "kind           {}\n"
      "vocabulary     {} tokens, {} merges, longest {} bytes\n"
      "added          {} tokens, {} of them special\n"
      "begin of text  {}\n"
      "ends of text   {}\n"
      "normalizer     {}\n"
      "words          {} (Unicode {})\n"
      "decoder        {}\n"
      "chat template  {}\n"
      "fingerprint    {}\n",
      facts["kind"].get<std::string>(), tokenizer.vocab_size(), tokenizer.spec().merges.size(),
      facts["longest_token_bytes"].get<size_t>(), tokenizer.spec().added.size(),
      facts["special_tokens"].size(), id_text(tokenizer, tokenizer.bos_id()),
      ids_text(tokenizer, facts["end_ids"]), steps_text(facts["normalizer"], "text stays"),
      steps_text(facts["pre_tokenizer"], "the text is one"), CharClasses::unicode_version(),
      steps_text(facts["decoder"], "tokens are text"), template_text(facts["chat_template"]),
      hex64(tokenizer.fingerprint())));
  return 0;
}

std::function<int()> prepare_info(Arguments& arguments) {
  auto options = std::make_shared<InfoOptions>();
  arguments.positional("TOKENIZER", "tokenizer.json, or a folder that holds one",
                       options->tokenizer);
  arguments.flag("--json", "print JSON", options->json);
  return [options] { return run_info(*options); };
}

}  // namespace

const Verb kTokenizerVerb{
    .name = "tokenizer",
    .does = "Use a tokenizer of any kind, or train a byte-level BPE one",
    .example = "cairn tokenizer train --from docs --from src --vocab-size 4096 --out my-tokenizer",
    .subverbs = {
        {.name = "train",
         .does = "Learn a vocabulary from the training part of text folders",
         .example = "cairn tokenizer train --from /usr/include --vocab-size 4096 -o my-tokenizer",
         .prepare = prepare_train},
        {.name = "encode",
         .does = "Text to token ids",
         .example = "echo 'int main()' | cairn tokenizer encode my-tokenizer",
         .prepare = prepare_encode},
        {.name = "decode",
         .does = "Token ids to text",
         .example = "echo 75 331 3 | cairn tokenizer decode my-tokenizer",
         .prepare = prepare_decode},
        {.name = "info",
         .does = "What a tokenizer is",
         .example = "cairn tokenizer info my-tokenizer --json",
         .prepare = prepare_info}}};

}  // namespace cairn
