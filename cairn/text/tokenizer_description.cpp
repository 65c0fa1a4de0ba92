#include "cairn/text/tokenizer_description.h"

#include "cairn/io/json.h"
#include "cairn/text/llama3_rule.h"

namespace cairn {
namespace {

std::string pattern_of(const std::string& pattern, bool is_regex) {
  return is_regex ? pattern : in_quotes(pattern);
}

std::string describe(const NormalizerStep& step) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::nfc:
      return "NFC";
    case Kind::nfd:
      return "NFD";
    case Kind::nfkc:
      return "NFKC";
    case Kind::nfkd:
      return "NFKD";
    case Kind::lowercase:
      return "lower case";
    case Kind::strip_accents:
      return "accents go";
    case Kind::strip:
      return "white space at the ends goes";
    case Kind::prepend:
      return in_quotes(step.content) + " in front";
    case Kind::replace:
      return pattern_of(step.pattern, step.pattern_is_regex) + " becomes " +
             in_quotes(step.content);
    case Kind::precompiled:
      return "precompiled map";
    case Kind::collapse_blanks:
      return "one blank at most";
    case Kind::clean_text:
      return "control characters go";
    case Kind::sentencepiece:
      return std::string("SentencePiece's") + (step.content.empty() ? "" : ", with a map");
    case Kind::isolate_chinese:
      break;
  }
  return "Chinese characters apart";
}

std::string known_rule(const std::string& pattern) {
  if (pattern == kGpt2Pattern) return "gpt2";
  if (pattern == kLlama3Pattern) return "llama3";
  return pattern == kQwen2Pattern ? "qwen2" : "";
}

std::string describe(const PretokenizerStep& step) {
  using Kind = PretokenizerStep::Kind;
  switch (step.kind) {
    case Kind::gpt2:
      return "gpt2";
    case Kind::digits:
      return step.individual_digits ? "digits, each" : "digits, in runs";
    case Kind::split:
      if (const std::string rule = known_rule(step.pattern); !rule.empty()) return rule;
      return "split by " + pattern_of(step.pattern, step.pattern_is_regex);
    case Kind::prefix_blank:
      return "a blank in front";
    case Kind::metaspace:
      return "metaspace " + in_quotes(step.pattern);
    case Kind::whitespace_split:
      return "white space";
    case Kind::punctuation:
      break;
  }
  return "punctuation";
}

std::string describe(const DecoderStep& step) {
  using Kind = DecoderStep::Kind;
  switch (step.kind) {
    case Kind::byte_level:
      return "byte level";
    case Kind::replace:
      return in_quotes(step.pattern) + " becomes " + in_quotes(step.content);
    case Kind::byte_fallback:
      return "byte tokens";
    case Kind::fuse:
      return "fuse";
    case Kind::strip:
      return "strip " + in_quotes(step.content);
    case Kind::metaspace:
      return "metaspace " + in_quotes(step.pattern);
    case Kind::wordpiece:
      break;
  }
  return "WordPiece " + in_quotes(step.pattern);
}

template <class Step>
std::vector<std::string> describe_all(const std::vector<Step>& steps) {
  std::vector<std::string> phrases;
  for (const Step& step : steps) phrases.push_back(describe(step));
  return phrases;
}

}  // namespace

std::string describe(TokenizerModel model) {
  switch (model) {
    case TokenizerModel::byte_level_bpe:
      return "byte-level BPE";
    case TokenizerModel::bpe:
      return "BPE";
    case TokenizerModel::scored_bpe:
      return "SentencePiece BPE";
    case TokenizerModel::unigram:
      return "unigram";
    case TokenizerModel::wordpiece:
      break;
  }
  return "WordPiece";
}

std::vector<std::string> describe(const std::vector<NormalizerStep>& steps) {
  return describe_all(steps);
}
std::vector<std::string> describe(const std::vector<PretokenizerStep>& steps) {
  return describe_all(steps);
}
std::vector<std::string> describe(const std::vector<DecoderStep>& steps) {
  return describe_all(steps);
}

}  // namespace cairn
