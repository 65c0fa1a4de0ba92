// Attention as one SVG picture that people read without a manual.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cairn/attention/mechanism.h"

namespace cairn {

// Weights of one head, or of several made into one.
struct AttentionPanel {
  size_t layer = 0;
  std::string name;          // "layer 3, mean of 8 heads"
  AttentionWeights weights;  // heads = 1
};

struct AttentionPicture {
  std::string title = {};
  std::vector<std::string> tokens;     // as they are to be read
  std::vector<AttentionPanel> panels;  // layer after layer, at least one; all of `tokens` tokens
  std::optional<size_t> query;         // the token whose row is drawn; none: whole matrices
};

// With a query: the text from left to right, a row for each panel and below it one for each of its
// extras. Without: a matrix for each panel, queries downwards and keys to the right; beside it its
// extras where a layer has one panel only. Long texts are drawn in cells of several tokens, of
// which the largest value shows. One scale of colours for all weights, with a legend; the root of a
// weight is what darkens, so that small ones are seen too. Text in the picture is escaped.
std::string draw_attention(const AttentionPicture& picture);

}  // namespace cairn
