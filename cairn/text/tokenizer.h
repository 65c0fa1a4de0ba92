// Byte-level BPE tokenizers: text to token ids and back. Encodings are those of the HF
// `tokenizers` library for the same tokenizer.json.
//
//   const Tokenizer tokenizer = load_tokenizer("model/tokenizer.json");  // tokenizer_json.h
//   std::vector<int32_t> ids = tokenizer.encode("int main()");
//   std::string text = tokenizer.decode(ids);
//
// Any bytes go in and come out again: text need not be UTF-8.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cairn/text/added_tokens.h"
#include "cairn/text/bpe_merges.h"
#include "cairn/text/pretokenizer.h"
#include "cairn/text/word_cache.h"

namespace cairn {

// What a tokenizer is: plain data, made by the trainer or read from files.
struct TokenizerSpec {
  // Tokens by id, spelled in the byte-level alphabet (byte_level.h); empty: no token has this id.
  // Added tokens that the vocabulary of the model does not hold are not in it.
  std::vector<std::string> vocabulary;
  // Pairs of ids, in order of rank. left + right must be in the vocabulary.
  std::vector<std::pair<int32_t, int32_t>> merges;
  std::vector<AddedToken> added;
  std::vector<PretokenizerStep> pretokenizer = Pretokenizer::gpt2();
  bool add_prefix_space = false;  // a text that starts without a blank gets one
  bool ignore_merges = false;     // a word that is itself a token is that token
  std::string unknown_token;      // for bytes that have no token; may be empty when all have
  // Put around a text when special tokens are asked for (HF TemplateProcessing).
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  // From tokenizer_config.json; -1: none.
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  int32_t pad_id = -1;
  std::string chat_template;
  int64_t model_max_length = 0;  // tokens; 0: unknown

  bool operator==(const TokenizerSpec&) const = default;
};

struct EncodeOptions {
  // Spellings of special tokens in the text become those tokens. Off for text of users: there they
  // are letters like others, and cannot steer the model.
  bool parse_special = false;
  // Adds the tokenizer's prefix and suffix (beginning and end of sequence, if it has them).
  bool add_special = false;
};

// Working memory of encode(): keep one a thread and tokenizer when many texts are encoded. Bounded:
// 1.5 MiB of cache, and memory proportional to the longest word.
class EncodeScratch {
  friend class Tokenizer;
  WordCache cache_;
  WordScratch word_;
};

// Ids by string; looked up by view without a copy.
struct StringViewHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using StringIds = std::unordered_map<std::string, int32_t, StringViewHash, std::equal_to<>>;

// Immutable after construction; any thread may use all members, each with its own scratch.
class Tokenizer {
 public:
  // Throws Error (data) when the parts do not fit together: a merge whose result has no id, two
  // tokens of one spelling, ids out of range, bytes without a token and no unknown token.
  explicit Tokenizer(TokenizerSpec spec);

  const TokenizerSpec& spec() const { return spec_; }

  // One more than the largest id: the number of rows an embedding needs.
  size_t vocab_size() const { return bytes_.size(); }

  // Appends the tokens of `text` to `ids`.
  void encode(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch,
              EncodeOptions options = {}) const;
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The bytes of the tokens, joined. Throws Error (usage) for an id out of range. Bytes may not be
  // UTF-8 when the tokens cut a character; StreamDecoder waits for the rest.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // The bytes of one token; empty for an id that no token has. Throws Error (usage) out of range.
  std::string_view token_bytes(int32_t id) const;

  bool is_special(int32_t id) const;

  // The id of an added token's content or of a vocabulary entry's spelling, -1 when there is none.
  int32_t id_of(std::string_view spelling) const;

  // -1: none.
  int32_t bos_id() const { return spec_.bos_id; }
  int32_t eos_id() const { return spec_.eos_id; }

  // Fingerprint of everything that changes ids (vocabulary, merges, added tokens, rules): written
  // into token shards and checkpoints.
  uint64_t fingerprint() const { return fingerprint_; }

 private:
  void index_vocabulary();
  void index_merges();
  void index_added();
  void check_special_ids() const;
  uint64_t compute_fingerprint() const;
  void encode_plain(std::string_view text, std::vector<int32_t>& ids, EncodeScratch& scratch) const;
  void encode_segment(std::string_view text, std::vector<int32_t>& ids,
                      EncodeScratch& scratch) const;
  void encode_one(std::string_view word, std::vector<int32_t>& ids, EncodeScratch& scratch) const;

  TokenizerSpec spec_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_;       // by id
  StringIds ids_;                   // by spelling, the vocabulary only
  StringIds added_ids_;             // by content
  StringIds words_;                 // by bytes, for ignore_merges only
  std::array<int32_t, 256> byte_ids_{};
  MergeTable merges_ = MergeTable(0);
  Pretokenizer pretokenizer_;
  AddedTokenMatcher raw_added_;         // looked for first
  AddedTokenMatcher normalized_added_;  // looked for in what is left
  uint64_t fingerprint_ = 0;
};

// Turns tokens into text as they come, for printing: never gives half of a UTF-8 character away.
// The pieces and finish() joined are decode() of the same tokens. One thread at a time.
class StreamDecoder {
 public:
  // Borrows the tokenizer.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // What can be shown now: all bytes so far but an incomplete character at the end (at most three
  // bytes are held back). May be empty. Bytes that can never become UTF-8 are not held back.
  std::string push(int32_t id);
  // What was held back.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;
};

}  // namespace cairn
