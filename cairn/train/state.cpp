#include "cairn/train/state.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/hash.h"

namespace cairn {
namespace {

constexpr size_t kRemembered = 64;

void push(std::vector<double>& values, double value) {
  if (values.size() == kRemembered) values.erase(values.begin());
  values.push_back(value);
}

std::vector<double> numbers(const JsonField& field) {
  std::vector<double> out;
  for (const JsonField& element : field.elements()) out.push_back(element.as_number());
  return out;
}

uint64_t from_hex(const JsonField& field) {
  const std::string text = field.as_string();
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data(), end, value, 16);
  if (code != std::errc() || stop != end) field.fail("sixteen hexadecimal digits");
  return value;
}

}  // namespace

void TrainState::remember(double loss, double lr) {
  // A weight of 1/50, with the mean of all losses until there are fifty.
  const double weight = 1.0 / static_cast<double>(std::min<uint64_t>(step, 50));
  loss_average += weight * (loss - loss_average);
  push(last_losses, loss);
  push(last_rates, lr);
}

Json state_to_json(const TrainState& s, const CheckpointFacts& facts) {
  return {{"format", "cairn-trainer-1"},
          {"version", CAIRN_VERSION},
          {"isa", isa_name(usable_isa())},
          {"processor", processor_name()},
          {"data_fingerprint", hex64(facts.data_fingerprint)},
          {"config", facts.config},
          {"step", s.step},
          {"tokens", s.tokens},
          {"sample", s.sample},
          {"elapsed_s", s.elapsed},
          {"position", s.position},
          {"loss_average", s.loss_average},
          {"best_held_out", s.best_held_out},
          {"best_step", s.best_step},
          {"evaluated", s.evaluated},
          {"skipped", s.skipped},
          {"skips_in_a_row", s.skips_in_a_row},
          {"rewinds", s.rewinds},
          {"stale", s.stale},
          {"window", s.window},
          {"norm_window", s.norm_window},
          {"last_losses", s.last_losses},
          {"last_rates", s.last_rates}};
}

TrainState state_from_json(const Json& json, const std::string& source, CheckpointFacts& facts) {
  const JsonField root(json, source);
  if (const JsonField format = root.member("format"); format.as_string() != "cairn-trainer-1")
    format.fail("cairn-trainer-1", "this checkpoint is from another version of Cairn");
  const auto whole = [&](const char* name) {
    return static_cast<uint64_t>(root.member(name).as_integer(0));
  };
  facts.data_fingerprint = from_hex(root.member("data_fingerprint"));
  facts.config = root.member("config").as_string();
  TrainState s;
  s.step = whole("step");
  s.tokens = whole("tokens");
  s.sample = whole("sample");
  s.elapsed = root.member("elapsed_s").as_number();
  s.position = root.member("position").as_number();
  s.loss_average = root.member("loss_average").as_number();
  s.best_held_out = root.member("best_held_out").as_number();
  s.best_step = whole("best_step");
  s.evaluated = root.member("evaluated").as_bool();
  s.skipped = whole("skipped");
  s.skips_in_a_row = whole("skips_in_a_row");
  s.rewinds = whole("rewinds");
  s.stale = whole("stale");
  if (s.skipped > s.step) root.member("skipped").fail("at most the steps");
  s.window = numbers(root.member("window"));
  s.norm_window = numbers(root.member("norm_window"));
  s.last_losses = numbers(root.member("last_losses"));
  s.last_rates = numbers(root.member("last_rates"));
  return s;
}

}  // namespace cairn
