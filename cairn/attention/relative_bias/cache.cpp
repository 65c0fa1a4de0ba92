// The cache of the room: keys and values, those of the text so far or those of a source.
#include "cairn/attention/softmax/cache.h"
#include "cairn/attention/relative_bias/relative_bias.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

class RelativeBiasCache : public AttentionCache {
 public:
  RelativeBiasCache(const RelativeBiasAttention& attention, KeyValueCache cache)
      : attention_(attention), cache_(std::move(cache)) {}

  size_t length() const override { return cache_.length(); }
  size_t bytes() const override { return cache_.bytes(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override {
    const std::optional<RelativeBias> term =
        attention_.bias("appending to an attention cache", inputs.parameters);
    cache_.append_and_attend(inputs, nullptr, out, team, term ? &*term : nullptr);
  }
  void truncate(size_t length) override { cache_.truncate(length); }
  std::unique_ptr<AttentionCache> fork() const override {
    return std::make_unique<RelativeBiasCache>(attention_, cache_.fork());
  }

 private:
  const RelativeBiasAttention& attention_;
  KeyValueCache cache_;
};

}  // namespace

std::unique_ptr<AttentionCache> RelativeBiasAttention::make_cache(size_t capacity,
                                                                  DType dtype) const {
  if (core_.mask == AttentionMask::bidirectional)
    throw Error({.kind = ErrorKind::usage,
                 .doing = "making an attention cache",
                 .subject = "option mask of relative_bias attention",
                 .expected = "causal or cross: later keys change what earlier queries have read",
                 .found = "bidirectional"});
  return std::make_unique<RelativeBiasCache>(*this, KeyValueCache(core_, capacity, dtype));
}

}  // namespace cairn
