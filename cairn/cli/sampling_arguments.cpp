#include "cairn/cli/sampling_arguments.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "cairn/base/error.h"
#include "cairn/infer/sampling_settings.h"

namespace cairn {
namespace {

// What the program takes when neither the command line nor the model says otherwise: what users of
// llama.cpp are used to.
SamplingOptions program_defaults() {
  SamplingOptions options;
  options.temperature = 0.8;
  options.top_k = 40;
  options.top_p = 0.95;
  options.min_p = 0.05;
  return options;
}

std::string flag_of(const SamplingSetting& setting) {
  std::string flag = "--" + std::string(setting.name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  if (setting.name == "temperature") flag += ",--temp";
  if (setting.name == "repetition_penalty") flag += ",--repeat-penalty";
  if (setting.name == "repetition_window") flag += ",--repeat-last-n";
  return flag;
}

LogitBias read_bias(const std::string& text) {
  LogitBias bias{};
  const char* end = text.data() + text.size();
  const auto [equals, code] = std::from_chars(text.data(), end, bias.id);
  if (code == std::errc() && equals != end && *equals == '=') {
    const auto [rest, bad] = std::from_chars(equals + 1, end, bias.bias);
    if (bad == std::errc() && rest == end) return bias;
  }
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the command line",
               .subject = "--logit-bias",
               .expected = "ID=BIAS, as in 42=-5 or 42=-inf",
               .found = "\"" + text + "\""});
}

}  // namespace

SamplingArguments::SamplingArguments() : values_(sampling_settings().size()) {}

void SamplingArguments::declare(Arguments& arguments) {
  const SamplingOptions defaults = program_defaults();
  for (size_t i = 0; i < values_.size(); ++i) {
    const SamplingSetting& setting = sampling_settings()[i];
    arguments.option(flag_of(setting),
                     fmt::format("{} [{:g}]", setting.help, setting.get(defaults)), values_[i]);
  }
  arguments.option("--logit-bias", "ID=BIAS adds to a token's logit; may be given several times",
                   biases_);
}

void SamplingArguments::apply(SamplingOptions& options) const {
  for (size_t i = 0; i < values_.size(); ++i)
    if (values_[i]) set_sampling(options, sampling_settings()[i].name, *values_[i]);
  for (const std::string& text : biases_) options.logit_bias.push_back(read_bias(text));
}

void SamplingArguments::check() const {
  SamplingOptions options;
  apply(options);
}

SamplingOptions SamplingArguments::resolve(const GenerationDefaults& model) const {
  SamplingOptions options = program_defaults();
  model.apply(options);
  apply(options);
  return options;
}

}  // namespace cairn
