#include "cairn/infer/sampling_settings.h"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/suggest.h"

namespace cairn {
namespace {

using Options = SamplingOptions;

template <auto Member>
constexpr SamplingSetting setting(std::string_view name, std::string_view help,
                                  std::string_view expected, bool (*good)(double)) {
  using Value = std::remove_reference_t<decltype(std::declval<Options&>().*Member)>;
  return {name,
          help,
          expected,
          std::is_integral_v<Value>,
          [](const Options& options) { return static_cast<double>(options.*Member); },
          [](Options& options, double value) { options.*Member = static_cast<Value>(value); },
          good};
}

bool not_negative(double value) {
  return value >= 0 && std::isfinite(value);
}
bool above_zero(double value) {
  return value > 0 && std::isfinite(value);
}
bool share(double value) {
  return value >= 0 && value <= 1;
}
bool share_above_zero(double value) {
  return value > 0 && value <= 1;
}
bool any_penalty(double value) {
  return std::abs(value) <= 1000;
}
bool at_least_one(double value) {
  return value >= 1 && std::isfinite(value);
}

constexpr std::array kSettings = {
    setting<&Options::temperature>("temperature", "0 always takes the likeliest token",
                                   "0 (greedy) or more", not_negative),
    setting<&Options::top_k>("top_k", "draw among the K likeliest tokens; 0: all",
                             "0 (all) or more", not_negative),
    setting<&Options::top_p>("top_p", "draw among the likeliest that sum to P; 1: all",
                             "above 0, to 1 (all)", share_above_zero),
    setting<&Options::min_p>("min_p", "only tokens P times as likely as the likeliest; 0: all",
                             "0 (all) to 1", share),
    setting<&Options::typical_p>("typical_p", "draw among the most typical that sum to P; 1: all",
                                 "above 0, to 1 (all)", share_above_zero),
    setting<&Options::top_n_sigma>(
        "top_n_sigma", "only logits within N standard deviations of the highest; 0: all",
        "0 (all) or more", not_negative),
    setting<&Options::xtc_probability>(
        "xtc_probability", "how often the likeliest tokens are left out (XTC); 0: never",
        "0 (never) to 1", share),
    setting<&Options::xtc_threshold>(
        "xtc_threshold", "tokens at least this likely count as top choices (XTC)", "0 to 1", share),
    setting<&Options::repetition_penalty>("repetition_penalty",
                                          "above 1 disfavours tokens of the window",
                                          "above 0 (1: none)", above_zero),
    setting<&Options::presence_penalty>("presence_penalty",
                                        "taken off the logit of each token of the window",
                                        "-1000 to 1000 (0: none)", any_penalty),
    setting<&Options::frequency_penalty>(
        "frequency_penalty", "taken off the logit for each time a token is in the window",
        "-1000 to 1000 (0: none)", any_penalty),
    setting<&Options::repetition_window>("repetition_window",
                                         "tokens that the penalties look back; 0: all",
                                         "0 (all) or more", not_negative),
    setting<&Options::dry_multiplier>("dry_multiplier",
                                      "strength against repeating sequences (DRY); 0: none",
                                      "0 (none) or more", not_negative),
    setting<&Options::dry_base>("dry_base", "growth of that with each repeated token", "1 or more",
                                at_least_one),
    setting<&Options::dry_allowed_length>("dry_allowed_length",
                                          "tokens that may be repeated before that begins",
                                          "1 or more", at_least_one),
    setting<&Options::dry_window>("dry_window", "tokens that DRY looks back; 0: all",
                                  "0 (all) or more", not_negative),
    setting<&Options::seed>("seed", "the same seed gives the same text", "0 or more", not_negative),
};

void check(const SamplingSetting& setting, double value) {
  if (setting.good(value) && !(setting.whole && value != std::floor(value))) return;
  throw Error(
      {.kind = ErrorKind::usage,
       .doing = "preparing to sample",
       .subject = std::string(setting.name),
       .expected = std::string(setting.expected) + (setting.whole ? ", a whole number" : ""),
       .found = fmt::format("{}", value)});
}

}  // namespace

std::span<const SamplingSetting> sampling_settings() {
  return kSettings;
}

const SamplingSetting* find_sampling_setting(std::string_view name) {
  for (const SamplingSetting& setting : kSettings)
    if (setting.name == name) return &setting;
  return nullptr;
}

void set_sampling(SamplingOptions& options, std::string_view name, double value) {
  const SamplingSetting* setting = find_sampling_setting(name);
  if (setting == nullptr) {
    std::vector<std::string> names;
    for (const SamplingSetting& known : kSettings) names.emplace_back(known.name);
    throw Error({.kind = ErrorKind::usage,
                 .doing = "preparing to sample",
                 .subject = fmt::format("no setting \"{}\"", name),
                 .hint = did_you_mean(std::string(name), names)});
  }
  check(*setting, value);
  setting->set(options, value);
}

void check_sampling(const SamplingOptions& options) {
  for (const SamplingSetting& setting : kSettings) {
    if (setting.name == "seed") continue;  // any 64 bits are good
    check(setting, setting.get(options));
  }
}

}  // namespace cairn
