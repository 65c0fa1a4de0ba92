#include "cairn/text/normalizer.h"

#include <algorithm>
#include <utility>

#include "cairn/base/error.h"
#include "cairn/text/char_classes.h"
#include "cairn/text/unicode_form.h"
#include "cairn/text/vocabulary.h"

namespace cairn {
namespace {

using Kind = NormalizerStep::Kind;

constexpr size_t kMostGrowth = 16;
constexpr size_t kAlwaysAllowed = size_t{1} << 20;
constexpr size_t kLongestMappedGrapheme = 5;  // bytes; longer ones are looked up character-wise

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<signed char>(c) < 0) return false;
  }
  return true;
}

bool is_space(uint32_t c) {
  return CharClasses::instance().of(c) == CharClass::space;
}

// Calls visit(code point, bytes) for each character.
template <class Visit>
void for_each_char(std::string_view text, Visit&& visit) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const DecodedChar c = decode_char(at, end);
    visit(c.code_point, std::string_view(at, c.length));
    at += c.length;
  }
}

void lowercase(std::string_view text, std::string& out) {
  for_each_char(text, [&](uint32_t c, std::string_view bytes) {
    if (c < 0x80) {
      out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
    } else if (c == kInvalidByte) {
      out.append(bytes);
    } else {
      append_lowercase(c, out);
    }
  });
}

std::string_view strip(std::string_view text, bool left, bool right) {
  size_t from = text.size();
  size_t to = 0;
  for_each_char(text, [&](uint32_t c, std::string_view bytes) {
    if (is_space(c)) return;
    const auto at = static_cast<size_t>(bytes.data() - text.data());
    from = std::min(from, at);
    to = at + bytes.size();
  });
  if (!left) from = 0;
  if (!right) to = text.size();
  return from < to ? text.substr(from, to - from) : text.substr(0, 0);
}

void collapse_blanks(std::string_view text, std::string& out) {
  bool pending = false;
  for (const char c : text) {
    if (c == ' ') {
      pending = !out.empty();
      continue;
    }
    if (pending) out.push_back(' ');
    pending = false;
    out.push_back(c);
  }
}

// As BERT's: control characters and U+FFFD go, white space becomes a blank.
void clean_text(std::string_view text, std::string& out) {
  for_each_char(text, [&](uint32_t c, std::string_view bytes) {
    if (c == '\t' || c == '\n' || c == '\r' || (is_space(c) && !is_control(c))) {
      out.push_back(' ');
    } else if (c != 0 && c != 0xFFFD && !is_control(c)) {
      out.append(bytes);
    }
  });
}

bool is_chinese(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void isolate_chinese(std::string_view text, std::string& out) {
  for_each_char(text, [&](uint32_t c, std::string_view bytes) {
    const bool chinese = is_chinese(c);
    if (chinese) out.push_back(' ');
    out.append(bytes);
    if (chinese) out.push_back(' ');
  });
}

void strip_accents(std::string_view text, std::string& out) {
  for_each_char(text, [&](uint32_t c, std::string_view bytes) {
    if (!is_nonspacing_mark(c)) out.append(bytes);
  });
}

void map_longest(const PrecompiledMap& map, std::string_view text, std::string& out) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const PrecompiledMap::Match match =
        map.longest(std::string_view(at, static_cast<size_t>(end - at)));
    const size_t length = match.length > 0 ? match.length : decode_char(at, end).length;
    out.append(match.length > 0 ? match.replacement : std::string_view(at, length));
    at += length;
  }
}

// The HF library's way: a short grapheme as a whole, else each of its characters.
void map_graphemes(const PrecompiledMap& map, std::string_view text, std::string& out) {
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const stop = grapheme_end(at, end);
    const std::string_view grapheme(at, static_cast<size_t>(stop - at));
    at = stop;
    if (grapheme.size() <= kLongestMappedGrapheme) {
      if (const auto match = map.shortest(grapheme); match.length > 0) {
        out.append(match.replacement);
        continue;
      }
    }
    for_each_char(grapheme, [&](uint32_t, std::string_view bytes) {
      const auto match = map.shortest(bytes);
      out.append(match.length > 0 ? match.replacement : bytes);
    });
  }
}

UnicodeForm form_of(Kind kind) {
  switch (kind) {
    case Kind::nfd:
      return UnicodeForm::nfd;
    case Kind::nfkc:
      return UnicodeForm::nfkc;
    case Kind::nfkd:
      return UnicodeForm::nfkd;
    default:
      return UnicodeForm::nfc;
  }
}

}  // namespace

Normalizer::Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {
  for (const NormalizerStep& step : steps_) {
    std::shared_ptr<const SplitRegex> regex;
    std::shared_ptr<const PrecompiledMap> map;
    if (step.kind == Kind::replace && step.pattern_is_regex) {
      regex = std::make_shared<SplitRegex>(step.pattern);
    }
    if (step.kind == Kind::precompiled ||
        (step.kind == Kind::sentencepiece && !step.content.empty())) {
      map = std::make_shared<PrecompiledMap>(step.content);
    }
    regexes_.push_back(std::move(regex));
    maps_.push_back(std::move(map));
  }
}

std::string_view Normalizer::apply(std::string_view text, std::string& buffer,
                                   TextEnds ends) const {
  std::string_view now = text;
  std::string next;
  for (size_t i = 0; i < steps_.size(); ++i) {
    next.clear();
    if (!run(i, now, ends, next)) continue;
    if (next.size() > kAlwaysAllowed + kMostGrowth * text.size()) {
      throw Error(
          {.kind = ErrorKind::data,
           .doing = "normalizing text",
           .expected = "a result of at most 16 times its size",
           .found = std::to_string(next.size()) + " bytes from " + std::to_string(text.size())});
    }
    std::swap(buffer, next);
    now = buffer;
  }
  return now;
}

bool Normalizer::run(size_t index, std::string_view text, TextEnds ends, std::string& out) const {
  const NormalizerStep& step = steps_[index];
  switch (step.kind) {
    case Kind::nfc:
    case Kind::nfd:
    case Kind::nfkc:
    case Kind::nfkd:
      if (surely_in_form(form_of(step.kind), text)) return false;
      append_in_form(form_of(step.kind), text, out);
      return true;
    case Kind::lowercase:
      lowercase(text, out);
      return true;
    case Kind::strip_accents:
      if (is_ascii(text)) return false;
      strip_accents(text, out);
      return true;
    case Kind::strip:
      out = strip(text, step.left, step.right);
      return true;
    case Kind::prepend:
      if (text.empty()) return false;
      out.append(step.content).append(text);
      return true;
    case Kind::replace:
      replace(index, text, out);
      return true;
    case Kind::precompiled:
      step.by_grapheme ? map_graphemes(*maps_[index], text, out)
                       : map_longest(*maps_[index], text, out);
      return true;
    case Kind::collapse_blanks:
      collapse_blanks(text, out);
      return true;
    case Kind::clean_text:
      clean_text(text, out);
      return true;
    case Kind::isolate_chinese:
      if (is_ascii(text)) return false;
      isolate_chinese(text, out);
      return true;
    case Kind::sentencepiece:
      sentencepiece(index, text, ends, out);
      return true;
  }
  return false;
}

// As the library: what is mapped is cut at the start before a blank is put in front, and at the end
// of U+2581, its own included. A user-defined token at the start has the blank before it, too.
void Normalizer::sentencepiece(size_t index, std::string_view text, TextEnds ends,
                               std::string& out) const {
  const NormalizerStep& step = steps_[index];
  std::string mapped;
  if (maps_[index]) {
    map_longest(*maps_[index], text, mapped);
    text = mapped;
  }
  if (step.collapse && ends.start)
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  if (text.empty() && ends.end) return;
  if (step.prefix_blank && ends.start) out.append(kMetaspace);
  bool after_blank = false;
  for (const char c : text) {
    const bool blank = c == ' ';
    if (!blank) out.push_back(c);
    if (blank && !(step.collapse && after_blank)) out.append(kMetaspace);
    after_blank = blank;
  }
  if (!step.collapse || !ends.end) return;
  while (std::string_view(out).ends_with(kMetaspace)) out.resize(out.size() - kMetaspace.size());
}

void Normalizer::replace(size_t index, std::string_view text, std::string& out) const {
  const NormalizerStep& step = steps_[index];
  if (regexes_[index]) {
    return regexes_[index]->split(text, [&](std::string_view piece, bool matched) {
      out.append(matched ? std::string_view(step.content) : piece);
    });
  }
  for (size_t at = 0;;) {
    const size_t found = step.pattern.empty() ? text.npos : text.find(step.pattern, at);
    out.append(text.substr(at, found - at));
    if (found == text.npos) return;
    out.append(step.content);
    at = found + step.pattern.size();
  }
}

}  // namespace cairn
