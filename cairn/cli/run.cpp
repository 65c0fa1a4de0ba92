// cairn run: continue a prompt with a model.
#include <fmt/core.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/error.h"
#include "cairn/base/file.h"
#include "cairn/base/log.h"
#include "cairn/base/progress.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/guidance_arguments.h"
#include "cairn/cli/program.h"
#include "cairn/cli/sampling_arguments.h"
#include "cairn/cli/usage.h"
#include "cairn/cli/verbs.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/stop_matcher.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/hub/hub.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  std::string model, prompt, file;
  std::vector<std::string> stops;
  int64_t tokens = 128, threads = 0, logprobs = -1;
  EngineArguments engine;
  SamplingArguments sampling;
  GuidanceArguments guidance;
  bool json = false, ignore_eos = false;
};

std::atomic<bool> interrupted{false};

void note_interrupt(int /*signal*/) {
  interrupted = true;
}

// The first Ctrl-C ends the text; a second one, the program.
void catch_interrupt() {
  struct sigaction action = {};
  action.sa_handler = note_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  refuse_argument("cairn run", subject, expected, found);
}

size_t not_negative(const std::string& name, int64_t value) {
  return at_least_argument("cairn run", name, value, 0);
}

std::string read_prompt(const Options& options) {
  if (!options.file.empty() && !options.prompt.empty())
    refuse("-f", "a prompt from -p or from -f", "both");
  if (options.file.empty()) return options.prompt;
  if (options.file != "-") return read_file(options.file);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

// What can be refused before the model is read.
GenerateOptions generation_options(const Options& options) {
  options.sampling.check();
  options.guidance.check();
  GenerateOptions result;
  result.most_proposed = options.guidance.most_proposed();
  result.logprobs = options.logprobs >= 0;
  if (options.logprobs > 0) result.top_logprobs = static_cast<size_t>(options.logprobs);
  if (result.logprobs && !options.json) refuse("--logprobs", "--json beside it", "none");
  result.max_tokens = not_negative("-n", options.tokens);
  result.stops = options.stops;
  result.ignore_eos = options.ignore_eos;
  static_cast<void>(StopMatcher(result.stops));
  return result;
}

void check_fits(std::span<const int32_t> prompt, const Engine& engine) {
  if (prompt.size() <= engine.context()) return;
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the prompt",
               .expected = fmt::format("at most {} tokens (the context)", engine.context()),
               .found = std::to_string(prompt.size()),
               .hint = "shorten the prompt, or use a model with a longer context"});
}

// What a generation took, beside what the machine could do.
struct Speed {
  double prompt_rate = 0;      // tokens a second
  double rate = 0;             // tokens a second, one by one
  double bandwidth = 0;        // bytes of weights read a second
  double bandwidth_limit = 0;  // bytes this machine reads a second; 0: not measured
  double share() const { return bandwidth_limit > 0 ? bandwidth / bandwidth_limit : 0; }
};

Speed measure_speed(const Generation& generation, const Engine& engine, ThreadTeam& team) {
  // Below this the clock says little, and the measurement would take longer than the work.
  constexpr size_t kFewTokens = 8;
  constexpr size_t kBlock = size_t{256} << 20;  // larger than the caches
  Speed speed;
  if (generation.prefill_seconds > 0)
    speed.prompt_rate = static_cast<double>(generation.prompt_tokens) / generation.prefill_seconds;
  if (generation.read_tokens == 0 || generation.decode_seconds <= 0) return speed;
  speed.rate = static_cast<double>(generation.read_tokens) / generation.decode_seconds;
  // What a constraint spared is spread over all passes that knew it, the prompt's last among them.
  const auto passes = static_cast<double>(generation.passes);
  const double bytes = static_cast<double>(engine.bytes_per_token()) -
                       static_cast<double>(engine.skipped_bytes()) / (passes + 1);
  speed.bandwidth = passes * bytes / generation.decode_seconds;
  if (generation.read_tokens >= kFewTokens && !interrupted)
    speed.bandwidth_limit = 1e9 * measure_read_bandwidth(kBlock, team, 0.1);
  return speed;
}

void print_summary(const Generation& generation, const Speed& speed) {
  std::string line = fmt::format("{} prompt tokens at {}/s, {} tokens at {}/s",
                                 generation.prompt_tokens, format_count(speed.prompt_rate),
                                 generation.tokens.size(), format_count(speed.rate));
  if (generation.proposed > 0)
    line += fmt::format(
        ", {} of {} proposed were right, {:.2f} tokens a pass", generation.accepted,
        generation.proposed,
        static_cast<double>(generation.read_tokens) / static_cast<double>(generation.passes));
  if (speed.bandwidth_limit > 0)
    line += fmt::format(", weights at {:.1f} GB/s: {:.2f} of memory bandwidth",
                        1e-9 * speed.bandwidth, speed.share());
  log_info(fmt::format("{}; ended by {}", line, stop_reason_name(generation.reason)));
}

nlohmann::json to_json(const TokenLogprob& token, const Tokenizer& tokenizer) {
  return {{"id", token.id},
          {"text", std::string(tokenizer.token_bytes(token.id))},
          {"logprob", token.logprob}};
}

nlohmann::json to_json(const TokenLogprobs& token, const Tokenizer& tokenizer) {
  nlohmann::json result = to_json(token.chosen, tokenizer);
  result["top"] = nlohmann::json::array();
  for (const TokenLogprob& other : token.top) result["top"].push_back(to_json(other, tokenizer));
  return result;
}

void print_json(const Generation& generation, const Speed& speed, const Tokenizer& tokenizer) {
  nlohmann::json result = {
      {"text", generation.text},
      {"tokens", generation.tokens},
      {"reason", stop_reason_name(generation.reason)},
      {"prompt_tokens", generation.prompt_tokens},
      {"prompt_tokens_per_second", speed.prompt_rate},
      {"tokens_per_second", speed.rate},
      {"weight_bytes_per_second", speed.bandwidth},
      {"read_bandwidth", speed.bandwidth_limit},
      {"bandwidth_share", speed.share()},
      {"passes", generation.passes},
      {"proposed", generation.proposed},
      {"accepted", generation.accepted},
  };
  for (const TokenLogprobs& token : generation.logprobs)
    result["logprobs"].push_back(to_json(token, tokenizer));
  // A model may write bytes that are no UTF-8; JSON cannot hold them.
  fmt::print("{}\n", result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

int run(const Options& options) {
  const EngineOptions engine_options = options.engine.options();
  GenerateOptions how = generation_options(options);
  const std::string prompt = read_prompt(options);
  ThreadTeam team(static_cast<int>(not_negative("--threads", options.threads)));
  TextModel model(find_model(options.model), team, engine_options);
  how.sampling = options.sampling.resolve(model.defaults());
  how.end_ids = model.defaults().end_ids;
  const std::vector<int32_t> tokens = encode_prompt(model.tokenizer(), prompt);
  check_fits(tokens, model.engine());
  const Guidance guidance = options.guidance.make(model, team, how);
  guidance.apply(how);

  catch_interrupt();
  const bool continues = !model.engine().config().has_encoder();
  if (!options.json && continues) {
    fmt::print("{}", prompt);
    std::fflush(stdout);
  }
  const auto show = [&](std::string_view piece) {
    if (!options.json && !piece.empty()) {
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
    }
    return !interrupted.load();
  };
  const Generation generation = generate(model.engine(), model.tokenizer(), tokens, how, show);
  const Speed speed = measure_speed(generation, model.engine(), team);
  if (options.json) {
    print_json(generation, speed, model.tokenizer());
  } else {
    fmt::print("\n");
    std::fflush(stdout);
    print_summary(generation, speed);
  }
  return kExitDone;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  arguments.positional(
      "-m,--model,MODEL",
      "a GGUF file, or a folder with config.json, model.safetensors, tokenizer.json", o.model);
  arguments.option("-p,--prompt", "the text to continue; of an encoder-decoder, to answer",
                   o.prompt);
  arguments.option("-f,--file", "a file with the text to continue; - is standard input", o.file);
  arguments.option("-n,--tokens,--n-predict", "most tokens to generate", o.tokens);
  o.sampling.declare(arguments);
  o.guidance.declare(arguments);
  arguments.option("--stop", "end before this text; may be given several times", o.stops);
  o.engine.declare(arguments);
  arguments.option("-t,--threads", "0: as many as the machine allows", o.threads);
  arguments.flag("--ignore-eos", "go on behind the end of a text", o.ignore_eos);
  arguments.option("--logprobs",
                   "with --json: log-probabilities of each token, and of the N likeliest; -1: none",
                   o.logprobs);
  arguments.flag("--json", "print one JSON object when done, nothing before", o.json);
  return [options] { return run(*options); };
}

}  // namespace

const Verb kRunVerb{.name = "run",
                    .does = "Continue a prompt with a model",
                    .example =
                        "cairn run demo/model -p \"int main(\" -n 64 --temperature 0.7\n"
                        "cairn run smollm2.gguf -p \"The capital of France\"\n"
                        "cairn run flan-t5-small -p 'translate English to German: Good morning.'\n"
                        "cairn run smollm2.gguf -p 'A person: ' --json-schema person.json\n"
                        "cairn run smollm2.gguf -f letter.txt --lookup --json --logprobs 3",
                    .prepare = prepare};

}  // namespace cairn
