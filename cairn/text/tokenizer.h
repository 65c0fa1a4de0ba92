// Tokenizers: text to token ids and back. Encodings are those of the HF `tokenizers` library for
// the same tokenizer.json, and of SentencePiece and llama.cpp for their files.
//
//   const Tokenizer tokenizer = load_tokenizer("model");  // tokenizer_json.h
//   std::vector<int32_t> ids = tokenizer.encode("int main()");
//   std::string text = tokenizer.decode(ids);
//
// Any bytes go in: text need not be UTF-8. Byte-level tokenizers give every byte back; others what
// their normalizer and vocabulary keep.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/text/bpe_merges.h"
#include "cairn/text/tokenizer_spec.h"
#include "cairn/text/unigram_model.h"
#include "cairn/text/word_cache.h"

namespace cairn {

struct EncodeOptions {
  // Spellings of special tokens in the text become those tokens. Off for text of users: there they
  // are letters like others, and cannot steer the model.
  bool parse_special = false;
  // Adds the tokenizer's prefix and suffix (beginning and end of sequence, if it has them).
  bool add_special = false;
  // Parts of the text, sorted, in which special tokens are letters even so: what users wrote inside
  // a rendered chat (chat_template.h). Borrowed.
  std::span<const TextRange> plain = {};
};

// Working memory of encode(): keep one a thread and tokenizer when many texts are encoded. Bounded:
// 1.5 MiB of cache, and memory proportional to the longest word.
class EncodeScratch {
  friend class Tokenizer;
  WordCache cache_;
  WordScratch word_;
  UnigramScratch unigram_;
  std::string normalized_;
};

// Immutable after construction; any thread may use all members, each with its own scratch. Copies
// share their parts.
class Tokenizer {
 public:
  // Throws Error (data) when the parts do not fit together: a merge whose result has no id, two
  // tokens of one spelling, ids out of range, scores that are missing, a pattern or map that is
  // not understood.
  explicit Tokenizer(TokenizerSpec spec);

  const TokenizerSpec& spec() const;

  // One more than the largest id: the number of rows an embedding needs.
  size_t vocab_size() const;

  // Appends the tokens of `text` to `ids`.
  void encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch,
              EncodeOptions options = {}) const;
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The bytes of the tokens, joined. Throws Error (usage) for an id out of range. Bytes may not be
  // UTF-8 when the tokens cut a character; StreamDecoder waits for the rest.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // The bytes of one token inside a text; empty for an id that no token has. Throws Error (usage)
  // out of range.
  std::string_view token_bytes(int32_t id) const;

  // Whether a model that says this token has nothing more to say: the end of text, the spec's
  // end_ids, and special tokens that are known to end turns by their spelling (<|im_end|>, ...).
  bool ends_text(int32_t id) const;

  bool is_special(int32_t id) const;

  // The id of an added token's content or of a vocabulary entry's spelling, -1 when there is none.
  int32_t id_of(std::string_view spelling) const;

  // -1: none.
  int32_t bos_id() const { return spec().bos_id; }
  int32_t eos_id() const { return spec().eos_id; }

  // Bytes that encode() leaves out because a byte-level vocabulary has neither them nor an unknown
  // token: 0 but for unusual files.
  size_t bytes_without_token() const;

  // Fingerprint of everything that changes ids (vocabulary, merges, added tokens, rules): written
  // into token shards and checkpoints.
  uint64_t fingerprint() const;

 private:
  friend class StreamDecoder;
  struct Parts;
  void around_user_defined(std::string_view text, std::string_view piece, int32_t id,
                           std::vector<int32_t>& ids, EncodeScratch& scratch) const;
  void encode_between(std::string_view text, bool at_start, std::vector<int32_t>& ids,
                      EncodeScratch& scratch) const;
  void encode_word(std::string_view word, const char* readable, std::vector<int32_t>& ids,
                   EncodeScratch& scratch) const;

  std::shared_ptr<const Parts> parts_;
};

// Turns tokens into text as they come, for printing: never gives half of a UTF-8 character away.
// The pieces and finish() joined are decode() of the same tokens. One thread at a time.
class StreamDecoder {
 public:
  // Borrows the tokenizer. `continues`: the tokens follow others (a prompt), so that a blank before
  // the first word is kept.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false,
                         bool continues = false);

  // What can be shown now: all bytes so far but an incomplete character at the end (at most three
  // bytes are held back). May be empty. Bytes that can never become UTF-8 are not held back.
  std::string push(int32_t id);
  // What was held back.
  std::string finish();

 private:
  friend class Tokenizer;
  void append(int32_t id, std::string& text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_;         // no token came yet
  size_t strip_left_;  // what may still be taken from the start of the text
  std::string held_;
};

}  // namespace cairn
