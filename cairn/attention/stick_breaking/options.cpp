#include "cairn/attention/stick_breaking/options.h"

#include "cairn/attention/checks.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr std::string_view kMaking = "making stick-breaking attention";
constexpr const char* kKnown =
    "remainder, head_norm, logit_bias, attend_current, exit_threshold, gate_floor";

[[noreturn]] void refuse(const std::string& key, std::string expected, std::string found,
                         std::string hint = {}) {
  throw Error({.kind = ErrorKind::usage,
               .doing = std::string(kMaking),
               .subject = "option " + key,
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = std::move(hint)});
}

StickRemainder remainder_option(const OptionValue& value) {
  const auto* word = std::get_if<std::string>(&value);
  const std::string found = word == nullptr ? "not a string" : *word;
  if (found == "none") return StickRemainder::none;
  if (found == "value") return StickRemainder::value;
  if (found == "head_bias") return StickRemainder::head_bias;
  refuse("remainder", "\"none\", \"value\" or \"head_bias\"", found);
}

bool flag_option(const std::string& key, const OptionValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag;
  refuse(key, "true or false", "another type");
}

float share_option(const std::string& key, const OptionValue& value) {
  const double share = number_option(kMaking, key, value);
  // The comparison is that of the f32 in use: a share that rounds to 1 would leave nothing.
  if (share >= 0 && static_cast<float>(share) < 1) return static_cast<float>(share);
  refuse(key, "a number from 0 to below 1", std::to_string(share));
}

// true, false, or the number from which to start.
void logit_bias_option(const OptionValue& value, StickBreakingOptions& parsed) {
  if (const auto* flag = std::get_if<bool>(&value)) {
    parsed.logit_bias = *flag;
    return;
  }
  parsed.logit_bias = true;
  parsed.logit_bias_start = number_option(kMaking, "logit_bias", value);
  // Beyond 80 either way every gate is 0 or 1 in f32, and none could be learnt.
  if (!(parsed.logit_bias_start >= -80 && parsed.logit_bias_start <= 80))
    refuse("logit_bias", "true, false or a number from -80 to 80",
           std::to_string(parsed.logit_bias_start));
}

[[noreturn]] void refuse_unknown(const std::string& key) {
  const bool position = key.starts_with("rope") || key == "position";
  refuse(key, kKnown, key,
         position ? "stick-breaking attention takes its order from the walk back over the keys; it "
                    "has no positions"
                  : "");
}

}  // namespace

StickBreakingOptions parse_stick_breaking_options(const AttentionOptions& options) {
  StickBreakingOptions parsed;
  for (const auto& [key, value] : options.values) {
    if (key == "remainder")
      parsed.remainder = remainder_option(value);
    else if (key == "head_norm")
      parsed.head_norm = flag_option(key, value);
    else if (key == "logit_bias")
      logit_bias_option(value, parsed);
    else if (key == "attend_current")
      parsed.attend_current = flag_option(key, value);
    else if (key == "exit_threshold")
      parsed.exit_threshold = share_option(key, value);
    else if (key == "gate_floor")
      parsed.gate_floor = share_option(key, value);
    else
      refuse_unknown(key);
  }
  return parsed;
}

}  // namespace cairn
