// SentencePiece model files (spiece.model, tokenizer.model; Kudo and Richardson 2018,
// arXiv:1808.06226): the vocabularies of T5, Llama 2, Gemma and others, as TokenizerSpecs and back.
//
// They are read here rather than by libsentencepiece. The file is one protobuf message of which a
// tokenizer needs fifteen fields, and models of scores are at home already (unigram_model.h,
// bpe_model.h): the library would be a second tokenizer beside ours that special tokens, streamed
// decoding and grammars could not see into, and it keeps the vocabulary's class to itself. What
// comes out is held equal to the library in tests (tests/text, tests/python).
//
// Ids, pieces and scores are the file's. Text is normalized as the library does it: user-defined
// pieces pass as they are, only a whole text gets a blank in front and loses those at its ends.
// Text that is not UTF-8 keeps its bytes (the library puts U+FFFD in their place). Behind a
// user-defined piece, unigram cuts of exactly equal score may fall otherwise: the library's
// rounding decides there.
#pragma once

#include <string>
#include <string_view>

#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Reads the bytes of a model file; `source` is what errors call it. The spec puts an end of text
// behind unigram texts and a beginning before BPE texts, as T5 and Llama do: the file does not say.
// Throws Error (data) with the byte or the field: not such a file, cut off, a model of words or
// characters, an option that changes the meaning of blanks.
TokenizerSpec parse_sentencepiece(std::string_view bytes, const std::string& source);

// Whether `spec` is a SentencePiece model, which a tokenizer.json could not hold exactly.
bool is_sentencepiece(const TokenizerSpec& spec);

// The file of such a spec; reading it gives an equal one, but for what tokenizer_config.json says
// (added tokens beyond the vocabulary, prefix and suffix, chat template).
std::string sentencepiece_model(const TokenizerSpec& spec);

}  // namespace cairn
