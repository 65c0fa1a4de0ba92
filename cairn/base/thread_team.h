// The one thread team of the process. Work is cut into chunks whose boundaries the caller fixes
// without looking at the number of threads; threads claim chunks in any order. As long as chunks
// write disjoint memory, a result is therefore the same for every number of threads.
//
//   team.run(chunks, [&](size_t chunk, int thread) { ... });
//
// Between calls workers spin briefly, then sleep, so an idle team costs no CPU. A worker that wakes
// late finds no chunk left and holds nobody up: run() waits for chunks, not for threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "cairn/base/function_ref.h"

namespace cairn {

// Processors this process may use: the affinity mask, capped by the cgroups' CPU quota; at least 1.
int allowed_processors();

class ThreadTeam {
 public:
  using Body = FunctionRef<void(size_t chunk, int thread)>;

  // `threads` counts the caller; 0 means allowed_processors(). Sets flush-to-zero in the calling
  // thread and in its own. Throws Error (usage) when more threads are asked for than the process
  // may use, unless `oversubscribe` (tests); Error (failed) when the system gives no more threads.
  explicit ThreadTeam(int threads = 0, bool oversubscribe = false);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(chunk, thread) once for each chunk in [0, chunks), thread in [0, size()), and
  // returns when all have ended; what they wrote is then visible to the caller. All chunks run even
  // if one throws; then the exception of the lowest chunk is rethrown. One caller at a time; not
  // from inside a body (Error, usage: it could wait for itself). Allocates nothing.
  void run(size_t chunks, Body body);

  // Keeps the workers off the processor on which the caller now runs, for regions whose threads
  // wait for each other: two that wake up on one processor would share it for milliseconds before
  // the kernel moves one. Workers go where the caller's affinity mask lets them; nothing is done
  // when that is fewer processors than there are threads. To be called by run()'s caller; costs
  // some tens of nanoseconds as long as that has not moved.
  void keep_off_caller();

 private:
  void work(int thread);
  void take_chunks(int thread);
  void run_chunk(size_t chunk, int thread, const Body& body);
  void stop();

  // How run() and the workers meet, without a lock:
  //
  // High half of claim_: number of the current job, so that every job changes the word, if only for
  // the sleepers. Low half: chunks of this job that nobody has claimed; zero whenever no job runs.
  // A claim is one successful compare-exchange from r > 0 to r - 1 and means chunk chunks_ - r.
  //
  // chunks_ and body_ are read only after a successful claim. That chunk is then not finished, so
  // its job is not either, and run() writes the three words below only between jobs: no reader can
  // see a mixture of two jobs, however late it wakes. (Reading chunks_ before the claim instead
  // would let a late worker measure the old job's word against the new job's count.)
  alignas(64) std::atomic<uint64_t> claim_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  alignas(64) uint32_t chunks_ = 0;
  const Body* body_ = nullptr;
  std::atomic<bool> running_{false};
  std::atomic<bool> stopping_{false};
  int spins_ = 0;
  int kept_off_ = -1;       // the processor, once keep_off_caller() was called
  std::mutex error_mutex_;  // guards the two below while a job runs
  std::exception_ptr error_;
  size_t error_chunk_ = 0;
  std::vector<std::thread> workers_;
};

// Number of chunks of at most `grain` items that cover `items`.
constexpr size_t chunk_count(size_t items, size_t grain) {
  return items / grain + (items % grain != 0 ? 1 : 0);
}

}  // namespace cairn
