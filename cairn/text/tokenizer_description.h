// A tokenizer's parts in words, for people: `cairn tokenizer info`.
#pragma once

#include <string>
#include <vector>

#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// "byte-level BPE", "SentencePiece BPE (scores)", ...
std::string describe(TokenizerModel model);

// One phrase a step, in order: "digits, each", "split by ...", "NFC", "fuse".
std::vector<std::string> describe(const std::vector<NormalizerStep>& steps);
std::vector<std::string> describe(const std::vector<PretokenizerStep>& steps);
std::vector<std::string> describe(const std::vector<DecoderStep>& steps);

}  // namespace cairn
