// The two passes over cached rows that every room's decode step makes: scores of queries against
// keys, and weighted sums of values. Each row is read once for all query heads that share it.
// Included once a target, after foreach_target.h.
#if defined(CAIRN_ATTENTION_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_ATTENTION_DECODE_INL_H_
#undef CAIRN_ATTENTION_DECODE_INL_H_
#else
#define CAIRN_ATTENTION_DECODE_INL_H_
#endif

#include <type_traits>

#include "cairn/kernels/simd-inl.h"
#include "cairn/tensor/view.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {

// Asks for rows before they are read, into the second-level cache: the first has too few places for
// lines under way. At the end of the rows those that come next are asked for.
template <class T>
struct RowsAhead {
  static constexpr size_t kBytes = size_t{16} << 10;  // how far
  View2<const T> now, next;

  HWY_INLINE void fetch(size_t row) const {
    const size_t ahead = row + kBytes / (now.cols * sizeof(T));
    if (ahead < now.rows) return fetch_row(now, ahead);
    if (ahead - now.rows < next.rows) fetch_row(next, ahead - now.rows);
  }
  static HWY_INLINE void fetch_row(const View2<const T>& rows, size_t row) {
    const auto* from = reinterpret_cast<const char*>(rows.data + row * rows.stride);
    for (size_t line = 0; line < rows.cols * sizeof(T); line += 64)
      __builtin_prefetch(from + line, 0, 2);
  }
};

#if HWY_TARGET == HWY_SCALAR
constexpr bool kSumsFour = false;
HWY_INLINE void store_four_sums(const FloatVector* v, float* to) {
  for (int i = 0; i < 4; ++i) to[i] = hn::GetLane(v[i]);
}
#else
constexpr bool kSumsFour = true;

// Adds the halves of a vector until four lanes are left.
template <class D, class V>
HWY_INLINE auto fold_to_four(D d, V v) {
  if constexpr (hn::MaxLanes(d) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return fold_to_four(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

// The sums of all lanes of four vectors: one transposition for four sums.
HWY_INLINE void store_four_sums(const FloatVector* v, float* to) {
  const FloatTag d;
  const hn::Repartition<double, FloatTag> pairs;
  const auto ab = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const auto cd = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto sums = fold_to_four(d, hn::Add(hn::BitCast(d, low), hn::BitCast(d, high)));
  hn::StoreU(sums, hn::CappedTag<float, 4>(), to);
}
#endif

// scores[g * stride + j] for J keys, 4 or 1, from key j on.
template <int G, int J, class T>
HWY_INLINE void score_keys(const float* queries, const View2<const T>& keys, size_t j,
                           float* scores, size_t stride) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d), n = keys.cols, whole = n - n % lanes;
  const T* key = keys.data + j * keys.stride;
  FloatVector sums[G][J];
  for (int g = 0; g < G; ++g)
    for (int i = 0; i < J; ++i) sums[g][i] = hn::Zero(d);
  for (size_t c = 0; c < whole; c += lanes) {
    FloatVector k[J];
    for (int i = 0; i < J; ++i) k[i] = load(d, key + i * keys.stride + c);
    for (int g = 0; g < G; ++g) {
      const auto q = hn::LoadU(d, queries + g * n + c);
      for (int i = 0; i < J; ++i) sums[g][i] = hn::MulAdd(k[i], q, sums[g][i]);
    }
  }
  for (int g = 0; g < G; ++g) {
    float* to = scores + g * stride + j;
    if constexpr (J == 4)
      store_four_sums(sums[g], to);
    else
      *to = hn::GetLane(hn::SumOfLanes(d, sums[g][0]));
    for (int i = 0; i < J; ++i)
      for (size_t c = whole; c < n; ++c)
        to[i] += load_one(key + i * keys.stride + c) * queries[g * n + c];
  }
}

// scores[g * stride + j] = q_g . k_j for G queries [G][keys.cols].
template <int G, class T>
void score_rows(const float* queries, const RowsAhead<T>& keys, float* scores, size_t stride) {
  // As many sums as registers hold.
  constexpr bool kFour = kSumsFour && (HWY_TARGET == HWY_AVX3 || G <= 2);
  size_t j = 0;
  for (; kFour && j + 4 <= keys.now.rows; j += 4) {
    for (size_t i = j; i < j + 4; ++i) keys.fetch(i);
    score_keys<G, kFour ? 4 : 1>(queries, keys.now, j, scores, stride);
  }
  for (; j < keys.now.rows; ++j) {
    keys.fetch(j);
    score_keys<G, 1>(queries, keys.now, j, scores, stride);
  }
}

// The same sums for lanes * V columns from `column` on.
template <int G, int V, class T>
void add_row_columns(const float* weights, size_t stride, const RowsAhead<T>& rows, size_t column,
                     float* out) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const View2<const T>& values = rows.now;
  FloatVector sum[G][V];
  float* to = out + column;
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) sum[g][v] = hn::LoadU(d, to + g * values.cols + v * lanes);
  for (size_t j = 0; j < values.rows; ++j) {
    const T* value = values.data + j * values.stride + column;
    if (column == 0) rows.fetch(j);
    for (int v = 0; v < V; ++v) {
      const auto x = load(d, value + v * lanes);
      for (int g = 0; g < G; ++g)
        sum[g][v] = hn::MulAdd(hn::Set(d, weights[g * stride + j]), x, sum[g][v]);
    }
  }
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < V; ++v) hn::StoreU(sum[g][v], d, to + g * values.cols + v * lanes);
}

// out[g] += sum over j of weights[g * stride + j] v_j, for G rows [G][values.cols].
template <int G, class T>
void add_rows(const float* weights, size_t stride, const RowsAhead<T>& rows, float* out) {
  const size_t lanes = hn::Lanes(FloatTag());
  const View2<const T>& values = rows.now;
  size_t column = 0;
  for (; column + 4 * lanes <= values.cols; column += 4 * lanes)
    add_row_columns<G, 4>(weights, stride, rows, column, out);
  for (; column + lanes <= values.cols; column += lanes)
    add_row_columns<G, 1>(weights, stride, rows, column, out);
  for (int g = 0; g < G && column < values.cols; ++g)
    for (size_t j = 0; j < values.rows; ++j)
      for (size_t i = column; i < values.cols; ++i)
        out[g * values.cols + i] +=
            weights[g * stride + j] * load_one(values.data + j * values.stride + i);
}

// Calls body(std::integral_constant<int, G>, first head) for the heads of a group, up to 4 at a
// time.
template <class Body>
void by_heads(size_t group, Body body) {
  size_t head = 0;
  for (; head + 4 <= group; head += 4) body(std::integral_constant<int, 4>(), head);
  if (group - head == 3) body(std::integral_constant<int, 3>(), head);
  if (group - head == 2) body(std::integral_constant<int, 2>(), head);
  if (group - head == 1) body(std::integral_constant<int, 1>(), head);
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
