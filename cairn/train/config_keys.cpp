// The list of keys, and what walks it: printing and comparing.
#include <fmt/core.h>

#include <algorithm>

#include "cairn/train/config.h"

namespace cairn {
namespace {

constexpr double kMillion = 1e6;

void add_model_keys(TrainConfig::ModelSection& m, std::vector<ConfigKey>& keys) {
  const auto size = [&](const char* name, const char* does, uint64_t* target, double low,
                        double high) {
    keys.push_back(
        {.name = name, .does = does, .target = target, .low = low, .high = high, .fixed = true});
  };
  size("model.hidden_size", "width of the residual stream", &m.hidden_size, 1, 65536);
  size("model.layers", "number of blocks", &m.layers, 1, 1024);
  size("model.heads", "query heads a layer", &m.heads, 1, 4096);
  size("model.kv_heads", "key and value heads; 0: as many as heads", &m.kv_heads, 0, 4096);
  size("model.head_dim", "width of a head; 0: hidden_size / heads", &m.head_dim, 0, 256);
  size("model.intermediate_size", "width of the MLP; 0: 8/3 of hidden_size", &m.intermediate_size,
       0, kMillion);
  size("model.context_length", "longest sequence the model is for; 0: batch.seq_len",
       &m.context_length, 0, 1e8);
  size("model.experts", "a mixture of so many in place of the MLP; 0: none", &m.experts, 0, 4096);
  size("model.experts_per_token", "experts that each token takes", &m.experts_per_token, 1, 4096);
  size("model.shared_intermediate_size", "width of one more expert for every token; 0: none",
       &m.shared_intermediate_size, 0, kMillion);
  keys.push_back({.name = "model.router_loss",
                  .does = "weight of the loss that balances experts",
                  .target = &m.router_loss,
                  .low = 0,
                  .high = 1000,
                  .fixed = true});
  keys.push_back({.name = "model.rms_norm_eps",
                  .does = "added to the mean square",
                  .target = &m.rms_norm_eps,
                  .low = 0,
                  .high = 1,
                  .fixed = true});
  keys.push_back({.name = "model.init_std",
                  .does = "standard deviation of the first weights; 0: 1 / sqrt(hidden_size), but "
                          "not below 0.02",
                  .target = &m.init_std,
                  .low = 0,
                  .high = 10,
                  .fixed = true});
  keys.push_back({.name = "model.tie_embeddings",
                  .does = "the head is the embedding",
                  .target = &m.tie_embeddings,
                  .fixed = true});
  keys.push_back({.name = "model.attention.mechanism",
                  .does = "which attention",
                  .target = &m.attention.mechanism,
                  .fixed = true});
}

void add_data_keys(TrainConfig& c, std::vector<ConfigKey>& keys) {
  keys.push_back(
      {.name = "data.folder", .does = "what `cairn data pack` wrote", .target = &c.data.folder});
  keys.push_back({.name = "data.cross_document_attention",
                  .does = "whether a token may attend to earlier documents of its window",
                  .target = &c.data.cross_document_attention,
                  .words = {"allow", "mask"},
                  .ask = true});
  keys.push_back({.name = "data.seed",
                  .does = "order of the samples",
                  .target = &c.data.seed,
                  .high = 0x1p53,
                  .ask = true});
  keys.push_back({.name = "data.task.name",
                  .does = "a synthetic task in place of a folder",
                  .target = &c.data.task.name,
                  .fixed = true});
  keys.push_back({.name = "batch.tokens_per_step",
                  .does = "tokens an optimiser step",
                  .target = &c.batch.tokens_per_step,
                  .high = 1e10,
                  .ask = true});
  keys.push_back({.name = "batch.micro_batch",
                  .does = "sequences computed at once",
                  .target = &c.batch.micro_batch,
                  .high = kMillion});
  keys.push_back({.name = "batch.seq_len",
                  .does = "tokens a sequence",
                  .target = &c.batch.seq_len,
                  .high = 1e8,
                  .fixed = true});
}

void add_optim_keys(TrainConfig& c, std::vector<ConfigKey>& keys) {
  const auto real = [&](const char* name, const char* does, double* target, double low,
                        double high) {
    keys.push_back(
        {.name = name, .does = does, .target = target, .low = low, .high = high, .ask = true});
  };
  real("optim.lr", "highest learning rate", &c.optim.lr, 1e-12, 10);
  real("optim.beta1", "decay of the mean of gradients", &c.optim.beta1, 0, 0.999999);
  real("optim.beta2", "decay of the mean of squared gradients", &c.optim.beta2, 0, 0.9999999);
  real("optim.eps", "added to the root of the mean square", &c.optim.eps, 1e-20, 1);
  real("optim.weight_decay", "of matrices and embeddings", &c.optim.weight_decay, 0, 10);
  real("optim.clip", "largest norm of the gradient; 0: any", &c.optim.clip, 0, 1e9);
  keys.push_back({.name = "schedule.kind",
                  .does = "course of the learning rate",
                  .target = &c.schedule.kind,
                  .words = {"cosine", "wsd", "constant"},
                  .ask = true});
  keys.push_back({.name = "schedule.warmup",
                  .does = "\"2%\", \"100 steps\" or \"1M tokens\"",
                  .target = &c.schedule.warmup,
                  .ask = true});
  keys.push_back({.name = "schedule.decay",
                  .does = "wsd: length of the decay at the end",
                  .target = &c.schedule.decay});
  keys.push_back({.name = "schedule.shape",
                  .does = "wsd: shape of the decay",
                  .target = &c.schedule.shape,
                  .words = {"exponential", "linear", "sqrt"},
                  .ask = true});
  real("schedule.end_ratio", "last learning rate over the highest", &c.schedule.end_ratio, 0, 1);
}

void add_run_keys(TrainConfig& c, std::vector<ConfigKey>& keys) {
  keys.push_back(
      {.name = "run.folder", .does = "where everything is written", .target = &c.run.folder});
  keys.push_back({.name = "run.steps",
                  .does = "length of the run: optimiser steps,",
                  .target = &c.run.steps,
                  .high = 1e12});
  keys.push_back(
      {.name = "run.tokens", .does = "or tokens,", .target = &c.run.tokens, .high = 1e15});
  keys.push_back({.name = "run.time",
                  .does = "or time (\"4m\", \"2h30m\")",
                  .target = &c.run.time,
                  .high = 1e9});
  keys.push_back({.name = "run.seed",
                  .does = "of the first weights",
                  .target = &c.run.seed,
                  .high = 0x1p53,
                  .ask = true});
  keys.push_back({.name = "run.threads",
                  .does = "0: all that this process may use",
                  .target = &c.run.threads,
                  .high = 4096});
  keys.push_back({.name = "run.precision",
                  .does = "of matrix products; auto: bf16 where fast",
                  .target = &c.run.precision,
                  .words = {"auto", "f32", "bf16"},
                  .ask = true});
}

void add_house_keys(TrainConfig& c, std::vector<ConfigKey>& keys) {
  const auto whole = [&](const char* name, const char* does, uint64_t* target, double low = 0) {
    keys.push_back({.name = name, .does = does, .target = target, .low = low, .high = 1e12});
  };
  whole("checkpoint.every", "steps between checkpoints; 0: by time only", &c.checkpoint.every);
  keys.push_back({.name = "checkpoint.every_time",
                  .does = "time between checkpoints; 0s: never",
                  .target = &c.checkpoint.every_time,
                  .high = 1e9});
  whole("checkpoint.keep_last", "newest ones that stay", &c.checkpoint.keep_last, 1);
  whole("checkpoint.keep_every", "multiples of so many steps stay for ever; 0: none",
        &c.checkpoint.keep_every);
  keys.push_back({.name = "checkpoint.keep_best",
                  .does = "the one with the lowest held-out loss",
                  .target = &c.checkpoint.keep_best});
  keys.push_back({.name = "checkpoint.keep_branch_points",
                  .does = "those that --branch went out from",
                  .target = &c.checkpoint.keep_branch_points});
  keys.push_back({.name = "checkpoint.background",
                  .does = "write from a copy in memory while training goes on",
                  .target = &c.checkpoint.background});
  whole("eval.every", "steps between evaluations; 0: before and after only", &c.eval.every);
  whole("eval.windows", "held-out windows of seq_len tokens; 0: all", &c.eval.windows);
  whole("eval.patience", "evaluations without a better one that end the run; 0: never",
        &c.eval.patience);
  whole("log.every", "steps between lines of metrics.jsonl", &c.log.every, 1);
  keys.push_back({.name = "log.tensorboard",
                  .does = "write TensorBoard event files",
                  .target = &c.log.tensorboard});
  keys.push_back({.name = "health.on_spike",
                  .does = "when the loss jumps (NaN stops, or rewinds)",
                  .target = &c.health.on_spike,
                  .words = {"ignore", "skip", "rewind", "stop"}});
  keys.push_back({.name = "health.threshold",
                  .does = "robust deviations above the median that make a spike",
                  .target = &c.health.threshold,
                  .low = 1,
                  .high = 1e9});
  keys.push_back({.name = "health.grad_threshold",
                  .does = "the same of the gradient's norm; 0: not watched",
                  .target = &c.health.grad_threshold,
                  .high = 1e9});
  whole("health.rewinds", "rewinds before a spike ends the run after all", &c.health.rewinds);
}

std::string quoted_toml(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else
      out += c;
  }
  return out + "\"";
}

// A key as TOML wants it: bare where it may be.
std::string toml_key(const std::string& key) {
  const auto bare = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !key.empty() && std::all_of(key.begin(), key.end(), bare) ? key : quoted_toml(key);
}

// "model.attention" with each part as a key.
std::string toml_path(const std::string& path) {
  std::string out;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    out += toml_key(path.substr(begin, dot - begin));
    if (dot == std::string::npos) return out;
    out += '.';
    begin = dot + 1;
  }
}

struct Printer {
  std::string operator()(const uint64_t* v) const { return std::to_string(*v); }
  std::string operator()(const double* v) const { return toml_real(*v); }
  std::string operator()(const bool* v) const { return *v ? "true" : "false"; }
  std::string operator()(const std::string* v) const { return quoted_toml(*v); }
  std::string operator()(const Duration* v) const { return quoted_toml(format_duration_exact(*v)); }
  std::string operator()(const Portion* v) const { return quoted_toml(format_portion(*v)); }

  // TOML wants a point or an exponent in a float.
  static std::string toml_real(double value) {
    const std::string text = format_real(value);
    return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
  }
};

std::string print_option(const OptionValue& value) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return Printer::toml_real(v); }
    std::string operator()(const std::string& v) const { return quoted_toml(v); }
    std::string operator()(const std::vector<double>& v) const {
      std::string out;
      for (const double x : v) out += (out.empty() ? "" : ", ") + Printer::toml_real(x);
      return "[" + out + "]";
    }
  };
  return std::visit(Visitor{}, value);
}

// Every key with its printed value, options of mechanism and task after their names.
std::vector<std::pair<std::string, std::string>> printed_values(TrainConfig config) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const ConfigKey& key : config_keys(config)) {
    values.emplace_back(key.name, std::visit(Printer{}, key.target));
    for (const OptionTable& table : option_tables(config)) {
      if (key.name != table.name_key) continue;
      for (const auto& [name, value] : *table.values)
        values.emplace_back(table.prefix + name, print_option(value));
    }
  }
  return values;
}

// A comment ends with its line and is UTF-8, whatever a file is called.
std::string one_line(std::string text) {
  for (char& c : text)
    if (c < 0x20 || c > 0x7e) c = '?';
  return text;
}

const char* origin_name(Origin origin) {
  switch (origin) {
    case Origin::standard:
      return "default";
    case Origin::file:
      return "file";
    case Origin::command_line:
      return "command line";
    case Origin::derived:
      return "derived";
  }
  return "";
}

}  // namespace

std::vector<ConfigKey> config_keys(TrainConfig& config) {
  std::vector<ConfigKey> keys;
  add_model_keys(config.model, keys);
  add_data_keys(config, keys);
  add_optim_keys(config, keys);
  add_run_keys(config, keys);
  add_house_keys(config, keys);
  return keys;
}

std::vector<OptionTable> option_tables(TrainConfig& config) {
  return {{"model.attention.mechanism", "model.attention.", &config.model.attention.values},
          {"data.task.name", "data.task.", &config.data.task.values}};
}

std::string print_config(const TrainConfig& config) {
  std::map<std::string, const char*> does;
  TrainConfig copy = config;
  for (const ConfigKey& key : config_keys(copy)) does[key.name] = key.does;
  std::string out, section;
  for (const auto& [name, value] : printed_values(config)) {
    const size_t dot = name.rfind('.');
    if (const std::string head = name.substr(0, dot); head != section) {
      out += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", toml_path(head));
      section = head;
    }
    const auto origin = config.origins.find(name);
    const std::string line = fmt::format("{} = {}", toml_key(name.substr(dot + 1)), value);
    const auto place = config.places.find(name);
    const std::string from =
        origin != config.origins.end() && origin->second == Origin::file &&
                place != config.places.end()
            ? place->second
            : origin_name(origin == config.origins.end() ? Origin::standard : origin->second);
    const std::string note = does.count(name) != 0 ? std::string("; ") + does[name] : "";
    out += fmt::format("{:<36} # {}{}\n", line, one_line(from), note);
  }
  return out;
}

std::vector<ConfigDifference> compare_configs(const TrainConfig& before, const TrainConfig& after) {
  std::map<std::string, ConfigKey> keys;
  TrainConfig copy = after;
  for (const ConfigKey& key : config_keys(copy)) keys[key.name] = key;
  std::map<std::string, std::string> old, now;
  for (auto& [name, value] : printed_values(before)) old[name] = value;
  for (auto& [name, value] : printed_values(after)) now[name] = value;
  std::vector<ConfigDifference> differences;
  const auto add = [&](const std::string& name, const std::string& was, const std::string& is) {
    const auto known = keys.find(name);
    differences.push_back({.key = name,
                           .before = was,
                           .after = is,
                           .fixed = known == keys.end() || known->second.fixed,
                           .ask = known != keys.end() && known->second.ask});
  };
  for (const auto& [name, value] : old) {
    const auto other = now.find(name);
    if (other == now.end())
      add(name, value, "not given");
    else if (other->second != value)
      add(name, value, other->second);
  }
  for (const auto& [name, value] : now)
    if (old.count(name) == 0) add(name, "not given", value);
  return differences;
}

}  // namespace cairn
