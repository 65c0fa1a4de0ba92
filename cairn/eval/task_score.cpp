#include "cairn/eval/task_score.h"

#include <algorithm>

namespace cairn {
namespace {

// Tokens that go through the model together.
constexpr uint64_t kBatchTokens = 8192;

// The model as the test wants it.
Model variant_of(const Model& model, size_t length, const ScoreOptions& options) {
  ModelConfig config = model.config();
  config.context_length = std::max(config.context_length, length);
  for (const auto& [key, value] : options.attention) config.attention.values[key] = value;
  return rebuild_model(config, model);
}

}  // namespace

TaskScore score_batches(const Model& model, size_t length, uint64_t sequences,
                        FunctionRef<Batch(uint64_t first, uint64_t count)> batches,
                        const ScoreOptions& options, ThreadTeam& team) {
  TaskScore score;
  if (sequences == 0) return score;
  Model variant = variant_of(model, length, options);
  const uint64_t together = std::clamp<uint64_t>(kBatchTokens / length, 1, sequences);
  LanguageModel network(variant, {together, length, options.precision}, team);
  double remainders = 0;
  uint64_t passes = 0;
  network.observe_attention([&](const AttentionSeen& seen) {
    const auto statistics = seen.mechanism.statistics(seen.layout, seen.saved);
    if (!statistics) return;
    score.attention.visible += statistics->visible;
    score.attention.visited += statistics->visited;
    remainders += statistics->mean_remainder;
    score.attention.mean_remainder = remainders / static_cast<double>(++passes);
  });
  for (uint64_t first = 0; first < sequences; first += together) {
    const Batch batch = batches(first, std::min(together, sequences - first));
    score.loss += network.forward(batch).loss;
    score.add(batch, network.answers());
  }
  return score;
}

TaskScore score_task(const Model& model, const Task& task, uint64_t sequences,
                     const ScoreOptions& options, ThreadTeam& team) {
  const RandomStream stream(0, "task test");
  return score_batches(
      model, task.length(), sequences,
      [&](uint64_t first, uint64_t count) { return task_batch(task, stream, first, count); },
      options, team);
}

}  // namespace cairn
