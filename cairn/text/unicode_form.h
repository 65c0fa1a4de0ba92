// Unicode normalisation forms (UAX 15) by utf8proc, applied only where a text needs them: almost
// all characters stay and touch no neighbour, and a table knows which.
#pragma once

#include <string>
#include <string_view>

namespace cairn {

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };

// Appends `text` in that form to `out`; bytes that are not UTF-8 stay as they are. Takes linear
// time but for sorting runs of marks. Thread-safe.
void append_in_form(UnicodeForm form, std::string_view text, std::string& out);

// Whether the text is in that form already for sure (false: perhaps not).
bool surely_in_form(UnicodeForm form, std::string_view text);

// Properties of one code point, kInvalidByte included (nothing holds for it).
bool is_nonspacing_mark(uint32_t code_point);
bool is_control(uint32_t code_point);  // general categories Cc, Cf and Co
// The lower-case letters of `code_point` (U+0130 has two), appended as UTF-8.
void append_lowercase(uint32_t code_point, std::string& out);
// The same for upper case, and for the first letter of a word; simple mappings and U+00DF.
void append_uppercase(uint32_t code_point, std::string& out);

// End of the grapheme cluster (UAX 29) that starts at `at`, which must be before `end`.
const char* grapheme_end(const char* at, const char* end);

}  // namespace cairn
