#include "cairn/attention/path/options.h"

#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr std::string_view kMaking = "making PaTH attention";

[[noreturn]] void refuse(const std::string& key, std::string expected, std::string found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(kMaking),
               .subject = "option " + key,
               .expected = std::move(expected),
               .found = std::move(found)});
}

double number(const std::string& key, const OptionValue& value) {
  return number_option(kMaking, key, value);
}

size_t whole_number(const std::string& key, const OptionValue& value, size_t least, size_t most) {
  const double found = number(key, value);
  if (!(found >= static_cast<double>(least)) || !(found <= static_cast<double>(most)) ||
      found != std::floor(found))
    refuse(key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
           std::to_string(found));
  return static_cast<size_t>(found);
}

bool flag(const std::string& key, const OptionValue& value) {
  if (const auto* word = std::get_if<bool>(&value)) return *word;
  refuse(key, "true or false", "another type");
}

double positive(const std::string& key, const OptionValue& value, double most) {
  const double found = number(key, value);
  if (!(found > 0) || !(found <= most))
    refuse(key, "a positive number" + (most < 1e30 ? " up to " + std::to_string(most) : ""),
           std::to_string(found));
  return found;
}

}  // namespace

PathOptions parse_path_options(const AttentionOptions& options) {
  PathOptions parsed;
  parsed.gate = options.mechanism == "path_fox";
  for (const auto& [key, value] : options.values) {
    if (key == "path_rank")
      parsed.rank = whole_number(key, value, 0, 4096);
    else if (key == "path_conv")
      parsed.conv = whole_number(key, value, 0, 16);
    else if (key == "path_nh")
      parsed.products = whole_number(key, value, 1, 4);
    else if (key == "beta_max")
      parsed.beta_max = positive(key, value, 2);
    else if (key == "gate_scale" && parsed.gate)
      parsed.gate_scale = positive(key, value, 1e30);
    else if (key == "qk_norm")
      parsed.qk_norm = flag(key, value);
    else if (key == "rope_on_w")
      parsed.rope_on_w = flag(key, value);
    else if (key == "rope_theta")
      parsed.rope_theta = positive(key, value, 1e30);
    else
      refuse(key,
             std::string("path_rank, path_conv, path_nh, beta_max, qk_norm, rope_on_w, "
                         "rope_theta") +
                 (parsed.gate ? ", gate_scale" : " (gate_scale belongs to \"path_fox\")"),
             key);
  }
  return parsed;
}

}  // namespace cairn
