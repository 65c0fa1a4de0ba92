#include "cairn/kernels/peak.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "cairn/base/cpu.h"
#include "cairn/base/memory.h"
#include "cairn/base/seconds_since.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cairn/kernels/peak.cpp"
#include <hwy/foreach_target.h>  // this file again, once a target

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cairn::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Two FMA units of latency four want eight independent sums; twelve leave room for longer
// latencies.
constexpr size_t kSums = 12;

// Runs `rounds` x kSums fused multiply-adds; returns floating-point operations done.
double fma_f32(size_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  hn::Vec<decltype(d)> sum[kSums];
  for (auto& s : sum) s = hn::Set(d, 0.5F);
  const auto a = hn::Set(d, 0.999F), b = hn::Set(d, 1e-3F);
  for (size_t round = 0; round < rounds; ++round)
    for (auto& s : sum) s = hn::MulAdd(s, a, b);
  auto total = sum[0];
  for (size_t i = 1; i < kSums; ++i) total = hn::Add(total, sum[i]);
  *sink += hn::GetLane(hn::SumOfLanes(d, total));
  return 2.0 * static_cast<double>(rounds * kSums * hn::Lanes(d));
}

float sum_f32(const float* data, size_t count) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  for (size_t i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, data + i));
    b = hn::Add(b, hn::LoadU(d, data + i + lanes));
    c = hn::Add(c, hn::LoadU(d, data + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, data + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

}  // namespace cairn::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn {
HWY_EXPORT(fma_f32);
HWY_EXPORT(sum_f32);

namespace {

constexpr size_t kSums = 12;  // as above

// Highway 1.0.3 has no name for these two instructions: whole functions with their own target.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) double fma_bf16(size_t rounds,
                                                                                float* sink) {
  __m512 sum[kSums];
  for (auto& s : sum) s = _mm512_set1_ps(0.5F);
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3c003c00));
  for (size_t round = 0; round < rounds; ++round)
    for (auto& s : sum) s = _mm512_dpbf16_ps(s, a, a);
  __m512 total = sum[0];
  for (size_t i = 1; i < kSums; ++i) total = _mm512_add_ps(total, sum[i]);
  alignas(64) float lanes[16];
  _mm512_store_ps(lanes, total);
  *sink += lanes[0];
  return 2.0 * static_cast<double>(rounds * kSums * 32);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) double fma_int8(size_t rounds,
                                                                                float* sink) {
  __m512i sum[kSums];
  for (auto& s : sum) s = _mm512_set1_epi32(1);
  const __m512i a = _mm512_set1_epi8(1);
  for (size_t round = 0; round < rounds; ++round)
    for (auto& s : sum) s = _mm512_dpbusd_epi32(s, a, a);
  __m512i total = sum[0];
  for (size_t i = 1; i < kSums; ++i) total = _mm512_add_epi32(total, sum[i]);
  alignas(64) int32_t lanes[16];
  _mm512_store_si512(lanes, total);
  *sink += static_cast<float>(lanes[0]);
  return 2.0 * static_cast<double>(rounds * kSums * 64);
}

using Loop = double (*)(size_t rounds, float* sink);

Loop loop_of(PeakKind kind) {
  if (kind == PeakKind::f32)
    return [](size_t rounds, float* sink) { return HWY_DYNAMIC_DISPATCH(fma_f32)(rounds, sink); };
  if (usable_isa() < Isa::avx512_bf16) return nullptr;
  return kind == PeakKind::bf16 ? fma_bf16 : fma_int8;
}

// Repeats `work` (which returns an amount) on every thread; the best amount a second of a trial.
// Nobody begins before all have come: a late thread would find that another has done its part too.
template <class Work>
double best_rate(ThreadTeam& team, double seconds, const Work& work) {
  std::vector<double> amounts(team.size());
  double best = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    const auto trial = std::chrono::steady_clock::now();
    std::atomic<size_t> came{0};
    team.run(amounts.size(), [&](size_t part, int) {
      for (++came; came < amounts.size();) std::this_thread::yield();
      amounts[part] = work(part);
    });
    const double elapsed = seconds_since(trial);
    double total = 0;
    for (const double amount : amounts) total += amount;
    best = std::max(best, total / elapsed);
  } while (seconds_since(start) < seconds);
  return best;
}

}  // namespace

double measure_peak(PeakKind kind, ThreadTeam& team, double seconds) {
  const Loop loop = loop_of(kind);
  if (loop == nullptr) return 0;
  constexpr size_t kRounds = 1'000'000;  // about 3 ms
  std::vector<float> sinks(16 * static_cast<size_t>(team.size()));
  return best_rate(team, seconds, [&](size_t part) { return loop(kRounds, &sinks[16 * part]); }) /
         1e9;
}

double measure_read_bandwidth(size_t bytes, ThreadTeam& team, double seconds) {
  AlignedBuffer buffer(std::max(bytes, size_t{4096}));
  const auto values = buffer.as<float>();
  std::fill(values.begin(), values.end(), 1.0F);  // untouched pages would all be one page
  const auto parts = static_cast<size_t>(team.size());
  const size_t each = values.size() / parts;
  // Small buffers are read many times a region, so that the region's start does not count.
  const size_t repeats = std::max(size_t{1}, (size_t{16} << 20) / std::max(bytes, size_t{1}));
  std::vector<float> sinks(16 * parts);
  return best_rate(team, seconds,
                   [&](size_t part) {
                     for (size_t i = 0; i < repeats; ++i)
                       sinks[16 * part] +=
                           HWY_DYNAMIC_DISPATCH(sum_f32)(values.data() + part * each, each);
                     return static_cast<double>(each * sizeof(float) * repeats);
                   }) /
         1e9;
}

}  // namespace cairn
#endif
