#include "cairn/text/decoder.h"

#include <array>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/text/byte_level.h"

namespace cairn {
namespace {

using Kind = DecoderStep::Kind;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  std::string result;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    result.append(text, at, found - at);
    if (found == std::string::npos) break;
    result.append(to);
    at = found + from.size();
  }
  text = std::move(result);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// "<0x0A>" to its byte.
void byte_of(std::string& token) {
  if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>') return;
  const int high = hex_digit(token[3]);
  const int low = hex_digit(token[4]);
  if (high >= 0 && low >= 0) token.assign(1, static_cast<char>(high * 16 + low));
}

// The tidying of the HF library's WordPiece decoder.
void clean_up(std::string& token) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {
      {{" .", "."},
       {" ?", "?"},
       {" !", "!"},
       {" ,", ","},
       {" ' ", "'"},
       {" n't", "n't"},
       {" 'm", "'m"},
       {" do not", " don't"},
       {" 's", "'s"},
       {" 've", "'ve"},
       {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) replace_all(token, from, to);
}

void strip(std::string& token, const DecoderStep& step) {
  for (int32_t i = 0; i < step.start && token.compare(0, step.content.size(), step.content) == 0;
       ++i) {
    token.erase(0, step.content.size());
  }
  const size_t size = step.content.size();
  for (int32_t i = 0; i < step.stop && token.size() >= size &&
                      token.compare(token.size() - size, size, step.content) == 0;
       ++i) {
    token.resize(token.size() - size);
  }
}

void run(const DecoderStep& step, bool first, std::string& token) {
  switch (step.kind) {
    case Kind::byte_level:
      if (auto bytes = from_byte_level(token)) token = std::move(*bytes);
      return;
    case Kind::replace:
      return replace_all(token, step.pattern, step.content);
    case Kind::byte_fallback:
      return byte_of(token);
    case Kind::strip:
      return strip(token, step);
    case Kind::metaspace: {
      const bool goes = first && step.prepend != PretokenizerStep::Prepend::never;
      return replace_all(token, step.pattern, goes ? "" : " ");
    }
    case Kind::wordpiece:
      if (!first) {
        const bool joins =
            !step.pattern.empty() && token.compare(0, step.pattern.size(), step.pattern) == 0;
        joins ? token.erase(0, step.pattern.size()) : token.insert(0, 1, ' ');
      }
      if (step.cleanup) clean_up(token);
      return;
    case Kind::fuse:
      return;
  }
}

}  // namespace

TokenDecoder::TokenDecoder(std::vector<DecoderStep> steps) {
  bool fused = false;
  for (DecoderStep& step : steps) {
    if (step.kind == Kind::fuse) {
      fused = true;
      continue;
    }
    if (!fused) {
      first_differs_ |=
          step.kind == Kind::wordpiece ||
          (step.kind == Kind::metaspace && step.prepend != PretokenizerStep::Prepend::never);
      steps_.push_back(std::move(step));
      continue;
    }
    if (step.kind != Kind::strip || step.stop != 0 || text_strip_.count > 0) {
      throw Error({.kind = ErrorKind::data,
                   .doing = "building a tokenizer",
                   .subject = "decoder",
                   .expected = "after Fuse only one Strip, of the start of the text"});
    }
    text_strip_ = {step.content, static_cast<size_t>(step.start)};
  }
}

std::string TokenDecoder::bytes(std::string_view spelling, bool first) const {
  std::string token(spelling);
  for (const DecoderStep& step : steps_) run(step, first, token);
  return token;
}

std::string_view strip_start(std::string_view text, const TokenDecoder::Strip& strip) {
  for (size_t i = 0; i < strip.count && !strip.content.empty() &&
                     text.substr(0, strip.content.size()) == strip.content;
       ++i) {
    text.remove_prefix(strip.content.size());
  }
  return text;
}

}  // namespace cairn
