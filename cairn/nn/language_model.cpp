#include "cairn/nn/language_model.h"

#include <algorithm>
#include <string>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/log.h"
#include "cairn/nn/decoder.h"

namespace cairn {
namespace {

// Products are in bf16 only where the processor multiplies bf16; elsewhere f32 is exact and faster.
DType compute_type(Precision precision) {
  return precision == Precision::bf16 && usable_isa() >= Isa::avx512_bf16 ? DType::bf16
                                                                          : DType::f32;
}

// What positions are made for: any text of the model, but only those of the run where positions
// depend on how long these are.
size_t longest_text(const ModelConfig& config, const TrainingShape& shape) {
  return usual_context(config) == config.context_length
             ? config.context_length
             : std::min(shape.length, config.context_length);
}

}  // namespace

size_t Batch::target_count() const {
  return static_cast<size_t>(
      std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; }));
}

struct LanguageModel::Implementation {
  Implementation(const ModelConfig& c, const TrainingShape& s, int threads, float* values,
                 float* gradients)
      : config(c),
        shape(s),
        mechanisms(c, longest_text(c, s)),
        products(threads),
        tape(s.sequences * s.length, threads) {
    check_shape_of_run();
    Recorder recorder{tape, products, compute_type(s.precision), s.length, {}};
    record_model(recorder, config, WeightTable(config, values, gradients), mechanisms, streams,
                 result);
    tape.plan(s.whole_step ? Tape::Gradients::replaced : Tape::Gradients::kept, block_bytes(c));
  }

  void check_shape_of_run() const {
    if (shape.sequences == 0 || shape.length == 0)
      throw Error({.kind = ErrorKind::usage,
                   .doing = "building the model for training",
                   .expected = "at least one sequence of one token"});
    if (shape.length > config.context_length)
      throw Error({.kind = ErrorKind::usage,
                   .doing = "building the model for training",
                   .subject = "sequence length",
                   .expected = "at most the model's context of " +
                               std::to_string(config.context_length) + " tokens",
                   .found = std::to_string(shape.length)});
  }

  // Points the tape at a batch, after checking everything that it will index with.
  void take(const Batch& batch, bool whole) {
    const size_t tokens = batch.sequences * batch.length;
    const bool fits = whole ? tokens == tape.tokens() : tokens != 0 && tokens <= tape.tokens();
    if (!fits || batch.tokens.size() != tokens || batch.targets.size() != tokens ||
        batch.positions.size() != tokens || batch.length > config.context_length)
      throw Error(
          {.kind = ErrorKind::usage,
           .doing = "running a batch",
           .expected = (whole ? "" : "at most ") + std::to_string(shape.sequences) +
                       " sequences of " + std::to_string(shape.length) + " tokens",
           .found = std::to_string(batch.sequences) + " of " + std::to_string(batch.length)});
    check_ids(batch.tokens, 0, "token");
    check_ids(batch.targets, kIgnoredTarget, "target");
    tape.set_active_tokens(tokens);
    streams.tokens.tokens = {batch.tokens.data(), tokens};
    streams.tokens.targets = {batch.targets.data(), tokens};
    streams.tokens.layout.offsets = {batch.offsets.data(), batch.offsets.size()};
    streams.tokens.layout.positions = {batch.positions.data(), tokens};
    if (config.has_encoder()) take_source(batch);
  }

  void take_source(const Batch& batch) {
    const SourceStream& source = batch.source;
    const size_t tokens = batch.tokens.size();
    if (source.tokens.empty())
      throw Error({.kind = ErrorKind::usage,
                   .doing = "running a batch",
                   .subject = "an encoder-decoder",
                   .expected = "a source for each text",
                   .found = "texts alone"});
    if (source.tokens.size() != tokens || source.positions.size() != tokens ||
        source.offsets.size() != batch.offsets.size())
      throw Error({.kind = ErrorKind::usage,
                   .doing = "running a batch",
                   .subject = "the source",
                   .expected = std::to_string(tokens) + " tokens in " +
                               std::to_string(batch.offsets.size()) + " offsets",
                   .found = std::to_string(source.tokens.size()) + " in " +
                            std::to_string(source.offsets.size())});
    check_ids(source.tokens, 0, "source token");
    streams.source.tokens = {source.tokens.data(), tokens};
    streams.source.layout.offsets = {source.offsets.data(), source.offsets.size()};
    streams.source.layout.positions = {source.positions.data(), tokens};
  }

  void check_ids(const std::vector<int32_t>& ids, int32_t least, const char* what) const {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= least && ids[i] < static_cast<int64_t>(config.vocab_size)) continue;
      throw Error({.kind = ErrorKind::data,
                   .doing = "running a batch",
                   .subject = std::string(what) + " " + std::to_string(i),
                   .expected = "an id below " + std::to_string(config.vocab_size),
                   .found = std::to_string(ids[i]),
                   .hint = "was the data packed with another tokenizer?"});
    }
  }

  ModelConfig config;
  TrainingShape shape;
  LayerAttention mechanisms;
  ModelInputs streams;
  LossResult result;
  MatmulCache products;
  Tape tape;
  std::span<float> gradients;  // the beginning of the tape's memory
  ThreadTeam* team = nullptr;
};

LanguageModel::LanguageModel(Model& model, const TrainingShape& shape, ThreadTeam& team) {
  if (shape.precision == Precision::bf16 && compute_type(shape.precision) != DType::bf16)
    log_warning("this processor has no bf16 products: computing in f32");
  // Operations point into memory whose size only a planned tape knows: it is recorded twice.
  const TrainingMemory need = memory(model.config(), shape, team.size());
  AlignedBuffer block(need.gradients + need.activations);
  const std::span<float> gradients = block.as<float>().first(model.weights().size());
  implementation_ = std::make_unique<Implementation>(model.config(), shape, team.size(),
                                                     model.weights().data(), gradients.data());
  implementation_->gradients = gradients;
  implementation_->team = &team;
  implementation_->tape.allocate(std::move(block));
}

LanguageModel::~LanguageModel() = default;

TrainingMemory LanguageModel::memory(const ModelConfig& config, const TrainingShape& shape,
                                     int threads) {
  const Implementation planned(config, shape, threads, nullptr, nullptr);
  const size_t block = block_bytes(config);
  return {.weights = block, .gradients = block, .activations = planned.tape.bytes() - block};
}

LossSum LanguageModel::forward_backward(const Batch& batch) {
  Implementation& self = *implementation_;
  self.take(batch, true);
  self.tape.forward(*self.team, Tape::Mode::training);
  self.tape.backward(*self.team);
  return {self.result.loss, self.result.targets};
}

LossSum LanguageModel::forward(const Batch& batch) {
  Implementation& self = *implementation_;
  self.take(batch, false);
  self.tape.forward(*self.team, Tape::Mode::evaluation);
  return {self.result.loss, self.result.targets};
}

std::span<const int32_t> LanguageModel::answers() const {
  return implementation_->result.answers;
}

void LanguageModel::observe_attention(AttentionObserver observer) {
  implementation_->streams.source.observer = observer;
  implementation_->streams.tokens.observer = std::move(observer);
}

std::span<float> LanguageModel::gradients() {
  return implementation_->gradients;
}

void LanguageModel::zero_gradients() {
  const auto all = gradients();
  std::fill(all.begin(), all.end(), 0.0F);
}

std::vector<LanguageModel::Timing> LanguageModel::take_timings() {
  std::vector<Timing> timings;
  for (auto& [name, seconds] : implementation_->tape.take_timings())
    timings.push_back({name, seconds});
  return timings;
}

std::string LanguageModel::first_non_finite() {
  return implementation_->tape.first_non_finite(*implementation_->team);
}

}  // namespace cairn
