#include "cairn/base/thread_team.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

// About 50 us at 3.5 GHz: longer than the gap between two parallel regions of a training step.
constexpr int kSpins = 4000;

uint32_t epoch_of(uint64_t claim) {
  return static_cast<uint32_t>(claim >> 32);
}
uint32_t chunk_of(uint64_t claim) {
  return static_cast<uint32_t>(claim);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`: spinning first, because regions follow each other
// closely.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

// CPUs granted by the cgroup (version 2, then 1); infinity when there is no quota.
double cgroup_quota() {
  std::string quota;
  double period = 0;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> quota >> period) {
    if (quota != "max" && period > 0) return std::stod(quota) / period;
  }
  double microseconds = -1;
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota_file >> microseconds && period_file >> period && microseconds > 0 && period > 0)
    return microseconds / period;
  return std::numeric_limits<double>::infinity();
}

}  // namespace

int allowed_processors() {
  int by_mask = 1;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) by_mask = std::max(1, CPU_COUNT(&mask));
  const double quota = cgroup_quota();
  if (quota >= by_mask) return by_mask;
  return std::max(1, static_cast<int>(std::ceil(quota)));
}

ThreadTeam::ThreadTeam(int threads, bool oversubscribe) {
  const int allowed = allowed_processors();
  if (threads == 0) threads = allowed;
  if (threads < 0 || (threads > allowed && !oversubscribe))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "starting the thread team",
                 .subject = "threads = " + std::to_string(threads),
                 .expected = "1 to " + std::to_string(allowed),
                 .hint = "the affinity mask and the cgroup's quota allow no more"});
  flush_denormals_in_this_thread();
  workers_.reserve(threads - 1);
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadTeam::~ThreadTeam() {
  stopping_.store(true, std::memory_order_release);
  claim_.fetch_add(uint64_t{1} << 32, std::memory_order_acq_rel);
  claim_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(size_t chunks, Body body) {
  if (chunks == 0) return;
  if (workers_.empty() || chunks == 1) {
    for (size_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
    return;
  }
  if (chunks > std::numeric_limits<uint32_t>::max())
    throw Error({.doing = "running a parallel region", .expected = "fewer than 2^32 chunks"});
  body_.store(&body, std::memory_order_relaxed);
  chunks_.store(static_cast<uint32_t>(chunks), std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  const uint32_t epoch = epoch_of(claim_.load(std::memory_order_relaxed)) + 1;
  claim_.store(uint64_t{epoch} << 32, std::memory_order_release);
  claim_.notify_all();

  take_chunks(epoch, 0);
  for (;;) {
    const uint32_t finished = finished_.load(std::memory_order_acquire);
    if (finished == chunks) break;
    wait_for_change(finished_, finished);
  }
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadTeam::take_chunks(uint32_t epoch, int thread) {
  for (;;) {
    uint64_t claim = claim_.load(std::memory_order_acquire);
    do {
      // Read under the claim that validates it: if the job has changed, the exchange fails.
      if (epoch_of(claim) != epoch || chunk_of(claim) >= chunks_.load(std::memory_order_relaxed))
        return;
    } while (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire));
    const uint32_t chunk = chunk_of(claim);
    const uint32_t chunks = chunks_.load(std::memory_order_relaxed);
    try {
      (*body_.load(std::memory_order_relaxed))(chunk, thread);
    } catch (...) {
      const std::lock_guard lock(error_mutex_);
      if (!error_ || chunk < error_chunk_) {
        error_ = std::current_exception();
        error_chunk_ = chunk;
      }
    }
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) finished_.notify_all();
  }
}

void ThreadTeam::work(int thread) {
  flush_denormals_in_this_thread();
  uint64_t seen = 0;
  for (;;) {
    // Chunks being claimed change the word too; only a new job number is news.
    uint64_t now = claim_.load(std::memory_order_acquire);
    while (epoch_of(now) == epoch_of(seen)) {
      wait_for_change(claim_, now);
      now = claim_.load(std::memory_order_acquire);
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    seen = now;
    take_chunks(epoch_of(now), thread);
  }
}

}  // namespace cairn
