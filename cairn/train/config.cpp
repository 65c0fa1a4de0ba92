#include "cairn/train/config.h"

#include <fmt/core.h>

#include <algorithm>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/json.h"
#include "cairn/io/toml.h"

namespace cairn {
namespace {

constexpr std::string_view kAttention = "model.attention.";

// A value before it is understood: what was written, and where.
struct Written {
  std::string text;
  OptionValue typed;  // for keys whose type is not ours to know
  Origin origin = Origin::file;
  std::string place;  // "train.toml:12:6" or "the command line"
};

std::string range_text(const ConfigKey& key) {
  if (key.high >= 1e15) return "from " + format_real(key.low);
  return fmt::format("from {:g} to {:g}", key.low, key.high);
}

// Stores `text` behind a key's target, or answers what was expected instead.
struct Setter {
  const ConfigKey& key;
  const std::string& text;

  std::string operator()(uint64_t* target) const {
    const auto value = parse_whole(text);
    if (!value || !in_range(static_cast<double>(*value)))
      return "a whole number " + range_text(key) + " (\"64k\", \"500M\" and 1e9 are fine)";
    *target = *value;
    return "";
  }
  std::string operator()(double* target) const {
    const auto value = parse_real(text);
    if (!value || !in_range(*value)) return "a number " + range_text(key);
    *target = *value;
    return "";
  }
  std::string operator()(bool* target) const {
    if (text != "true" && text != "false") return "true or false";
    *target = text == "true";
    return "";
  }
  std::string operator()(std::string* target) const {
    const auto& words = key.words;
    if (!words.empty() && std::find(words.begin(), words.end(), text) == words.end()) {
      std::string list;
      for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
      return "one of " + list;
    }
    *target = text;
    return "";
  }
  std::string operator()(Duration* target) const {
    const auto value = parse_duration(text);
    if (!value || !in_range(value->seconds))
      return "a length of time with its unit, such as \"90s\", \"4m\" or \"2h30m\"";
    *target = *value;
    return "";
  }
  std::string operator()(Portion* target) const {
    const auto value = parse_portion(text);
    if (!value) return "a share such as \"2%\", or \"100 steps\", or \"1M tokens\"";
    *target = *value;
    return "";
  }

 private:
  bool in_range(double value) const { return value >= key.low && value <= key.high; }
};

// A TOML value as text for the setters, and as an option.
Written written(const TomlValue& value, Origin origin, const std::string& place) {
  struct Visitor {
    Written operator()(bool v) const { return {v ? "true" : "false", v}; }
    Written operator()(int64_t v) const { return {std::to_string(v), v}; }
    Written operator()(double v) const { return {format_real(v), v}; }
    Written operator()(const std::string& v) const { return {v, v}; }
    Written operator()(const TomlArray& array) const {
      std::vector<double> numbers;
      for (const TomlValue& element : array) {
        if (const auto* whole = std::get_if<int64_t>(&element.value))
          numbers.push_back(static_cast<double>(*whole));
        else if (const auto* real = std::get_if<double>(&element.value))
          numbers.push_back(*real);
        else
          return {"a list", std::string("a list")};
      }
      return {"a list", numbers};
    }
  };
  Written out = std::visit(Visitor{}, value.value);
  out.origin = origin;
  out.place = place;
  return out;
}

// Fills a TrainConfig key by key, then derives and cross-checks.
class ConfigReader {
 public:
  explicit ConfigReader(TrainConfig& config) : config_(config), keys_(config_keys(config)) {}

  void read(const TomlDocument& document, std::span<const std::string> overrides) {
    for (const auto& [name, value] : document.values)
      set(name, written(value, Origin::file, document.place(value)));
    for (const std::string& text : overrides) read_override(text);
    complete_batch();
    complete_model();
    complete_run();
    check_rewind();
    check_patience();
    check_derived();
  }

 private:
  void read_override(const std::string& text);
  void set(const std::string& name, const Written& value);
  [[noreturn]] void refuse(const std::string& key, const std::string& expected,
                           const std::string& found, const std::string& hint = "") const;
  void derived(const std::string& key) { config_.origins[key] = Origin::derived; }
  uint64_t divide_step(const char* target, const char* by, uint64_t divisor);
  void complete_batch();
  void complete_model();
  void complete_run();
  void check_time_budget() const;
  void check_rewind() const;
  void check_patience() const;
  void check_derived() const;

  TrainConfig& config_;
  std::vector<ConfigKey> keys_;
};

void ConfigReader::refuse(const std::string& key, const std::string& expected,
                          const std::string& found, const std::string& hint) const {
  const auto place = config_.places.find(key);
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading " + (place == config_.places.end() ? config_.name : place->second),
               .subject = key,
               .expected = expected,
               .found = found,
               .hint = hint});
}

void ConfigReader::set(const std::string& name, const Written& value) {
  config_.origins[name] = value.origin;
  config_.places[name] = value.place;
  const auto key =
      std::find_if(keys_.begin(), keys_.end(), [&](const ConfigKey& k) { return k.name == name; });
  if (key != keys_.end()) {
    const std::string expected = std::visit(Setter{*key, value.text}, key->target);
    const std::string hint = key->words.empty() ? key->does : did_you_mean(value.text, key->words);
    if (!expected.empty()) refuse(name, expected, in_quotes(value.text), hint);
    return;
  }
  if (name.starts_with(kAttention)) {  // checked by the mechanism, which knows its own keys
    config_.model.attention.values[name.substr(kAttention.size())] = value.typed;
    return;
  }
  std::vector<std::string> names;
  for (const ConfigKey& k : keys_) names.push_back(k.name);
  const std::string hint = did_you_mean(name, names);
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading " + value.place,
               .subject = name,
               .found = "no such key",
               .hint = hint.empty() ? "cairn train CONFIG --print-config lists all keys" : hint});
}

void ConfigReader::read_override(const std::string& text) {
  const std::string place = "the command line";
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "reading " + place,
                 .subject = text,
                 .expected = "--section.key=value"});
  const std::string value = text.substr(equals + 1);
  Written understood = written(parse_toml_value(value, place), Origin::command_line, place);
  // What was typed, not what TOML made of it: "4m" and 1e9 alike.
  if (value.empty() || value.front() != '"') understood.text = value;
  set(text.substr(0, equals), understood);
}

// batch.tokens_per_step / divisor; `by` names the divisor.
uint64_t ConfigReader::divide_step(const char* target, const char* by, uint64_t divisor) {
  const uint64_t tokens = config_.batch.tokens_per_step;
  if (tokens % divisor != 0 || tokens == 0)
    refuse("batch.tokens_per_step", fmt::format("a multiple of {} ({})", divisor, by),
           std::to_string(tokens),
           fmt::format("{} would do", std::max<uint64_t>(1, tokens / divisor) * divisor));
  derived(target);
  return tokens / divisor;
}

// Two of the three give the third; fewer are filled with what is usual.
void ConfigReader::complete_batch() {
  TrainConfig::BatchSection& b = config_.batch;
  const auto given = [&] {
    return (b.tokens_per_step > 0) + (b.micro_batch > 0) + (b.seq_len > 0);
  };
  if (given() < 2 && b.seq_len == 0) {
    b.seq_len = config_.model.context_length > 0 ? config_.model.context_length : 256;
    derived("batch.seq_len");
  }
  if (given() < 2) {
    b.micro_batch = 16;
    derived("batch.micro_batch");
  }
  if (b.tokens_per_step == 0) {
    b.tokens_per_step = b.micro_batch * b.seq_len;
    derived("batch.tokens_per_step");
  } else if (b.micro_batch == 0) {
    b.micro_batch = divide_step("batch.micro_batch", "batch.seq_len", b.seq_len);
  } else if (b.seq_len == 0) {
    b.seq_len = divide_step("batch.seq_len", "batch.micro_batch", b.micro_batch);
  }
  const uint64_t micro = b.micro_batch * b.seq_len;
  if (b.tokens_per_step % micro != 0 || b.tokens_per_step == 0)
    refuse("batch.tokens_per_step",
           fmt::format("a multiple of micro_batch x seq_len = {} x {} = {}", b.micro_batch,
                       b.seq_len, micro),
           std::to_string(b.tokens_per_step),
           fmt::format("{} would do", std::max<uint64_t>(1, b.tokens_per_step / micro) * micro));
}

void ConfigReader::complete_model() {
  TrainConfig::ModelSection& m = config_.model;
  const auto derive = [&](const char* key, uint64_t& target, uint64_t value) {
    if (target != 0) return;
    target = value;
    derived(key);
  };
  derive("model.kv_heads", m.kv_heads, m.heads);
  if (m.head_dim == 0 && m.hidden_size % m.heads != 0)
    refuse("model.heads", fmt::format("a divisor of hidden_size = {}", m.hidden_size),
           std::to_string(m.heads), "or give model.head_dim");
  derive("model.head_dim", m.head_dim, m.hidden_size / m.heads);
  if (m.heads % m.kv_heads != 0)
    refuse("model.kv_heads", fmt::format("a divisor of heads = {}", m.heads),
           std::to_string(m.kv_heads));
  derive("model.intermediate_size", m.intermediate_size, (m.hidden_size * 8 / 3 + 31) / 32 * 32);
  derive("model.context_length", m.context_length, config_.batch.seq_len);
  if (config_.batch.seq_len > m.context_length)
    refuse("batch.seq_len", fmt::format("at most model.context_length = {}", m.context_length),
           std::to_string(config_.batch.seq_len), "raise model.context_length, or train on less");
}

void ConfigReader::check_time_budget() const {
  const TrainConfig::ScheduleSection& s = config_.schedule;
  if (s.warmup.unit != Portion::Unit::share)
    refuse("schedule.warmup", "a share such as \"2%\" when run.time is given",
           in_quotes(format_portion(s.warmup)),
           "how many steps fit into the time is not known beforehand");
  if (s.decay.unit != Portion::Unit::share)
    refuse("schedule.decay", "a share such as \"10%\" when run.time is given",
           in_quotes(format_portion(s.decay)),
           "how many steps fit into the time is not known beforehand");
}

// What was derived has the same limits as what is given.
void ConfigReader::check_derived() const {
  for (const ConfigKey& key : keys_) {
    uint64_t* const* target = std::get_if<uint64_t*>(&key.target);
    if (target == nullptr) continue;
    const auto value = static_cast<double>(**target);
    if (value < key.low || value > key.high)
      refuse(key.name, "a whole number " + range_text(key), std::to_string(**target), key.does);
  }
}

// Where a rewind goes must not depend on the clock, or a resumed run would go elsewhere.
void ConfigReader::check_rewind() const {
  if (config_.health.on_spike != "rewind") return;
  if (config_.checkpoint.every == 0)
    refuse("checkpoint.every", "at least 1 when health.on_spike is \"rewind\"", "0",
           "a rewind goes back to the last multiple of it");
  if (config_.run.time.seconds > 0)
    refuse("health.on_spike", "\"ignore\", \"skip\" or \"stop\" when run.time is given",
           "\"rewind\"", "or give run.steps or run.tokens");
}

void ConfigReader::check_patience() const {
  if (config_.eval.patience > 0 && config_.eval.every == 0)
    refuse("eval.every", "at least 1 when eval.patience is given", "0",
           "patience counts evaluations on the way");
}

void ConfigReader::complete_run() {
  TrainConfig::RunSection& r = config_.run;
  const int lengths = (r.steps > 0) + (r.tokens > 0) + (r.time.seconds > 0);
  if (lengths != 1)
    refuse("run.steps, run.tokens, run.time", "exactly one of them",
           lengths == 0 ? "none" : std::to_string(lengths) + " of them",
           "how long shall the run be? run.time = \"4m\", say");
  if (r.time.seconds > 0) check_time_budget();
  if (r.tokens > 0 && r.tokens < config_.batch.tokens_per_step)
    refuse("run.tokens",
           fmt::format("at least batch.tokens_per_step = {}", config_.batch.tokens_per_step),
           std::to_string(r.tokens));
  if (r.folder.empty()) {
    const std::string stem = Path(config_.name).stem().string();
    r.folder = "runs/" + (stem.empty() ? "run" : stem);
    derived("run.folder");
  }
  if (r.precision == "auto") {
    r.precision = usable_isa() >= Isa::avx512_bf16 ? "bf16" : "f32";
    derived("run.precision");
  }
}

}  // namespace

Precision TrainConfig::precision() const {
  return run.precision == "bf16" ? Precision::bf16 : Precision::f32;
}

AdamWOptions TrainConfig::adamw() const {
  return {.beta1 = optim.beta1,
          .beta2 = optim.beta2,
          .eps = optim.eps,
          .weight_decay = optim.weight_decay,
          .clip = optim.clip};
}

ModelConfig TrainConfig::model_config(uint64_t vocab_size) const {
  ModelConfig out;
  out.vocab_size = vocab_size;
  out.hidden_size = model.hidden_size;
  out.intermediate_size = model.intermediate_size;
  out.layers = model.layers;
  out.heads = model.heads;
  out.kv_heads = model.kv_heads;
  out.head_dim = model.head_dim;
  out.context_length = model.context_length;
  out.rms_norm_eps = model.rms_norm_eps;
  out.tie_embeddings = model.tie_embeddings;
  out.attention = model.attention;
  return out;
}

TrainConfig parse_config(std::string_view toml, const std::string& name,
                         std::span<const std::string> overrides) {
  TrainConfig config;
  config.name = name;
  ConfigReader reader(config);
  reader.read(parse_toml(toml, name), overrides);
  return config;
}

TrainConfig load_config(const Path& file, std::span<const std::string> overrides) {
  TrainConfig config;
  config.name = file.string();
  ConfigReader reader(config);
  reader.read(read_toml_with_includes(file), overrides);
  return config;
}

}  // namespace cairn
