#include "cairn/infer/generate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

#include "cairn/base/error.h"
#include "cairn/base/seconds_since.h"
#include "cairn/infer/next_tokens.h"
#include "cairn/infer/speculation/acceptance.h"
#include "cairn/infer/stop_matcher.h"

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

// The text side of a generation: tokens in, certain text out to the callback.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, const GenerateOptions& options, TextCallback on_text,
         std::string& text)
      : decoder_(tokenizer, true, options.constraint != nullptr),
        matcher_(options.stops),
        on_text_(on_text),
        text_(text) {}

  // Answers whether to go on.
  bool push(int32_t id) { return show(matcher_.push(decoder_.push(id))); }
  void finish() {
    std::string rest = matcher_.push(decoder_.finish());
    rest += matcher_.finish();
    if (!rest.empty()) show(rest);
  }
  bool stopped() const { return matcher_.stopped(); }

 private:
  bool show(const std::string& piece) {
    text_ += piece;
    return on_text_(piece);
  }

  StreamDecoder decoder_;
  StopMatcher matcher_;
  TextCallback on_text_;
  std::string& text_;
};

// Reads a prompt but for its last piece, which it leaves. In pieces, so that reading a long one can
// be cancelled: a whole number of the engine's largest passes, which leaves the logits as they are.
// False when cancelled.
bool read_beginning(Session& session, std::span<const int32_t>& prompt, TextCallback on_text) {
  constexpr size_t kPiece = 512;
  while (prompt.size() > kPiece) {
    session.append(prompt.first(kPiece));
    prompt = prompt.subspan(kPiece);
    if (!on_text({})) return false;
  }
  return true;
}

// How many tokens all prompts begin with, but for at least one that each has for itself.
size_t common_start(std::span<const std::vector<int32_t>> prompts) {
  if (prompts.size() < 2) return 0;
  size_t common = SIZE_MAX;
  for (const std::vector<int32_t>& prompt : prompts) {
    const auto end =
        std::mismatch(prompt.begin(), prompt.end(), prompts[0].begin(), prompts[0].end()).first;
    const auto same = static_cast<size_t>(end - prompt.begin());
    common = std::min({common, same, std::max<size_t>(prompt.size(), 1) - 1});
  }
  return common;
}

// DRY lets no repeated sequence go over these, unless its options name others.
std::vector<int32_t> sequence_breakers(const Tokenizer& tokenizer) {
  std::vector<int32_t> result;
  for (size_t i = 0; i < tokenizer.vocab_size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (tokenizer.token_bytes(id).find_first_of("\n:\"*") != std::string_view::npos)
      result.push_back(id);
  }
  return result;
}

SamplingOptions complete_options(SamplingOptions options, const Tokenizer& tokenizer) {
  if (options.dry_multiplier > 0 && options.dry_breakers.empty())
    options.dry_breakers = sequence_breakers(tokenizer);
  return options;
}

// One generation: what has been said, and what the model thinks may follow.
class Generator {
 public:
  Generator(Session& session, const Tokenizer& tokenizer, const GenerateOptions& options,
            TextCallback on_text)
      : session_(session),
        options_(options),
        known_(std::min(session.config().vocab_size, tokenizer.vocab_size())),
        ends_(ending_tokens(tokenizer, session.config(), options.end_ids)),
        next_(complete_options(options.sampling, tokenizer), known_, options.logprobs),
        accept_random_(options.sampling.seed, "speculation accept"),
        lengths_(options.most_proposed),
        writer_(tokenizer, options, on_text, result_.text) {
    if (options.constraint != nullptr) options.constraint->reset();
  }

  Generation run(std::span<const int32_t> prompt, TextCallback on_text);

 private:
  void decode();
  // Reads the last token, and with it what is proposed; says what follows. False at the end.
  bool pass();
  void propose();
  // Takes a token; false when the text ends with it.
  bool say(int32_t id, size_t place);
  int32_t choose(size_t place);
  void find_allowed();
  bool end(StopReason reason) {
    result_.reason = reason;
    return false;
  }

  Session& session_;
  const GenerateOptions& options_;
  size_t known_;
  std::vector<int32_t> ends_;
  NextTokens next_;
  RandomStream accept_random_;
  ProposalLength lengths_;
  Proposal proposal_;
  std::vector<int32_t> history_;  // everything said, the last token included
  std::vector<int32_t> passed_;   // what a pass reads: the last token, and the proposals
  // What the constraint lets follow each of them.
  std::vector<TokenMask> masks_;
  std::vector<const TokenMask*> allowed_;
  Generation result_;
  Writer writer_;
};

Generation Generator::run(std::span<const int32_t> prompt, TextCallback on_text) {
  result_.prompt_tokens = prompt.size();
  result_.tokens.reserve(std::min(options_.max_tokens, session_.room()));
  auto start = Clock::now();
  if (prompt.size() > session_.room()) session_.append(prompt);  // refuses, before any is read
  const bool go_on = read_beginning(session_, prompt, on_text);
  if (go_on) {
    find_allowed();
    next_.read(session_, prompt, allowed_);
  }
  result_.prefill_seconds = seconds_since(start);
  if (!go_on) {
    end(StopReason::cancelled);
    return std::move(result_);
  }
  start = Clock::now();
  decode();
  if (result_.reason != StopReason::cancelled) writer_.finish();
  result_.decode_seconds = seconds_since(start);
  return std::move(result_);
}

void Generator::decode() {
  if (options_.max_tokens == 0) return;
  history_.assign(session_.tokens().begin(), session_.tokens().end());
  if (!say(choose(0), 0)) return;
  while (pass()) {
  }
}

bool Generator::pass() {
  if (result_.tokens.size() >= options_.max_tokens) return end(StopReason::max_tokens);
  if (session_.room() == 0) return end(StopReason::context_full);
  proposal_.clear();
  if (options_.proposer != nullptr) propose();
  find_allowed();
  const size_t count = proposal_.tokens.size(), before = session_.length();
  passed_.assign(1, history_.back());
  passed_.insert(passed_.end(), proposal_.tokens.begin(), proposal_.tokens.end());
  const auto start = Clock::now();
  ++result_.passes;
  next_.read(session_, passed_, allowed_);
  lengths_.record_pass(count + 1, seconds_since(start));
  if (count == 0) {
    ++result_.read_tokens;
    return say(choose(0), 0);
  }
  result_.proposed += count;
  // One after another, until the model would have said something else.
  size_t accepted = 0;
  bool go_on = true;
  for (size_t i = 0; i <= count && go_on; ++i) {
    const int32_t id = choose(i);
    const bool as_proposed = i < count && id == proposal_.tokens[i];
    go_on = say(id, i);
    if (!as_proposed) break;
    ++accepted;
  }
  result_.accepted += accepted;
  lengths_.record(proposal_.kind, count, accepted);
  session_.truncate(std::min(before + accepted + 1, history_.size() - 1));
  result_.read_tokens += session_.length() - before;
  return go_on;
}

void Generator::propose() {
  // The last token of all is never read, and neither is what follows it.
  const size_t left = options_.max_tokens - result_.tokens.size();
  const size_t most = std::min({options_.most_proposed, session_.room() - 1, left - 1});
  if (most == 0) return;
  options_.proposer->propose(history_, most, proposal_);
  if (proposal_.tokens.empty()) return;
  const size_t wanted = std::min(proposal_.tokens.size(), lengths_.next(proposal_.kind));
  proposal_.tokens.resize(wanted);
}

// The head is told before a pass what may follow its tokens, so that it need not look at the rest.
// Proposals from the first on that the constraint does not let follow are dropped.
void Generator::find_allowed() {
  allowed_.assign(proposal_.tokens.size() + 1, nullptr);
  if (options_.constraint == nullptr) return;
  masks_.resize(std::max(masks_.size(), allowed_.size()));
  size_t good = 0;
  for (;; ++good) {
    masks_[good] = options_.constraint->allowed();
    allowed_[good] = &masks_[good];
    if (good == proposal_.tokens.size() || !options_.constraint->accept(proposal_.tokens[good]))
      break;
  }
  options_.constraint->rollback(good);
  proposal_.tokens.resize(good);
  allowed_.resize(good + 1);
}

// The token that follows a place of the last pass, which is the end of the history.
int32_t Generator::choose(size_t place) {
  if (allowed_[place] != nullptr && allowed_[place]->empty())
    throw Error({.kind = ErrorKind::data,
                 .doing = "generating by a grammar",
                 .expected = "a token of the vocabulary that may come next",
                 .found = "none",
                 .hint = "the vocabulary lacks bytes, or a token that ends a text"});
  const TokenDistribution p = next_.distribution(place, history_);
  const double draw = next_.sampler().random(history_.size());
  if (place >= proposal_.tokens.size()) return p.at(draw);
  std::span<const TokenProbability> q;
  if (!proposal_.drawn_from.empty()) q = proposal_.drawn_from[place];
  return decide_token(p, proposal_.tokens[place], q, draw, accept_random_.uniform(history_.size()));
}

bool Generator::say(int32_t id, size_t place) {
  result_.tokens.push_back(id);
  history_.push_back(id);
  if (options_.logprobs)
    result_.logprobs.push_back(
        token_logprobs(next_.logits(place).slice(0, known_), id, options_.top_logprobs));
  if (options_.constraint != nullptr) options_.constraint->accept(id);
  const bool ends = std::find(ends_.begin(), ends_.end(), id) != ends_.end();
  if (ends && (!options_.ignore_eos || options_.constraint != nullptr)) return end(StopReason::eos);
  const bool go_on = writer_.push(id);
  if (writer_.stopped()) return end(StopReason::stop_string);
  if (!go_on) return end(StopReason::cancelled);
  if (options_.constraint != nullptr && options_.constraint->finished())
    return end(StopReason::complete);
  return result_.tokens.size() < options_.max_tokens || end(StopReason::max_tokens);
}

}  // namespace

std::string_view stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::eos:
      return "eos";
    case StopReason::stop_string:
      return "stop";
    case StopReason::max_tokens:
      return "length";
    case StopReason::context_full:
      return "context";
    case StopReason::cancelled:
      return "cancelled";
    case StopReason::complete:
      return "complete";
  }
  return "unknown";
}

Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, TextCallback on_text) {
  return Generator(session, tokenizer, options, on_text).run(prompt, on_text);
}

Generation generate(Engine& engine, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, TextCallback on_text) {
  if (!engine.config().has_encoder()) {
    Session session = engine.start();
    return generate(session, tokenizer, prompt, options, on_text);
  }
  if (options.proposer != nullptr)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "generating with an encoder-decoder",
                 .subject = "proposals of tokens",
                 .expected = "none: they are for decoders alone",
                 .found = "a lookup or a draft model"});
  const auto start = Clock::now();
  Session session = engine.start(prompt);
  const double source_seconds = seconds_since(start);
  const std::array<int32_t, 1> first = {*engine.config().decoder_start_id};
  Generation generation = generate(session, tokenizer, first, options, on_text);
  generation.prompt_tokens = prompt.size();
  generation.prefill_seconds += source_seconds;
  return generation;
}

Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options) {
  const auto ignore = [](std::string_view) { return true; };
  return generate(session, tokenizer, prompt, options, ignore);
}

std::vector<Generation> generate_each(Engine& engine, const Tokenizer& tokenizer,
                                      std::span<const std::vector<int32_t>> prompts,
                                      const GenerateOptions& options, TextCallback on_text) {
  const bool continues = !engine.config().has_encoder();  // sources have nothing in common
  const size_t start = continues ? common_start(prompts) : 0;
  std::optional<Session> shared;
  if (continues) shared = engine.start();
  bool go_on = true;
  if (start > 0) {
    std::span<const int32_t> beginning = std::span(prompts[0]).first(start);
    go_on = read_beginning(*shared, beginning, on_text);
    if (go_on) shared->append(beginning);
  }
  const auto ask = [&](std::string_view piece) { return go_on = on_text(piece); };
  std::vector<Generation> made;
  for (const std::vector<int32_t>& prompt : prompts) {
    Generation& one = made.emplace_back();
    one.reason = StopReason::cancelled;
    if (go_on && !continues) {
      one = generate(engine, tokenizer, prompt, options, ask);
    } else if (go_on) {
      Session session = shared->fork();
      one = generate(session, tokenizer, std::span(prompt).subspan(start), options, ask);
    }
    one.prompt_tokens = prompt.size();
  }
  return made;
}

std::vector<int32_t> ending_tokens(const Tokenizer& tokenizer, const ModelConfig& config,
                                   std::span<const int32_t> more) {
  std::vector<int32_t> result(more.begin(), more.end());
  result.insert(result.end(), config.eos_ids.begin(), config.eos_ids.end());
  for (size_t i = 0; i < tokenizer.vocab_size(); ++i)
    if (tokenizer.ends_text(static_cast<int32_t>(i))) result.push_back(static_cast<int32_t>(i));
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> tokens =
      tokenizer.encode(text, {.parse_special = true, .add_special = true});
  if (!tokens.empty()) return tokens;
  const int32_t start = tokenizer.bos_id() >= 0 ? tokenizer.bos_id() : tokenizer.eos_id();
  if (start < 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading the prompt",
                 .expected = "text, as the tokenizer names no token that begins one",
                 .found = "an empty prompt"});
  return {start};
}

}  // namespace cairn
