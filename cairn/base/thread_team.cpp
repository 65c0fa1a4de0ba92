#include "cairn/base/thread_team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "cairn/base/cgroup.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

// About 50 us at 3.5 GHz: longer than the gap between two parallel regions of a training step.
constexpr int kSpins = 4000;

uint32_t job_of(uint64_t claim) {
  return static_cast<uint32_t>(claim >> 32);
}
uint32_t unclaimed_of(uint64_t claim) {
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
void wait_for_change(const std::atomic<T>& value, T old, int spins) {
  for (int spin = 0; spin < spins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

int allowed_processors() {
  int by_mask = 1;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) by_mask = std::max(1, CPU_COUNT(&mask));
  const double quota = cgroup_room().processors;
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
  // Spinning takes the processor from the thread one waits for when they have to share it.
  spins_ = threads > allowed ? 0 : kSpins;
  flush_denormals_in_this_thread();
  workers_.reserve(threads - 1);
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& error) {
    stop();
    throw Error({.doing = "starting the thread team",
                 .expected = std::to_string(threads) + " threads",
                 .found = std::to_string(workers_.size() + 1) + ", then: " + error.what()});
  }
}

ThreadTeam::~ThreadTeam() {
  stop();
}

void ThreadTeam::stop() {
  stopping_.store(true, std::memory_order_release);
  claim_.fetch_add(uint64_t{1} << 32);  // a job without chunks
  claim_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(size_t chunks, Body body) {
  if (chunks > std::numeric_limits<uint32_t>::max())
    throw Error({.doing = "running a parallel region", .expected = "fewer than 2^32 chunks"});
  if (running_.exchange(true, std::memory_order_acquire))
    throw Error({.kind = ErrorKind::usage,
                 .doing = "running a parallel region",
                 .expected = "one at a time",
                 .found = "another is running on this team"});
  if (workers_.empty() || chunks <= 1) {
    for (size_t chunk = 0; chunk < chunks; ++chunk) run_chunk(chunk, 0, body);
  } else {
    body_ = &body;
    chunks_ = static_cast<uint32_t>(chunks);
    finished_.store(0, std::memory_order_relaxed);
    const uint64_t job = job_of(claim_.load(std::memory_order_relaxed)) + uint64_t{1};
    // Sequentially consistent: the sleepers are looked for only after the new job is visible.
    claim_.exchange(job << 32 | chunks);
    claim_.notify_all();
    take_chunks(0);
    for (;;) {
      const uint32_t finished = finished_.load(std::memory_order_acquire);
      if (finished == chunks) break;
      wait_for_change(finished_, finished, spins_);
    }
  }
  std::exception_ptr error = std::exchange(error_, nullptr);
  running_.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(std::move(error));
}

void ThreadTeam::keep_off_caller() {
  const int here = sched_getcpu();
  if (workers_.empty() || here < 0 || here == kept_off_) return;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) < size()) return;
  CPU_CLR(here, &mask);
  // A kernel that refuses leaves things as they were: slower at times, never wrong.
  for (std::thread& worker : workers_)
    pthread_setaffinity_np(worker.native_handle(), sizeof mask, &mask);
  kept_off_ = here;
}

void ThreadTeam::take_chunks(int thread) {
  uint64_t claim = claim_.load(std::memory_order_acquire);
  while (unclaimed_of(claim) != 0) {
    if (!claim_.compare_exchange_weak(claim, claim - 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire))
      continue;
    const uint32_t chunks = chunks_;
    run_chunk(chunks - unclaimed_of(claim), thread, *body_);
    // Only the last one wakes the caller: it sleeps on a value that earlier ones have left.
    if (finished_.fetch_add(1) + 1 == chunks) finished_.notify_all();
    claim = claim_.load(std::memory_order_acquire);
  }
}

void ThreadTeam::run_chunk(size_t chunk, int thread, const Body& body) {
  try {
    body(chunk, thread);
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_ || chunk < error_chunk_) {
      error_ = std::current_exception();
      error_chunk_ = chunk;
    }
  }
}

void ThreadTeam::work(int thread) {
  flush_denormals_in_this_thread();
  uint64_t seen = 0;
  for (;;) {
    // Chunks being claimed change the word too; only a new job number is news.
    uint64_t now = claim_.load(std::memory_order_acquire);
    while (job_of(now) == job_of(seen)) {
      wait_for_change(claim_, now, spins_);
      now = claim_.load(std::memory_order_acquire);
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    seen = now;
    take_chunks(thread);
  }
}

}  // namespace cairn
