#include "cairn/cli/bench_subject.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/cli/usage.h"
#include "cairn/infer/decode_speed.h"
#include "cairn/infer/text_model.h"

namespace cairn {
namespace {

BlockType random_type(const std::string& word) {
  if (const BlockTypeInfo* info = find_block_type(word)) return info->type;
  throw Error({.kind = ErrorKind::usage,
               .doing = "choosing a type of weights to measure",
               .expected = "f32, f16, bf16, q8_0, q4_0, ...",
               .found = word});
}

ModelConfig config_of(const SubjectArguments& arguments, const MechanismArguments& mechanism,
                      size_t tokens) {
  ModelConfig config = RandomDecoder::shape(arguments.shape);
  const auto asked = static_cast<size_t>(std::max<int64_t>(arguments.engine.context, 0));
  config.context_length = std::max({config.context_length, tokens, asked});
  config.attention = mechanism.parsed();
  if (config.attention.mechanism != "softmax") config.architecture = "cairn";
  return normalized(config);
}

bool has_cache_of_its_own(const ModelConfig& config) {
  const LayerAttention attention(config);
  for (size_t i = 0; i < config.layers; ++i)
    if (!attention[i].plain_softmax()) return true;
  return false;
}

Subject subject_of_file(const SubjectArguments& arguments, const EngineOptions& how,
                        ThreadTeam& team) {
  if (arguments.mechanism.parsed() != AttentionOptions() || !arguments.versus.empty())
    refuse_argument("cairn bench", "--mechanism and --versus", "a --shape, of random weights",
                    "--model " + arguments.model);
  const DecoderWeights weights = open_decoder_weights(arguments.model);
  Subject subject;
  subject.name = arguments.model;
  subject.format = arguments.engine.precision.empty() ? "as stored" : arguments.engine.precision;
  subject.mechanism.name = weights.config.attention.mechanism;
  subject.cache =
      how.cache.value_or(has_cache_of_its_own(weights.config) ? BlockType::f32 : BlockType::f16);
  subject.engine = std::make_unique<Engine>(weights, team, how);
  return subject;
}

std::vector<MechanismArguments> mechanisms_of(const SubjectArguments& arguments) {
  std::vector<MechanismArguments> all = {arguments.mechanism};
  if (arguments.versus == "none") return all;
  if (!arguments.versus.empty())
    all.push_back(mechanism_in_words(arguments.versus));
  else if (arguments.mechanism.parsed() != AttentionOptions())
    all.emplace_back();
  return all;
}

}  // namespace

void SubjectArguments::declare(Arguments& arguments) {
  arguments.option("--model",
                   "a model folder or GGUF file; its weights as they are stored, or as "
                   "--precision says",
                   model);
  arguments.option("--shape", "random weights in this shape: 15m, 25m, 135m, 360m, 1b or 1b-a400m",
                   shape);
  arguments.option("--format", "of random weights: q4_0, q8_0, bf16, ...", format);
  mechanism.declare(arguments);
  arguments.option("--versus",
                   "another mechanism measured in turns, as NAME,key=value,...; default: softmax "
                   "beside any other; none: no other",
                   versus);
  engine.declare(arguments);
  arguments.option("--threads", "0: as many as the machine allows", threads);
  arguments.option("--blocks", "measurements; the median counts", blocks);
  arguments.flag("--json", "print JSON lines", json);
}

Json Subject::facts(int threads) const {
  return {{"model", name},
          {"format", format},
          {"mechanism", mechanism.name},
          {"options", mechanism.options},
          {"cache_type", block_type_name(cache)},
          {"threads", threads}};
}

std::string Subject::title(int threads) const {
  const std::string attention = mechanism.name == "softmax" ? "" : ", " + mechanism.name;
  return fmt::format("{} {}{}, {} thread{}", name, format, attention, threads,
                     threads == 1 ? "" : "s");
}

std::vector<Subject> open_subjects(const SubjectArguments& arguments, EngineOptions how,
                                   size_t tokens, ThreadTeam& team) {
  std::vector<Subject> subjects;
  if (!arguments.model.empty()) {
    subjects.push_back(subject_of_file(arguments, how, team));
    return subjects;
  }
  bool own = false;
  for (const MechanismArguments& mechanism : mechanisms_of(arguments)) {
    subjects.push_back({arguments.shape, arguments.format, mechanism});
    own = own || has_cache_of_its_own(config_of(arguments, mechanism, tokens));
  }
  if (!how.cache) how.cache = own ? BlockType::f32 : BlockType::f16;
  for (Subject& subject : subjects) {
    const RandomDecoder random(config_of(arguments, subject.mechanism, tokens),
                               random_type(arguments.format));
    subject.engine = std::make_unique<Engine>(random.weights(), team, how);
    subject.cache = *how.cache;
  }
  return subjects;
}

Json circumstances() {
  double load[1] = {0};
  return {{"load", getloadavg(load, 1) == 1 ? load[0] : 0},
          {"isa", isa_name(usable_isa())},
          {"processor", processor_name()}};
}

}  // namespace cairn
