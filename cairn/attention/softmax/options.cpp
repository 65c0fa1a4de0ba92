#include "cairn/attention/softmax/options.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "cairn/attention/checks.h"

namespace cairn {
namespace {

constexpr size_t kMostTokens = size_t{1} << 24;

std::string listed(const std::vector<std::string>& words, const char* quote) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : ", ") + (quote + word + quote);
  return list;
}

// Of the norm of queries and keys.
bool read_norm(std::string_view doing, const std::string& key, const OptionValue& value,
               SoftmaxOptions& parsed) {
  if (key == "qk_norm") {
    const auto* flag = std::get_if<bool>(&value);
    if (flag == nullptr) refuse(doing, "option " + key, "true or false", "another value");
    parsed.qk_norm = *flag;
  } else if (key == "qk_norm_eps") {
    parsed.qk_norm_eps = real_option(doing, key, value, 1e-12, 1);
  } else if (key == "qk_norm_offset") {
    parsed.qk_norm_offset = real_option(doing, key, value, 0, 1);
  } else {
    return false;
  }
  return true;
}

// What an option of the rotary scaling changes.
bool read_scaling(std::string_view doing, const std::string& key, const OptionValue& value,
                  RotaryScaling& scaling) {
  using Kind = RotaryScaling::Kind;
  if (key == "rope_scaling") {
    const std::vector<std::string> words = {"none", "linear",  "ntk",     "llama3",
                                            "yarn", "dynamic", "longrope"};
    const std::string word = word_option(doing, key, value, words);
    scaling.kind = static_cast<Kind>(std::find(words.begin(), words.end(), word) - words.begin());
  } else if (key == "rope_factor") {
    scaling.factor = real_option(doing, key, value, 1, 1e6);
  } else if (key == "rope_low_freq_factor") {
    scaling.low_turns = real_option(doing, key, value, 1e-6, 1e6);
  } else if (key == "rope_high_freq_factor") {
    scaling.high_turns = real_option(doing, key, value, 1e-6, 1e6);
  } else if (key == "rope_original_context") {
    scaling.original_context = static_cast<double>(whole_option(doing, key, value, 1, kMostTokens));
  } else if (key == "rope_beta_fast") {
    scaling.fast_turns = real_option(doing, key, value, 1e-6, 1e6);
  } else if (key == "rope_beta_slow") {
    scaling.slow_turns = real_option(doing, key, value, 1e-6, 1e6);
  } else if (key == "rope_attention_factor") {
    scaling.attention_factor = real_option(doing, key, value, 1e-6, 1e6);
  } else if (key == "rope_short_factors" || key == "rope_long_factors") {
    const auto* numbers = std::get_if<std::vector<double>>(&value);
    if (numbers == nullptr) refuse(doing, "option " + key, "an array of numbers", "another value");
    for (const double number : *numbers) real_option(doing, key, number, 1e-6, 1e6);
    (key == "rope_short_factors" ? scaling.short_factors : scaling.long_factors) = *numbers;
  } else {
    return false;
  }
  return true;
}

void check_rotary(std::string_view doing, const SoftmaxOptions& parsed) {
  using Kind = RotaryScaling::Kind;
  const RotaryScaling& scaling = parsed.rope_scaling;
  const size_t dim = parsed.rope_dim;
  if (dim % 2 != 0)
    refuse(doing, "head_dim or option rope_dim",
           "an even number for position \"rope\" (or another position)", std::to_string(dim));
  if ((scaling.kind == Kind::ntk || scaling.kind == Kind::dynamic) && dim < 4)
    refuse(doing, "head_dim or option rope_dim", "4 or more for this rope_scaling",
           std::to_string(dim));
  if (!(scaling.high_turns > scaling.low_turns))
    refuse(doing, "option rope_high_freq_factor",
           "more than rope_low_freq_factor (" + std::to_string(scaling.low_turns) + ")",
           std::to_string(scaling.high_turns));
  if (scaling.kind != Kind::longrope) return;
  if (!(scaling.original_context > 1))
    refuse(doing, "option rope_original_context", "2 or more for rope_scaling \"longrope\"", "1");
  for (const auto* factors : {&scaling.short_factors, &scaling.long_factors})
    if (factors->size() != dim / 2)
      refuse(doing, "options rope_short_factors and rope_long_factors",
             std::to_string(dim / 2) + " numbers each, one for two rotated dimensions",
             std::to_string(factors->size()));
}

void check_together(std::string_view doing, const SoftmaxOptions& parsed) {
  if (parsed.qk_norm && parsed.qk_conv > 0)
    refuse(doing, "option qk_norm", "false where qk_conv is not 0", "true");
  if (parsed.position == PositionKind::rope) check_rotary(doing, parsed);
}

}  // namespace

double real_option(std::string_view doing, const std::string& key, const OptionValue& value,
                   double low, double high) {
  const double number = number_option(doing, key, value);
  if (!(number >= low) || !(number <= high))
    refuse(doing, "option " + key,
           "a positive number from " + std::to_string(low) + " to " + std::to_string(high),
           std::to_string(number));
  return number;
}

size_t whole_option(std::string_view doing, const std::string& key, const OptionValue& value,
                    size_t low, size_t high) {
  const double number = number_option(doing, key, value);
  if (number == std::floor(number) && number >= static_cast<double>(low) &&
      number <= static_cast<double>(high))
    return static_cast<size_t>(number);
  refuse(doing, "option " + key,
         "a whole number from " + std::to_string(low) + " to " + std::to_string(high),
         std::to_string(number));
}

std::string word_option(std::string_view doing, const std::string& key, const OptionValue& value,
                        const std::vector<std::string>& words) {
  const auto* word = std::get_if<std::string>(&value);
  if (word == nullptr || std::find(words.begin(), words.end(), *word) == words.end())
    refuse(doing, "option " + key, "one of " + listed(words, "\""),
           word == nullptr ? "not a string" : *word);
  return *word;
}

SoftmaxOptions read_softmax_options(std::string_view doing, const AttentionOptions& options,
                                    const AttentionGeometry& geometry, PositionKind position,
                                    const std::set<std::string>& others) {
  SoftmaxOptions parsed{.position = position, .rope_dim = geometry.head_dim};
  for (const auto& [key, value] : options.values) {
    if (others.count(key) > 0) continue;
    if (key == "position") {
      const std::string word = word_option(doing, key, value, {"rope", "alibi", "none"});
      parsed.position = word == "rope"    ? PositionKind::rope
                        : word == "alibi" ? PositionKind::alibi
                                          : PositionKind::none;
    } else if (key == "rope_theta") {
      parsed.rope_theta = real_option(doing, key, value, 1e-6, 1e18);
    } else if (key == "rope_dim") {
      parsed.rope_dim = whole_option(doing, key, value, 2, geometry.head_dim);
    } else if (key == "window") {
      parsed.window = whole_option(doing, key, value, 0, kMostTokens);
    } else if (key == "qk_conv") {
      parsed.qk_conv = whole_option(doing, key, value, 0, 16);
    } else if (!read_norm(doing, key, value, parsed) &&
               !read_scaling(doing, key, value, parsed.rope_scaling)) {
      std::vector<std::string> known = {"position",
                                        "rope_theta",
                                        "rope_dim",
                                        "rope_scaling",
                                        "rope_factor",
                                        "rope_low_freq_factor",
                                        "rope_high_freq_factor",
                                        "rope_original_context",
                                        "rope_beta_fast",
                                        "rope_beta_slow",
                                        "rope_attention_factor",
                                        "rope_short_factors",
                                        "rope_long_factors",
                                        "window",
                                        "qk_conv",
                                        "qk_norm",
                                        "qk_norm_eps",
                                        "qk_norm_offset"};
      known.insert(known.end(), others.begin(), others.end());
      refuse(doing, "option " + key, listed(known, ""), key);
    }
  }
  check_together(doing, parsed);
  return parsed;
}

RotaryTable SoftmaxOptions::rotary_table(size_t context) const {
  return RotaryTable(rotary_frequencies(rope_dim, rope_theta, rope_scaling, context), context,
                     rope_scaling.growth());
}

std::vector<double> alibi_slopes(size_t heads) {
  const size_t power = std::bit_floor(heads);
  std::vector<double> slopes;
  for (size_t h = 1; h <= power; ++h)
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(power)));
  for (size_t h = 1; slopes.size() < heads; h += 2)
    slopes.push_back(std::exp2(-8.0 * static_cast<double>(h) / static_cast<double>(2 * power)));
  return slopes;
}

}  // namespace cairn
