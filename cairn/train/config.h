// The configuration of a training run: TOML, then --section.key=value, over defaults. Every key
// remembers where its value came from; a key that does not exist is an error with a suggestion.
// The whole list of keys is config_keys(): reading, printing and comparing walk that one list.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "cairn/base/file.h"
#include "cairn/data/tasks/task.h"
#include "cairn/io/toml.h"
#include "cairn/model/config.h"
#include "cairn/nn/language_model.h"
#include "cairn/train/optimizer.h"
#include "cairn/train/schedule.h"
#include "cairn/train/units.h"

namespace cairn {

// Where the value of a key came from.
enum class Origin { standard, file, command_line, derived };

struct TrainConfig {
  struct ModelSection {
    uint64_t hidden_size = 192;
    uint64_t layers = 6;
    uint64_t heads = 6;
    uint64_t kv_heads = 0;           // 0: heads
    uint64_t head_dim = 0;           // 0: hidden_size / heads
    uint64_t intermediate_size = 0;  // 0: 8/3 of hidden_size, rounded up to a multiple of 32
    uint64_t context_length = 0;     // 0: batch.seq_len
    uint64_t experts = 0;            // 0: a plain MLP; else each of intermediate_size
    uint64_t experts_per_token = 2;
    uint64_t shared_intermediate_size = 0;  // of one more that every token takes; 0: none
    double router_loss = 0.01;              // weight of the load-balancing loss
    double rms_norm_eps = 1e-5;
    double init_std = 0;  // 0: 1 / sqrt(hidden_size), but not below 0.02
    bool tie_embeddings = true;
    AttentionOptions attention;  // model.attention.KEY; the mechanism checks its own keys.
                                 // model.attention = WORD is short for ...mechanism = WORD
  } model;
  struct DataSection {
    std::string folder;
    TaskOptions task;  // in place of a folder: data.task.KEY; data.task = WORD names it
    std::string cross_document_attention = "allow";
    uint64_t seed = 0;
  } data;
  struct BatchSection {
    uint64_t tokens_per_step = 0;  // of these three, two give the third
    uint64_t micro_batch = 0;      // sequences that are computed at once
    uint64_t seq_len = 0;
    // Micro-batches a step.
    uint64_t accumulation() const { return tokens_per_step / (micro_batch * seq_len); }
  } batch;
  struct OptimSection {
    double lr = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double eps = 1e-8;
    double weight_decay = 0.1;
    double clip = 1.0;
  } optim;
  struct ScheduleSection {
    std::string kind = "cosine";
    Portion warmup{0.02, Portion::Unit::share};
    double end_ratio = 0.1;
    std::string shape = "exponential";
    Portion decay{0.1, Portion::Unit::share};
  } schedule;
  struct RunSection {
    std::string folder;  // "": runs/ and the name of the configuration file
    uint64_t steps = 0;  // exactly one of steps, tokens and time
    uint64_t tokens = 0;
    Duration time;
    uint64_t seed = 0;
    uint64_t threads = 0;  // 0: all that this process may use
    std::string precision = "auto";
  } run;
  struct CheckpointSection {
    uint64_t every = 0;  // steps; 0: by time only
    Duration every_time{600};
    uint64_t keep_last = 2;
    uint64_t keep_every = 0;  // steps; checkpoints at its multiples are never deleted
    bool keep_best = false;
    bool keep_branch_points = true;  // where `cairn train --branch` began
    bool background = true;          // write from a copy while training goes on
  } checkpoint;
  struct EvalSection {
    uint64_t every = 0;      // steps; 0: before and after training only
    uint64_t windows = 256;  // held-out windows of seq_len tokens; 0: all
    uint64_t patience = 0;   // evaluations without a better one that end the run; 0: none do
  } eval;
  struct LogSection {
    uint64_t every = 1;  // steps between lines of metrics.jsonl
    bool tensorboard = true;
  } log;
  struct HealthSection {
    std::string on_spike = "ignore";
    double threshold = 8;       // robust standard deviations from the median of the last 128 losses
    double grad_threshold = 0;  // the same of the gradient's norm; 0: not watched
    uint64_t rewinds = 3;       // before a spike ends the run after all
  } health;

  std::string name;                           // of the configuration file, for messages
  std::map<std::string, Origin> origins;      // of every key that is not standard
  std::map<std::string, std::string> places;  // of every key from a file: "base.toml:12:6"

  // What the library takes.
  Precision precision() const;  // after complete_config()
  AdamWOptions adamw() const;
  ModelConfig model_config(uint64_t vocab_size) const;
};

// One key: where its value lives and what it may be.
struct ConfigKey {
  using Target = std::variant<uint64_t*, double*, bool*, std::string*, Duration*, Portion*>;
  std::string name;  // "optim.lr"
  const char* does = "";
  Target target;
  double low = 0;  // numbers: low <= value <= high
  double high = 1e18;
  std::vector<std::string> words = {};  // text: the allowed words; empty: any
  bool fixed = false;                   // a resumed run must have the same value,
  bool ask = false;                     // or only --allow lets it have another
};

// A TOML value as an option; what no option can be (a list of other things than numbers) becomes
// the text "a list", which nobody accepts.
OptionValue option_value(const TomlValue& value);

// A table of options whose keys are not ours to know: every key that begins with `prefix`. Its name
// is an ordinary key.
struct OptionTable {
  std::string name_key;  // "model.attention.mechanism"
  std::string prefix;    // "model.attention."
  std::map<std::string, OptionValue>* values;
};
std::vector<OptionTable> option_tables(TrainConfig& config);

// All keys of `config` in the order in which they are printed. The targets point into `config`.
std::vector<ConfigKey> config_keys(TrainConfig& config);

// Reads `file`, with the files it includes (io/toml.h), and then `overrides` ("section.key=value"),
// completes what can be derived and checks that it fits together. Throws Error (usage) naming the
// key, what was found and what is allowed; Error (data) when the file cannot be read.
TrainConfig load_config(const Path& file, std::span<const std::string> overrides);
// The same from a document that has been read.
TrainConfig make_config(const TomlDocument& document, std::span<const std::string> overrides);
// The same from text, which cannot include anything; `name` stands in messages.
TrainConfig parse_config(std::string_view toml, const std::string& name,
                         std::span<const std::string> overrides);

// The configuration as TOML that parse_config() reads back to the same values, with a comment for
// each value that says where it came from.
std::string print_config(const TrainConfig& config);

// One key whose value differs.
struct ConfigDifference {
  std::string key, before, after;
  bool fixed = false;  // a run cannot be resumed across it
  bool ask = false;    // only if asked for
};
std::vector<ConfigDifference> compare_configs(const TrainConfig& before, const TrainConfig& after);

}  // namespace cairn
