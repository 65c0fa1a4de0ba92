// The cache of the room: keys and values, and before them the convolution when there is one.
#include <cstring>

#include "cairn/attention/checks.h"
#include "cairn/attention/softmax/cache.h"
#include "cairn/attention/softmax/convolution.h"
#include "cairn/attention/softmax/head_norm.h"
#include "cairn/attention/softmax/softmax.h"

namespace cairn {
namespace {

// [tokens, heads, dim], as much as fits.
AnyView3 rows_of(AlignedBuffer& buffer, DType dtype, size_t heads, size_t dim) {
  AnyView3 view;
  view.data = buffer.data();
  view.dtype = dtype;
  view.heads = heads;
  view.dim = dim;
  view.token_stride = heads * dim;
  view.head_stride = dim;
  view.tokens = buffer.size() / (heads * dim * dtype_size(dtype));
  return view;
}

// Queries or keys before the convolution, of all tokens: truncation needs the last few of any
// length.
class History {
 public:
  History(size_t capacity, size_t heads, size_t dim, DType dtype)
      : dtype_(dtype),
        heads_(heads),
        dim_(dim),
        rows_(capacity * heads * dim * dtype_size(dtype)) {}

  size_t bytes() const { return rows_.size() + convolved_.size(); }
  void copy_from(const History& other) {
    std::memcpy(rows_.data(), other.rows_.data(), rows_.size());
  }
  // Appends x behind `length` tokens and returns its convolution, valid until the next call.
  AnyView3 append(const AnyView3& x, size_t length, size_t kernel, View1<const float> taps,
                  float* scratch, ThreadTeam& team) {
    const AnyView3 rows = rows_of(rows_, dtype_, heads_, dim_);
    for (size_t head = 0; head < heads_; ++head)
      for (size_t begin = 0; begin < x.tokens; begin += kTile) {
        const size_t count = std::min(kTile, x.tokens - begin);
        load_tile(tile_rows(x, begin, count, head), {}, scratch);
        unload_tile(scratch, 1.0F, {}, tile_rows(rows, length + begin, count, head));
      }
    const size_t bytes = x.tokens * heads_ * dim_ * dtype_size(x.dtype);
    if (convolved_.size() < bytes) convolved_ = AlignedBuffer(bytes);
    AnyView3 result = rows_of(convolved_, x.dtype, heads_, dim_);
    result.tokens = x.tokens;
    const int32_t offsets[] = {0, static_cast<int32_t>(length + x.tokens)};
    AnyView3 known = rows;
    known.tokens = length + x.tokens;
    convolve({kernel, taps, {offsets, 2}}, known, length, result, scratch, team);
    return result;
  }

 private:
  DType dtype_;
  size_t heads_, dim_;
  AlignedBuffer rows_, convolved_;
};

class SoftmaxCache : public AttentionCache {
 public:
  SoftmaxCache(KeyValueCache cache, const std::vector<double>& slopes)
      : cache_(std::move(cache)), slopes_(slopes) {}

  size_t length() const override { return cache_.length(); }
  size_t bytes() const override { return cache_.bytes(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override {
    const size_t tokens = inputs.q.tokens;
    potentials_.resize(slopes_.size() * tokens);
    for (size_t head = 0; head < slopes_.size(); ++head)
      for (size_t t = 0; t < tokens; ++t)
        potentials_[head * tokens + t] = -slopes_[head] * static_cast<double>(length() + t);
    cache_.append_and_attend(inputs, potentials_.data(), out, team);
  }
  void truncate(size_t length) override { cache_.truncate(length); }
  std::unique_ptr<AttentionCache> fork() const override {
    return std::make_unique<SoftmaxCache>(cache_.fork(), slopes_);
  }
  std::optional<AttentionStatistics> statistics() const override { return cache_.statistics(); }

 private:
  KeyValueCache cache_;
  const std::vector<double>& slopes_;
  std::vector<double> potentials_;
};

// Convolves queries and keys for another cache.
class ConvolvedCache : public AttentionCache {
 public:
  ConvolvedCache(std::unique_ptr<AttentionCache> inner, const AttentionMechanism& attention,
                 size_t kernel, size_t capacity, DType dtype)
      : inner_(std::move(inner)),
        attention_(attention),
        kernel_(kernel),
        capacity_(capacity),
        dtype_(dtype),
        queries_(capacity, attention.geometry().heads, attention.geometry().head_dim, dtype),
        keys_(capacity, attention.geometry().kv_heads, attention.geometry().head_dim, dtype) {}

  size_t length() const override { return inner_->length(); }
  size_t bytes() const override { return inner_->bytes() + queries_.bytes() + keys_.bytes(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  void truncate(size_t length) override { inner_->truncate(length); }
  std::unique_ptr<AttentionCache> fork() const override {
    auto copy =
        std::make_unique<ConvolvedCache>(inner_->fork(), attention_, kernel_, capacity_, dtype_);
    copy->queries_.copy_from(queries_);
    copy->keys_.copy_from(keys_);
    return copy;
  }
  std::optional<AttentionStatistics> statistics() const override { return inner_->statistics(); }

 private:
  std::unique_ptr<AttentionCache> inner_;
  const AttentionMechanism& attention_;
  size_t kernel_, capacity_;
  DType dtype_;
  History queries_, keys_;
  AlignedBuffer scratch_;
};

void ConvolvedCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out,
                                       ThreadTeam& team) {
  constexpr std::string_view kDoing = "appending to an attention cache";
  const AttentionGeometry& g = attention_.geometry();
  check_queries_keys_values(kDoing, g, inputs);
  check_parameters(kDoing, attention_.parameters(), inputs.parameters);
  AttentionInputs convolved = inputs;
  if (inputs.q.tokens <= capacity_ - length()) {  // otherwise the inner cache refuses
    const size_t bytes = convolution_scratch(g.head_dim) * sizeof(float) * team.size();
    if (scratch_.size() < bytes) scratch_ = AlignedBuffer(bytes);
    float* scratch = scratch_.as<float>().data();
    convolved.q = queries_.append(inputs.q, length(), kernel_, inputs.parameters[0], scratch, team);
    convolved.k = keys_.append(inputs.k, length(), kernel_, inputs.parameters[1], scratch, team);
  }
  inner_->append_and_attend(convolved, out, team);
}

// Norms queries and keys for another cache.
class NormedCache : public AttentionCache {
 public:
  NormedCache(std::unique_ptr<AttentionCache> inner, const AttentionMechanism& attention,
              NormOptions norm)
      : inner_(std::move(inner)), attention_(attention), norm_(norm) {}

  size_t length() const override { return inner_->length(); }
  size_t bytes() const override { return inner_->bytes() + queries_.size() + keys_.size(); }
  void append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) override;
  void truncate(size_t length) override { inner_->truncate(length); }
  std::unique_ptr<AttentionCache> fork() const override {
    return std::make_unique<NormedCache>(inner_->fork(), attention_, norm_);
  }
  std::optional<AttentionStatistics> statistics() const override { return inner_->statistics(); }

 private:
  AnyView3 normed(const AnyView3& x, View1<const float> weight, AlignedBuffer& buffer,
                  ThreadTeam& team);

  std::unique_ptr<AttentionCache> inner_;
  const AttentionMechanism& attention_;
  NormOptions norm_;
  AlignedBuffer queries_, keys_, scratch_;  // grow to what the largest call so far needed
};

AnyView3 NormedCache::normed(const AnyView3& x, View1<const float> weight, AlignedBuffer& buffer,
                             ThreadTeam& team) {
  const size_t bytes = x.tokens * x.heads * x.dim * dtype_size(x.dtype);
  if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
  AnyView3 y = rows_of(buffer, x.dtype, x.heads, x.dim);
  y.tokens = x.tokens;
  normalise_heads({weight, norm_}, x, y, scratch_.as<float>().data(), team);
  return y;
}

void NormedCache::append_and_attend(const AttentionInputs& inputs, AnyView3 out, ThreadTeam& team) {
  constexpr std::string_view kDoing = "appending to an attention cache";
  const AttentionGeometry& g = attention_.geometry();
  check_queries_keys_values(kDoing, g, inputs);
  check_parameters(kDoing, attention_.parameters(), inputs.parameters);
  const size_t bytes = head_norm_scratch(g.head_dim) * sizeof(float) * team.size();
  if (scratch_.size() < bytes) scratch_ = AlignedBuffer(bytes);
  AttentionInputs compared = inputs;
  compared.q = normed(inputs.q, inputs.parameters[0], queries_, team);
  compared.k = normed(inputs.k, inputs.parameters[1], keys_, team);
  inner_->append_and_attend(compared, out, team);
}

}  // namespace

std::optional<PlainSoftmax> SoftmaxAttention::plain_softmax() const {
  if (!slopes_.empty() || options_.qk_conv > 0) return std::nullopt;
  const NormOptions norm = norm_options();
  return PlainSoftmax{.scale = core_.geometry.scale,
                      .rotary = core_.rotary,
                      .window = core_.window,
                      .qk_norm = options_.qk_norm,
                      .norm_eps = norm.eps,
                      .norm_offset = norm.offset};
}

std::unique_ptr<AttentionCache> SoftmaxAttention::make_cache(size_t capacity, DType dtype) const {
  auto cache = std::make_unique<SoftmaxCache>(KeyValueCache(core_, capacity, dtype), slopes_);
  if (options_.qk_norm)
    return std::make_unique<NormedCache>(std::move(cache), *this, norm_options());
  if (options_.qk_conv == 0) return cache;
  return std::make_unique<ConvolvedCache>(std::move(cache), *this, options_.qk_conv, capacity,
                                          dtype);
}

}  // namespace cairn
