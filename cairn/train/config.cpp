#include "cairn/train/config.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cairn/attention/checks.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/suggest.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

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
  struct Text {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return format_real(v); }
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(const std::vector<double>&) const { return "a list"; }
  };
  OptionValue typed = option_value(value);
  std::string text = std::visit(Text{}, typed);
  return {std::move(text), std::move(typed), origin, place};
}

// Fills a TrainConfig key by key, then derives and cross-checks.
class ConfigReader {
 public:
  explicit ConfigReader(TrainConfig& config) : config_(config), keys_(config_keys(config)) {}

  void read(const TomlDocument& document, std::span<const std::string> overrides) {
    for (const auto& [name, value] : document.values)
      set(name, written(value, Origin::file, document.place(value)));
    for (const std::string& text : overrides) read_override(text);
    complete_data();
    complete_batch();
    complete_model();
    complete_run();
    check_rewind();
    check_patience();
    check_derived();
    check_attention();
  }

 private:
  void read_override(const std::string& text);
  void set(const std::string& given, const Written& value);
  [[noreturn]] void refuse(const std::string& key, const std::string& expected,
                           const std::string& found, const std::string& hint = "") const;
  void derived(const std::string& key) { config_.origins[key] = Origin::derived; }
  uint64_t divide_step(const char* target, const char* by, uint64_t divisor);
  void complete_data();
  void complete_batch();
  void complete_model();
  void check_attention() const;
  [[noreturn]] void refuse_option(const std::string& prefix, const Error& error) const;
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

void ConfigReader::set(const std::string& given, const Written& value) {
  std::string name = given;
  for (const OptionTable& table : option_tables(config_))
    if (given + "." == table.prefix) name = table.name_key;
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
  for (const OptionTable& table : option_tables(config_)) {
    if (!name.starts_with(table.prefix)) continue;
    (*table.values)[name.substr(table.prefix.size())] = value.typed;
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

// What a mechanism or a task says about its options, with the place they came from.
void ConfigReader::refuse_option(const std::string& prefix, const Error& error) const {
  Problem problem = error.problem();
  std::string place = config_.name;
  for (const auto& [key, where] : config_.places)
    if (key.starts_with(prefix) && problem.subject.ends_with(key.substr(prefix.size())))
      place = where;
  problem.doing = "reading " + place + ", " + problem.doing;
  throw Error(std::move(problem));
}

// A task is as long as it is.
void ConfigReader::complete_data() {
  const TaskOptions& options = config_.data.task;
  if (options.name.empty() && options.values.empty()) return;
  if (!config_.data.folder.empty())
    refuse("data.task", "data.task or data.folder", "both", "a run has one source of data");
  try {
    const uint64_t length = make_task(options)->length();
    if (config_.batch.seq_len != 0 && config_.batch.seq_len != length)
      refuse("batch.seq_len", fmt::format("the length of the task, {}", length),
             std::to_string(config_.batch.seq_len), "it need not be given");
    if (config_.batch.seq_len == 0) derived("batch.seq_len");
    config_.batch.seq_len = length;
  } catch (const Error& error) {
    if (error.problem().subject == "batch.seq_len") throw;
    refuse_option("data.task.", error);
  }
}

// The mechanism reads its options now, not when data has been opened.
void ConfigReader::check_attention() const {
  const TrainConfig::ModelSection& m = config_.model;
  const AttentionGeometry geometry{.hidden_size = m.hidden_size,
                                   .heads = m.heads,
                                   .kv_heads = m.kv_heads,
                                   .head_dim = m.head_dim,
                                   .value_dim = m.head_dim};
  try {
    check_causal("choosing attention", *make_attention(m.attention, geometry, 1));
  } catch (const Error& error) {
    refuse_option("model.attention.", error);
  }
}

// One over the root of what a weight's sum runs over keeps the size of activations, whatever the
// width; 0.02, usual for wide models, starts narrow ones so quietly that they learn late.
double default_init_std(uint64_t hidden_size) {
  return std::max(0.02, 1 / std::sqrt(static_cast<double>(hidden_size)));
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
  if (m.init_std == 0) {
    m.init_std = default_init_std(m.hidden_size);
    derived("model.init_std");
  }
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

OptionValue option_value(const TomlValue& value) {
  struct Visitor {
    OptionValue operator()(bool v) const { return v; }
    OptionValue operator()(int64_t v) const { return v; }
    OptionValue operator()(double v) const { return v; }
    OptionValue operator()(const std::string& v) const { return v; }
    OptionValue operator()(const TomlArray& array) const {
      std::vector<double> numbers;
      for (const TomlValue& element : array) {
        if (const auto* whole = std::get_if<int64_t>(&element.value))
          numbers.push_back(static_cast<double>(*whole));
        else if (const auto* real = std::get_if<double>(&element.value))
          numbers.push_back(*real);
        else
          return std::string("a list");
      }
      return numbers;
    }
  };
  return std::visit(Visitor{}, value.value);
}

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
  if (model.experts == 0) return out;
  out.experts = model.experts;
  out.experts_per_token = model.experts_per_token;
  out.shared_intermediate_size = model.shared_intermediate_size;
  out.router_loss = model.router_loss;
  // The family whose files can say it; they name the scale of scores.
  out.architecture = model.shared_intermediate_size == 0 ? "granitemoe" : "granitemoeshared";
  out.attention_scale = 1 / std::sqrt(static_cast<double>(model.head_dim));
  return out;
}

TrainConfig parse_config(std::string_view toml, const std::string& name,
                         std::span<const std::string> overrides) {
  return make_config(parse_toml(toml, name), overrides);
}

TrainConfig make_config(const TomlDocument& document, std::span<const std::string> overrides) {
  TrainConfig config;
  config.name = document.source;
  ConfigReader reader(config);
  reader.read(document, overrides);
  return config;
}

TrainConfig load_config(const Path& file, std::span<const std::string> overrides) {
  return make_config(read_toml_with_includes(file), overrides);
}

}  // namespace cairn
