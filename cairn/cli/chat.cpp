// cairn chat: a conversation with a model in the terminal, or line by line through a pipe.
#include <limits>
#include <memory>

#include "cairn/base/error.h"
#include "cairn/cli/chat_loop.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/guidance_arguments.h"
#include "cairn/cli/sampling_arguments.h"
#include "cairn/cli/usage.h"
#include "cairn/cli/verbs.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/hub/hub.h"

namespace cairn {
namespace {

struct Options {
  std::string model, system, load, chat_template, variables, overflow = "forget";
  std::vector<std::string> stops;
  int64_t tokens = 0, threads = 0;
  EngineArguments engine;
  SamplingArguments sampling;
  GuidanceArguments guidance;
  bool json = false;
};

[[noreturn]] void refuse(const std::string& subject, const std::string& expected,
                         const std::string& found) {
  refuse_argument("cairn chat", subject, expected, found);
}

size_t not_negative(const std::string& name, int64_t value) {
  return at_least_argument("cairn chat", name, value, 0);
}

ChatOptions chat_options(const Options& options) {
  ChatOptions result;
  if (options.overflow == "refuse")
    result.overflow = ChatOverflow::refuse;
  else if (options.overflow != "forget")
    refuse("--overflow", "forget or refuse", "\"" + options.overflow + "\"");
  result.variables = options.variables;
  result.chat_template = options.chat_template;
  return result;
}

int run(const Options& options) {
  const EngineOptions how_decoded = options.engine.options();
  const ChatOptions how_kept = chat_options(options);
  options.sampling.check();
  options.guidance.check();
  const size_t most = not_negative("--tokens", options.tokens);
  ThreadTeam team(static_cast<int>(not_negative("--threads", options.threads)));
  TextModel model(find_model(options.model), team, how_decoded);

  ChatLoopOptions loop;
  loop.json = options.json;
  loop.generation.sampling = options.sampling.resolve(model.defaults());
  loop.generation.end_ids = model.defaults().end_ids;
  loop.generation.max_tokens = most > 0 ? most : model.engine().context();
  loop.generation.stops = options.stops;
  loop.generation.most_proposed = options.guidance.most_proposed();
  const Guidance guidance = options.guidance.make(model, team, loop.generation);
  guidance.apply(loop.generation);
  Chat chat(model, how_kept);
  if (!options.load.empty()) chat.load(options.load);
  if (!options.system.empty()) chat.set_system(options.system);
  return ChatLoop(chat, std::move(loop)).run();
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  arguments.positional("-m,--model,MODEL", "a GGUF file or a model folder, with a chat template",
                       o.model);
  arguments.option("-s,--system", "what the model is told before the conversation", o.system);
  arguments.option("--load", "go on with a conversation that /save wrote", o.load);
  arguments.option("-n,--tokens,--n-predict", "most tokens of an answer; 0: until it ends",
                   o.tokens);
  o.sampling.declare(arguments);
  o.guidance.declare(arguments);
  arguments.option("--stop", "end answers before this text; may be given several times", o.stops);
  arguments.option("--overflow", "when the context is full: forget the oldest exchanges, or refuse",
                   o.overflow);
  arguments.option("--template", "which of the model's chat templates (default, tool_use, ...)",
                   o.chat_template);
  arguments.option("--variables", "more for the template, as {\"enable_thinking\": false}",
                   o.variables);
  o.engine.declare(arguments);
  arguments.option("-t,--threads", "0: as many as the machine allows", o.threads);
  arguments.flag("--json", "print a line of JSON for each answer", o.json);
  return [options] { return run(*options); };
}

}  // namespace

const Verb kChatVerb{.name = "chat",
                     .does = "Talk with a model",
                     .example =
                         "cairn chat smollm2.gguf\n"
                         "echo 'What is a cairn?' | cairn chat MODEL --temperature 0 -n 60",
                     .prepare = prepare};

}  // namespace cairn
