// The large part of a tokenizer.json: vocabulary and merges of its model, read by simdjson (a
// document object model of 150,000 tokens would take longer than everything else together).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cairn/io/json.h"
#include "cairn/text/tokenizer_spec.h"

namespace cairn {

// Parses the document as strictly as parse_json, fills vocabulary, merges and scores of `spec`, and
// returns everything but model.vocab and model.merges. For a Unigram model, whose vocabulary is an
// array, ids are places in it. Throws Error (data) with line and byte, or the path of the value.
Json read_tokenizer_document(std::string_view text, const std::string& source, TokenizerSpec& spec);

// Ids may have gaps, but not so many that a small file asks for a large table: what they must be
// below, for this number of tokens.
int64_t id_limit(size_t entries);

}  // namespace cairn
