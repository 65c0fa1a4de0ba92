// `cairn bench lookup`: what proposals from the text itself (infer/speculation/lookup.h) gain where
// texts repeat and cost where they do not: the same texts with and without, in turns.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/cli/bench.h"
#include "cairn/cli/engine_arguments.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/generate.h"
#include "cairn/infer/speculation/lookup.h"
#include "cairn/infer/text_model.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

struct Options {
  std::string model;
  EngineArguments engine;
  int64_t tokens = 128, repetitions = 5, threads = 0;
  bool json = false;
};

constexpr const char* kProgram = R"(def read_orders(path):
    orders = []
    with open(path) as lines:
        for line in lines:
            fields = line.strip().split(",")
            if len(fields) != 4:
                continue
            orders.append({
                "customer": fields[0],
                "product": fields[1],
                "count": int(fields[2]),
                "price": float(fields[3]),
            })
    return orders

def total_by_customer(orders):
    totals = {}
    for order in orders:
        value = order["count"] * order["price"]
        totals[order["customer"]] = totals.get(order["customer"], 0.0) + value
    return totals
)";

constexpr const char* kPassage =
    "The harbour of the old town lies between two hills. On the northern one stands a lighthouse "
    "that was built in 1794 by a merchant whose three ships had run aground on the same night; on "
    "the southern one there is nothing but heather, sheep and the wall of a chapel. Boats come in "
    "with the tide at noon and leave before dawn, and whoever wants to cross must ask for the "
    "ferryman in the inn, for he keeps no hours and trusts no clocks.";

struct Task {
  const char* name;
  std::string prompt;
  double temperature;  // 0: greedy
};

// Raw texts rather than conversations: any model goes on with them, one that was not tuned too.
std::vector<Task> tasks() {
  const std::string program(kProgram), passage(kPassage);
  const std::string opening = program.substr(0, program.find("    with"));
  return {{"edit",
           "The program:\n\n" + program +
               "\nThe same program with a comment in front:\n\n# Orders\n" + opening,
           0},
          {"quote", "He read: \"" + passage + "\"\n\nShe repeated: \"The harbour of", 0},
          {"new", "A story that nobody has told before.\n\nIn the year of", 1}};
}

// One task, and what was measured of it: a value a repetition.
struct Measured {
  std::vector<double> plain, lookup, ratios;  // tokens a second
  double tokens_a_pass = 0, accepted = 0;
};

class Subject {
 public:
  Subject(TextModel& model, const Task& task, size_t tokens)
      : model_(model),
        prompt_(encode_prompt(model.tokenizer(), task.prompt)),
        session_(model.engine().start()) {
    options_.sampling.temperature = task.temperature;
    options_.max_tokens = tokens;
    options_.ignore_eos = true;
    if (prompt_.size() > 1) session_.append(std::span(prompt_).first(prompt_.size() - 1));
  }

  Generation generate_with(Proposer* proposer) {
    Session fork = session_.fork();
    options_.proposer = proposer;
    return generate(fork, model_.tokenizer(), std::span(prompt_).last(1), options_);
  }

 private:
  TextModel& model_;
  std::vector<int32_t> prompt_;
  Session session_;  // holds the prompt but for its last token
  GenerateOptions options_;
};

double rate_of(const Generation& made) {
  return static_cast<double>(made.tokens.size()) / made.decode_seconds;
}

void measure_once(Subject& subject, bool lookup_first, Measured& measured) {
  Generation plain, lookup;
  const auto with = [&] {
    LookupProposer proposer;
    lookup = subject.generate_with(&proposer);
  };
  if (lookup_first) with();
  plain = subject.generate_with(nullptr);
  if (!lookup_first) with();
  if (plain.tokens != lookup.tokens)
    throw Error({.doing = "measuring proposals from the text",
                 .expected = "the same text with and without them",
                 .found = "another one",
                 .hint = "attention mechanisms with a cache of their own round otherwise for "
                         "several tokens at once"});
  measured.plain.push_back(rate_of(plain));
  measured.lookup.push_back(rate_of(lookup));
  measured.ratios.push_back(rate_of(lookup) / rate_of(plain));
  measured.tokens_a_pass =
      static_cast<double>(lookup.read_tokens) / static_cast<double>(lookup.passes);
  measured.accepted = lookup.proposed == 0 ? 0
                                           : static_cast<double>(lookup.accepted) /
                                                 static_cast<double>(lookup.proposed);
}

void report(const Options& options, const Task& task, Measured& m, int threads) {
  const double ratio = median(m.ratios);
  if (!options.json) {
    fmt::print("  {:<8}{:9.1f}{:9.1f}{:8.2f} ({:.2f} to {:.2f}){:8.2f}{:9.0f} %\n", task.name,
               median(m.plain), median(m.lookup), ratio, m.ratios.front(), m.ratios.back(),
               m.tokens_a_pass, 100 * m.accepted);
    return;
  }
  fmt::print("{}", json_line({{"bench", "lookup"},
                              {"model", options.model},
                              {"task", task.name},
                              {"threads", threads},
                              {"tokens", options.tokens},
                              {"plain_tokens_per_second", median(m.plain)},
                              {"tokens_per_second", median(m.lookup)},
                              {"ratio", ratio},
                              {"ratio_least", m.ratios.front()},
                              {"ratio_most", m.ratios.back()},
                              {"tokens_per_pass", m.tokens_a_pass},
                              {"accepted", m.accepted},
                              {"processor", processor_family()}}));
}

int run(const Options& options) {
  const size_t tokens = at_least_argument("cairn bench lookup", "--tokens", options.tokens, 2);
  const size_t repetitions =
      at_least_argument("cairn bench lookup", "--repetitions", options.repetitions, 1);
  ThreadTeam team(static_cast<int>(options.threads));
  TextModel model(options.model, team, options.engine.options());
  if (!options.json)
    fmt::print(
        "{}, {} tokens, {} threads: tokens/s\n  text       plain   lookup   ratio{:>27}{:>11}\n",
        options.model, tokens, team.size(), "tokens a pass", "accepted");
  for (const Task& task : tasks()) {
    Subject subject(model, task, tokens);
    Measured measured;
    for (size_t i = 0; i < repetitions; ++i) measure_once(subject, i % 2 == 1, measured);
    report(options, task, measured, team.size());
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.positional("MODEL", "a model folder or GGUF file, with its tokenizer", options->model);
  options->engine.declare(arguments);
  arguments.option("--tokens", "of each text", options->tokens);
  arguments.option("--repetitions", "of each text, with and without; the median counts",
                   options->repetitions);
  arguments.option("--threads", "0: as many as the machine allows", options->threads);
  arguments.flag("--json", "print a JSON line a text", options->json);
  return [options] { return run(*options); };
}

}  // namespace

const Verb kBenchLookupVerb{
    .name = "lookup",
    .does = "What proposals from the text itself gain where it repeats, and cost where not",
    .example =
        "cairn bench lookup smollm2.gguf\ncairn bench lookup smollm2.gguf --tokens 256 --json",
    .prepare = prepare};

}  // namespace cairn
