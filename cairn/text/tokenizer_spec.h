// What a tokenizer is, as plain data: made by the trainer, or read from tokenizer.json
// (tokenizer_json.h), from GGUF keys (gguf_tokenizer.h) or a SentencePiece model (sentencepiece.h).
// The parts and their names are those of the HF `tokenizers` library: text goes through added
// tokens, normalizer, pre-tokenizer and model to ids; ids go through the decoder to text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cairn/text/added_tokens.h"

namespace cairn {

// How the tokens of a word are found.
enum class TokenizerModel {
  byte_level_bpe,  // merges by rank over bytes, spelled in the byte-level alphabet (byte_level.h)
  bpe,             // merges by rank over characters
  scored_bpe,      // SentencePiece: any neighbours that are a token together, best score first
  unigram,         // the cut whose scores sum highest (Kudo 2018, arXiv:1804.10959)
  wordpiece,       // the longest token at each place, from left to right
};

// One step of a normalizer. Unicode forms are those of utf8proc; bytes that are not UTF-8 stay.
struct NormalizerStep {
  enum class Kind {
    nfc,
    nfd,
    nfkc,
    nfkd,
    lowercase,
    strip_accents,    // nonspacing marks go
    strip,            // white space at the ends goes
    prepend,          // `content` before a text that is not empty
    replace,          // every match of `pattern` becomes `content`
    precompiled,      // SentencePiece's map `content`
    collapse_blanks,  // blanks at the ends go, runs of them become one
    clean_text,       // BERT: control characters go, white space becomes blanks
    isolate_chinese,  // BERT: blanks around Chinese characters
    sentencepiece,    // map `content` if not empty, `collapse`, `prefix_blank`, blanks to U+2581
  };
  Kind kind = Kind::nfc;
  bool left = true, right = true;  // strip
  std::string pattern;             // replace: the text or the regular expression
  bool pattern_is_regex = false;   // replace
  std::string content;
  // precompiled: whole graphemes are looked up first and the shortest match counts, as in the HF
  // library; otherwise the longest match at each place, as in SentencePiece.
  bool by_grapheme = false;
  bool prefix_blank = true;  // sentencepiece: a text that is not empty gets a blank in front
  bool collapse = true;      // sentencepiece: blanks at the text's ends go, runs become one

  bool operator==(const NormalizerStep&) const = default;
};

// One step of a pre-tokenizer.
struct PretokenizerStep {
  enum class Kind {
    gpt2,              // the GPT-2 rule (ByteLevel with use_regex)
    digits,            // Digits: number characters apart, one by one or in runs
    split,             // Split: at the matches of `pattern`
    prefix_blank,      // a piece that starts without a blank gets one (ByteLevel, add_prefix_space)
    metaspace,         // blanks become `pattern`, which starts a piece
    whitespace_split,  // WhitespaceSplit: white space goes
    punctuation,       // at punctuation (ASCII symbols, too)
  };
  // What becomes of a match: a piece, nothing, the end of the piece before, the start of the one
  // after; or runs of matches are one piece.
  enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
  enum class Prepend { always, first, never };  // metaspace: first is the start of the text only

  Kind kind = Kind::gpt2;
  bool individual_digits = false;          // digits
  std::string pattern;                     // split: text or regular expression
  bool pattern_is_regex = true;            // split
  Behavior behavior = Behavior::isolated;  // split, punctuation
  bool invert = false;                     // split: what is between matches counts as a match
  Prepend prepend = Prepend::always;       // metaspace
  bool metaspace_splits = true;            // metaspace

  bool operator==(const PretokenizerStep&) const = default;
};

// One step from the spelling of a token to its text.
struct DecoderStep {
  enum class Kind {
    byte_level,     // the byte-level alphabet back to bytes
    replace,        // `pattern` becomes `content`
    byte_fallback,  // "<0x0A>" is that byte
    fuse,           // what follows sees the whole text
    strip,          // up to `start` and `stop` times `content` at the ends
    metaspace,  // `pattern` becomes a blank; in the first token it goes, unless prepend is never
    wordpiece,  // `pattern` joins to the token before, others are apart by a blank
  };
  Kind kind = Kind::byte_level;
  std::string pattern;
  std::string content;
  int32_t start = 0, stop = 0;
  PretokenizerStep::Prepend prepend = PretokenizerStep::Prepend::always;
  bool metaspace_splits = true;
  bool cleanup = true;  // wordpiece: no blank before punctuation and English contractions

  bool operator==(const DecoderStep&) const = default;
};

struct TokenizerSpec {
  TokenizerModel model = TokenizerModel::byte_level_bpe;
  // Tokens by id, as the model spells them; empty: no token has this id. Added tokens that the
  // vocabulary of the model does not hold are not in it. GGUF spellings may be no UTF-8.
  std::vector<std::string> vocabulary;
  // Pairs of ids, in order of rank. left + right must be in the vocabulary.
  std::vector<std::pair<int32_t, int32_t>> merges;
  std::vector<double> scores;  // by id: scored_bpe, unigram
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::vector<PretokenizerStep> pretokenizer = {PretokenizerStep{}};
  std::vector<DecoderStep> decoder = {DecoderStep{}};
  bool ignore_merges = false;            // a word that is itself a token is that token
  std::string unknown_token;             // for what has no token; may be empty
  bool fuse_unknown = false;             // neighbours without a token are one unknown token
  bool byte_fallback = false;            // what has no token becomes the tokens <0xHH> of its bytes
  std::string continuing_prefix = "##";  // wordpiece
  int64_t longest_word = 100;            // wordpiece: characters; longer ones are unknown
  // Ids that text never becomes, whatever its letters: control, unused and byte tokens of GGUF.
  // Special added tokens need not be named.
  std::vector<int32_t> unmatched;
  // Put around a text when special tokens are asked for (HF TemplateProcessing).
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  // From tokenizer_config.json or GGUF; -1: none.
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t pad_id = -1;
  std::vector<int32_t> end_ids;  // further tokens that end a text (end of turn, of message)
  std::string chat_template;
  std::map<std::string, std::string> named_templates;  // beside it: "tool_use", "rag"
  int64_t model_max_length = 0;                        // tokens; 0: unknown

  bool operator==(const TokenizerSpec&) const = default;
};

// Hash of everything that changes ids (vocabulary, merges, scores, added tokens, rules).
uint64_t fingerprint_of(const TokenizerSpec& spec);

}  // namespace cairn
