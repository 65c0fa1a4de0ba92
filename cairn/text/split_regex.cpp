#include "cairn/text/split_regex.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace cairn {
namespace {

constexpr uint32_t kStandIn = 0xFFFF;  // a noncharacter: neither letter, number nor space
constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackLimit = 8 * 1024 * 1024;

std::string pcre2_message(int code) {
  unsigned char buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

constexpr std::string_view kSpaces = R"(\p{Z}\x09-\x0d\x{85})";
constexpr std::string_view kWordChars = R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc})";

// Rewrites what PCRE2 reads differently from Oniguruma: \s is White_Space, \w has marks but no
// other numbers, and a set inside a set adds its members. What has no equal is refused.
class Translation {
 public:
  explicit Translation(const std::string& pattern) : pattern_(pattern) {}

  std::string run() {
    for (at_ = 0; at_ < pattern_.size(); ++at_) {
      const char c = pattern_[at_];
      if (c == '\\' && at_ + 1 < pattern_.size()) {
        escape(pattern_[++at_]);
      } else if (c == '[') {
        open_set();
      } else if (c == ']' && depth_ > 0) {
        if (--depth_ == 0) result_.push_back(c);
      } else if (depth_ > 0 && c == '&' && next_is('&')) {
        refuse("an intersection of sets");
      } else if (depth_ == 0 && c == '}' && next_is('+')) {
        refuse("a quantifier after a quantifier");
      } else {
        result_.push_back(c);
      }
    }
    return std::move(result_);
  }

 private:
  bool next_is(char c) const { return at_ + 1 < pattern_.size() && pattern_[at_ + 1] == c; }

  [[noreturn]] void refuse(const std::string& found) const {
    throw Error({.kind = ErrorKind::data,
                 .doing = "compiling a pre-tokenizer's regular expression",
                 .subject = pattern_.substr(0, 200),
                 .expected = "constructs that have an equal in PCRE2",
                 .found = found + " at offset " + std::to_string(at_)});
  }

  void escape(char escaped) {
    const bool negated = escaped == 'S' || escaped == 'W';
    const bool space = escaped == 's' || escaped == 'S';
    if (!space && escaped != 'w' && escaped != 'W') {
      if (escaped == 'h' || escaped == 'H') refuse("\\h");  // a hexadecimal digit, or a blank
      result_.append({'\\', escaped});
      if (next_is('{')) {  // \p{L}, \x{24B6}
        const size_t end = std::min(pattern_.find('}', at_), pattern_.size() - 1);
        result_.append(pattern_, at_ + 1, end - at_);
        at_ = end;
      }
      return;
    }
    const std::string_view members = space ? kSpaces : kWordChars;
    if (depth_ > 0) {
      if (negated) refuse(std::string("\\") + escaped + " inside a set");
      result_.append(members);
    } else {
      result_.append(negated ? "[^" : "[").append(members).append("]");
    }
  }

  void open_set() {
    if (depth_ > 0 && next_is(':')) {  // [:alpha:]
      const size_t end = pattern_.find(":]", at_ + 2);
      if (end == std::string::npos) refuse("[: without its end");
      result_.append(pattern_, at_, end + 2 - at_);
      at_ = end + 1;
      return;
    }
    ++depth_;
    if (depth_ > 1) {  // its members join those of the set around it
      if (next_is('^')) refuse("a negated set inside a set");
      return;
    }
    result_.push_back('[');
    if (next_is('^')) result_.push_back(pattern_[++at_]);
    if (next_is(']')) result_.append("\\]"), ++at_;  // a ] that comes first is a member
  }

  const std::string& pattern_;
  std::string result_;
  size_t at_ = 0;
  int depth_ = 0;  // of sets
};

// What matching needs; one a thread, as making it takes longer than cutting a short text.
struct MatchState {
  MatchState()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr)) {
    if (data == nullptr || context == nullptr || stack == nullptr) {
      throw Error({.doing = "splitting text", .found = "no memory for the regular expression"});
    }
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;

  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

// `text` with a stand-in for each invalid byte, and where each of its characters came from.
struct Repaired {
  std::string text;
  std::vector<size_t> invalid;  // offsets in the original, rising
};

Repaired repair(std::string_view text) {
  Repaired repaired;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const DecodedChar character = decode_char(at, end);
    if (character.code_point == kInvalidByte) {
      repaired.invalid.push_back(static_cast<size_t>(at - text.data()));
      append_utf8(kStandIn, repaired.text);
    } else {
      repaired.text.append(at, character.length);
    }
    at += character.length;
  }
  return repaired;
}

constexpr size_t kStandInGrowth = 2;  // bytes that a stand-in has more than what it stands for

}  // namespace

struct SplitRegex::Code {
  pcre2_code* compiled = nullptr;
  ~Code() { pcre2_code_free(compiled); }
};

SplitRegex::~SplitRegex() = default;
SplitRegex::SplitRegex(SplitRegex&&) noexcept = default;
SplitRegex& SplitRegex::operator=(SplitRegex&&) noexcept = default;

SplitRegex::SplitRegex(const std::string& pattern)
    : pattern_(pattern), code_(std::make_unique<Code>()) {
  const auto problem = [&](const std::string& found) {
    return Error({.kind = ErrorKind::data,
                  .doing = "compiling a pre-tokenizer's regular expression",
                  .subject = pattern.substr(0, 200),
                  .found = found});
  };
  if (!is_utf8(pattern)) throw problem("bytes that are not UTF-8");
  const std::string rewritten = Translation(pattern).run();
  int code = 0;
  size_t offset = 0;
  code_->compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                  &code, &offset, nullptr);
  if (code_->compiled == nullptr) {
    throw problem(pcre2_message(code) + " at offset " + std::to_string(offset));
  }
  // Without the compiler (an unusual build of PCRE2) matching is slower but the same.
  pcre2_jit_compile(code_->compiled, PCRE2_JIT_COMPLETE);
}

void SplitRegex::split(std::string_view text,
                       FunctionRef<void(std::string_view, bool)> piece) const {
  Repaired repaired;
  std::string_view subject = text;
  if (!is_utf8(text)) {
    repaired = repair(text);
    subject = repaired.text;
  }
  size_t invalid_before = 0;
  // Offsets of pieces only rise, so the invalid bytes before one are counted in step.
  const auto original = [&](size_t offset) {
    while (invalid_before < repaired.invalid.size() &&
           repaired.invalid[invalid_before] + kStandInGrowth * invalid_before < offset) {
      ++invalid_before;
    }
    return offset - kStandInGrowth * invalid_before;
  };

  thread_local MatchState state;
  size_t done = 0;  // in the original
  const auto emit_to = [&](size_t to, bool matched) {
    const size_t end = original(to);
    if (end > done) piece(text.substr(done, end - done), matched);
    done = end;
  };
  const auto* bytes = reinterpret_cast<PCRE2_SPTR>(subject.data());
  for (size_t from = 0; from < subject.size();) {
    const int found = pcre2_match(code_->compiled, bytes, subject.size(), from,
                                  PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, state.data, state.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      throw Error({.kind = ErrorKind::data,
                   .doing = "splitting text with a pre-tokenizer's regular expression",
                   .subject = pattern_.substr(0, 200),
                   .found = pcre2_message(found)});
    }
    const size_t* bounds = pcre2_get_ovector_pointer(state.data);
    const size_t start = bounds[0];
    const size_t end = bounds[1];
    // \K can move a match's start before what was already cut; such a pattern cuts nothing there.
    if (end <= from || start < from || end < start) break;
    emit_to(start, false);
    emit_to(end, true);
    from = end;
  }
  emit_to(subject.size(), false);
}

void SplitRegex::for_each_match(std::string_view text,
                                FunctionRef<void(std::string_view)> match) const {
  split(text, [&](std::string_view piece, bool matched) {
    if (matched) match(piece);
  });
}

std::string SplitRegex::unicode_version() {
  char version[64] = {};
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
  return version;
}

std::string regex_escape(std::string_view text) {
  constexpr std::string_view kSpecial = R"(\^$.[]|()?*+{}-#)";
  std::string escaped;
  for (const char c : text) {
    if (kSpecial.find(c) != std::string_view::npos) escaped.push_back('\\');
    escaped.push_back(c);
  }
  return escaped;
}

}  // namespace cairn
