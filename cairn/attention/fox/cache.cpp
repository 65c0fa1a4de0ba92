// Keys, values and summed gates of one sequence during generation.
#include "cairn/attention/softmax/cache.h"
#include "cairn/attention/fox/fox.h"
#include "cairn/attention/fox/gate.h"

namespace cairn {
namespace {

class FoxCache : public AttentionCache {
 public:
  FoxCache(const FoxAttention& attention, KeyValueCache cache)
      : attention_(attention), cache_(std::move(cache)) {}

  size_t length() const override { return cache_.length(); }
  size_t bytes() const override { return cache_.bytes(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  void truncate(size_t length) override { cache_.truncate(length); }
  std::unique_ptr<AttentionCache> fork() const override {
    return std::make_unique<FoxCache>(attention_, cache_.fork());
  }
  std::optional<AttentionStatistics> statistics() const override { return cache_.statistics(); }

 private:
  const FoxAttention& attention_;
  KeyValueCache cache_;
  AlignedBuffer gates_;             // [new tokens, heads] and scratch, as large as ever needed
  std::vector<double> potentials_;  // [heads, new tokens]
};

void FoxCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) {
  const AttentionGeometry& g = attention_.geometry();
  const size_t tokens = inputs.q.tokens;
  attention_.check_gate_inputs("appending to an attention cache", inputs);
  cache_.check_room(tokens);
  Arena sizes;
  sizes.take<float>(tokens * g.heads);
  sizes.take<float>(gate_scratch(g.hidden_size) * team.size());
  if (gates_.size() < sizes.used()) gates_ = AlignedBuffer(sizes.used());
  Arena arena({gates_.data(), gates_.size()});
  const View2<float> log_forget(arena.take<float>(tokens * g.heads), tokens, g.heads);
  forget_gates(inputs.x, attention_.gate_weight(inputs), inputs.parameters[1], log_forget,
               arena.take<float>(gate_scratch(g.hidden_size) * team.size()), team);
  potentials_.resize(g.heads * tokens);
  for (size_t head = 0; head < g.heads; ++head) {
    double sum = cache_.last_potential(head);
    for (size_t t = 0; t < tokens; ++t) {
      sum += static_cast<double>(attention_.core().gate_scale) * log_forget[t][head];
      potentials_[head * tokens + t] = sum;
    }
  }
  cache_.append_and_attend(inputs, potentials_.data(), out, team);
}

}  // namespace

std::unique_ptr<AttentionCache> FoxAttention::make_cache(size_t capacity, DType dtype) const {
  return std::make_unique<FoxCache>(*this, KeyValueCache(core_.softmax, capacity, dtype));
}

}  // namespace cairn
