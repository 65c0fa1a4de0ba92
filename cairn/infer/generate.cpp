#include "cairn/infer/generate.h"

#include <algorithm>
#include <chrono>

#include "cairn/base/error.h"
#include "cairn/infer/stop_matcher.h"

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The text side of a generation: tokens in, certain text out to the callback.
class Writer {
 public:
  Writer(const Tokenizer& tokenizer, const GenerateOptions& options, TextCallback on_text,
         std::string& text)
      : decoder_(tokenizer, true), matcher_(options.stops), on_text_(on_text), text_(text) {}

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

bool ends_text(int32_t id, const ModelConfig& config, const Tokenizer& tokenizer,
               const GenerateOptions& options) {
  const auto holds = [id](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return tokenizer.ends_text(id) || holds(config.eos_ids) || holds(options.end_ids);
}

// Reads the prompt in pieces, so that reading a long one can be cancelled: a whole number of the
// engine's largest passes, which leaves the logits as they are. Empty when cancelled.
View1<const float> read_prompt(Session& session, std::span<const int32_t> prompt,
                               TextCallback on_text) {
  constexpr size_t kPiece = 512;
  while (prompt.size() > kPiece) {
    session.append(prompt.first(kPiece));
    prompt = prompt.subspan(kPiece);
    if (!on_text({})) return {};
  }
  return session.append(prompt);
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
  }
  return "unknown";
}

Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, TextCallback on_text) {
  Generation result;
  result.prompt_tokens = prompt.size();
  result.tokens.reserve(std::min(options.max_tokens, session.room()));
  Writer writer(tokenizer, options, on_text, result.text);
  const size_t known = std::min(session.config().vocab_size, tokenizer.vocab_size());
  Sampler sampler(options.sampling, known);

  auto start = Clock::now();
  if (prompt.size() > session.room())  // before any of it is read
    session.append(prompt);
  View1<const float> logits = read_prompt(session, prompt, on_text);
  result.prefill_seconds = seconds_since(start);
  if (logits.empty()) {
    result.reason = StopReason::cancelled;
    return result;
  }
  start = Clock::now();
  while (result.tokens.size() < options.max_tokens) {
    if (!result.tokens.empty()) {
      if (session.room() == 0) {
        result.reason = StopReason::context_full;
        break;
      }
      logits = session.append(result.tokens.back());
      ++result.read_tokens;
    }
    const int32_t id = sampler.sample(logits.slice(0, known), session.tokens());
    result.tokens.push_back(id);
    if (!options.ignore_eos && ends_text(id, session.config(), tokenizer, options)) {
      result.reason = StopReason::eos;
      break;
    }
    const bool go_on = writer.push(id);
    if (writer.stopped() || !go_on) {
      result.reason = writer.stopped() ? StopReason::stop_string : StopReason::cancelled;
      break;
    }
  }
  if (result.reason != StopReason::cancelled) writer.finish();
  result.decode_seconds = seconds_since(start);
  return result;
}

Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options) {
  const auto ignore = [](std::string_view) { return true; };
  return generate(session, tokenizer, prompt, options, ignore);
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
