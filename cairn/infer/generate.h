// The generation loop: prompt in, text out as it comes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/base/function_ref.h"
#include "cairn/infer/constraint/constraint.h"
#include "cairn/infer/engine.h"
#include "cairn/infer/logprobs.h"
#include "cairn/infer/sampler.h"
#include "cairn/infer/speculation/proposer.h"
#include "cairn/text/tokenizer.h"

namespace cairn {

struct GenerateOptions {
  SamplingOptions sampling;
  size_t max_tokens = 128;
  // The text ends before the first of these. Empty strings are refused.
  std::vector<std::string> stops;
  // Tokens that end a text beside those of the model's config and of the tokenizer
  // (GenerationDefaults).
  std::vector<int32_t> end_ids;
  // Go on behind all of these.
  bool ignore_eos = false;
  // What the text must be; nullptr: anything. Begins a new text. Borrowed.
  TokenConstraint* constraint = nullptr;
  // Who proposes tokens that the model then only checks, and at most how many at once; nullptr: no
  // one. Changes the speed, and the text only as far as the engine's logits for several tokens
  // differ from those for one. Borrowed.
  Proposer* proposer = nullptr;
  size_t most_proposed = 7;
  // Whether to report log-probabilities, and of how many of the likeliest tokens at each place.
  bool logprobs = false;
  size_t top_logprobs = 0;
};

// complete: the constraint lets nothing follow.
enum class StopReason { eos, stop_string, max_tokens, context_full, cancelled, complete };
// "eos", "stop", "length", "context", "cancelled", "complete".
std::string_view stop_reason_name(StopReason reason);

struct Generation {
  std::vector<int32_t> tokens;  // all that were drawn, the end-of-text token included
  std::string text;             // what was shown: no special tokens, nothing of a stop string
  StopReason reason = StopReason::max_tokens;
  size_t prompt_tokens = 0;
  size_t read_tokens = 0;  // decoded after the prompt, without proposals that were wrong
  size_t passes = 0;       // in which they were: fewer than tokens when proposals were right
  size_t proposed = 0, accepted = 0;    // tokens of the proposer
  std::vector<TokenLogprobs> logprobs;  // by token
  double prefill_seconds = 0;           // reading the prompt
  double decode_seconds = 0;            // everything after
};

// Sees each piece of text as soon as it is certain (whole UTF-8 characters, nothing that may become
// a stop string). Called after every token, with an empty piece when nothing is certain, and now
// and then while a long prompt is read; answers whether to go on.
using TextCallback = FunctionRef<bool(std::string_view piece)>;

// Reads `prompt` behind what `session` holds and continues it. Only ids that the tokenizer knows
// are drawn, also when the model's vocabulary is larger. Throws what Session::append and Sampler
// throw; Error (usage) on an empty prompt, Error (data) when a constraint leaves no token of the
// vocabulary. The session then holds the prompt and the tokens but for the last one or more.
Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, TextCallback on_text);
// A new text: a decoder continues `prompt`, an encoder-decoder reads it as its source and writes
// what follows decoder_start_id, without a proposer (Error (usage)).
Generation generate(Engine& engine, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, TextCallback on_text);
// The first without anyone watching.
Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options);

// Each of several prompts, as generate() behind an empty session would go on with it; tokens that
// all begin with are read once, and then forked. Texts come one after another, in the order of the
// prompts; `on_text` is asked between and within them, and once it says no the rest is cancelled.
// Throws as generate() does.
std::vector<Generation> generate_each(Engine& engine, const Tokenizer& tokenizer,
                                      std::span<const std::vector<int32_t>> prompts,
                                      const GenerateOptions& options, TextCallback on_text);

// The tokens that end a text: of the tokenizer, the model's config and `more`.
std::vector<int32_t> ending_tokens(const Tokenizer& tokenizer, const ModelConfig& config,
                                   std::span<const int32_t> more = {});

// The tokens of a prompt with the tokenizer's own beginning and end of text, special tokens in the
// text understood. A prompt without any tokens becomes the beginning of a text (bos, or else eos,
// which separates documents). Throws Error (usage) when there is no such token either.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text);

}  // namespace cairn
