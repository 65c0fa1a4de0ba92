#include "cairn/cli/eval.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {

// Windows are no longer than this unless asked for: memory grows with them.
constexpr size_t kUsualLength = 1024;

EvalText open_file(const std::string& path, const Tokenizer& tokenizer) {
  const MappedFile file(path);
  std::vector<int32_t> tokens;
  // What stands before every document in training, so that the first token has a context too.
  const int32_t start = tokenizer.eos_id() >= 0 ? tokenizer.eos_id() : tokenizer.bos_id();
  if (start >= 0) tokens.push_back(start);
  EncodeScratch scratch;
  tokenizer.encode(file.text(), tokens, scratch);
  return {.name = path, .tokens = token_source(std::move(tokens))};
}

EvalText open_dataset(const std::string& folder, const Tokenizer& tokenizer) {
  auto stream = std::make_unique<TokenStream>(folder, Split::held_out);
  if (stream->dataset().tokenizer != tokenizer.fingerprint())
    throw Error({.kind = ErrorKind::data,
                 .doing = "evaluating on " + folder,
                 .subject = "tokenizer",
                 .expected = "the model's, " + hex64(tokenizer.fingerprint()),
                 .found = hex64(stream->dataset().tokenizer),
                 .hint = "pack the text with the model's tokenizer, or give the text as a file"});
  const TokenStream& tokens = *stream;
  return {
      .name = folder + " (held-out)", .tokens = token_source(tokens), .stream = std::move(stream)};
}

}  // namespace

void wrong_use(const std::string& expected, const std::string& found, const std::string& hint) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "evaluating a model",
               .expected = expected,
               .found = found,
               .hint = hint});
}

size_t not_negative(int64_t value, const std::string& option) {
  if (value < 0) wrong_use(option + " of at least 0", std::to_string(value));
  return static_cast<size_t>(value);
}

EvalText open_eval_text(const EvalOptions& options, const Tokenizer& tokenizer) {
  if (options.file.empty() == options.data.empty())
    wrong_use("either a text FILE or --data FOLDER", options.file.empty() ? "neither" : "both",
              "cairn eval --help shows an example");
  EvalText text = options.file.empty() ? open_dataset(options.data, tokenizer)
                                       : open_file(options.file, tokenizer);
  if (text.tokens.size < 2)
    throw Error({.kind = ErrorKind::data,
                 .doing = "evaluating on " + text.name,
                 .expected = "a text of at least two tokens",
                 .found = std::to_string(text.tokens.size)});
  return text;
}

WindowOptions eval_windows(const EvalOptions& options, const EvalText& text, size_t context) {
  WindowOptions cut;
  cut.length = not_negative(options.length, "--length");
  if (cut.length == 0) cut.length = std::min(context, kUsualLength);
  // A text shorter than a window needs no longer one.
  cut.length = std::min<uint64_t>(cut.length, std::max<uint64_t>(text.tokens.size, 2) - 1);
  cut.stride = not_negative(options.stride, "--stride");
  if (cut.stride == 0) cut.stride = cut.length;
  return cut;
}

}  // namespace cairn
