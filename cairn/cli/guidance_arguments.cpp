#include "cairn/cli/guidance_arguments.h"

#include "cairn/base/error.h"
#include "cairn/infer/constraint/grammar_constraint.h"
#include "cairn/infer/speculation/draft.h"
#include "cairn/infer/speculation/lookup.h"
#include "cairn/text/grammar/gbnf.h"
#include "cairn/text/grammar/json_schema.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestGrammar = uint64_t{4} << 20;

[[noreturn]] void refuse(const char* subject, const char* expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line",
               .subject = subject,
               .expected = expected,
               .found = found});
}

}  // namespace

void Guidance::apply(GenerateOptions& options) const {
  options.constraint = constraint.get();
  options.proposer = proposer.get();
}

void GuidanceArguments::declare(Arguments& arguments) {
  arguments.option("--grammar", "a GBNF file: the text is one of its texts", grammar_);
  arguments.option("--json-schema", "a file with a JSON Schema: the text is JSON that satisfies it",
                   schema_);
  arguments.flag("--lookup", "propose what followed the same words before; quicker, the same text",
                 lookup_);
  arguments.option("--lookup-file", "the same, with a text file to quote from", lookup_file_);
  arguments.option("--draft", "a smaller model of the same vocabulary that proposes tokens",
                   draft_);
  arguments.option("--draft-max", "most tokens proposed at once", draft_max_);
}

void GuidanceArguments::check() const {
  if (!grammar_.empty() && !schema_.empty())
    refuse("--json-schema", "a grammar or a JSON Schema", "both");
  if (!draft_.empty() && (lookup_ || !lookup_file_.empty()))
    refuse("--draft", "proposals by lookup or by a draft model", "both");
  if (draft_max_ < 1 || draft_max_ > 64)
    refuse("--draft-max", "1 to 64", std::to_string(draft_max_));
}

Guidance GuidanceArguments::make(TextModel& model, ThreadTeam& team,
                                 const GenerateOptions& how) const {
  Guidance guidance;
  const Tokenizer& tokenizer = model.tokenizer();
  if (!grammar_.empty() || !schema_.empty()) {
    const std::string& file = grammar_.empty() ? schema_ : grammar_;
    const std::string text = read_file(file, kLargestGrammar);
    auto automaton = std::make_shared<GrammarAutomaton>(
        grammar_.empty() ? grammar_from_json_schema(text, file) : parse_gbnf(text, file), file);
    const ModelConfig& config = model.engine().config();
    auto trie = std::make_shared<VocabularyTrie>(tokenizer, config.vocab_size);
    guidance.constraint =
        std::make_unique<GrammarConstraint>(std::move(automaton), std::move(trie), tokenizer,
                                            ending_tokens(tokenizer, config, how.end_ids));
  }
  if (!draft_.empty()) {
    guidance.draft = std::make_unique<TextModel>(draft_, team);
    guidance.proposer = std::make_unique<DraftProposer>(*guidance.draft, tokenizer, how.sampling);
  } else if (lookup_ || !lookup_file_.empty()) {
    std::vector<int32_t> earlier;
    if (!lookup_file_.empty()) earlier = tokenizer.encode(read_file(lookup_file_));
    guidance.proposer = std::make_unique<LookupProposer>(earlier);
  }
  return guidance;
}

}  // namespace cairn
