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

// Processors this process may use: the affinity mask, capped by the cgroup's CPU quota; at least 1.
int allowed_processors();

class ThreadTeam {
 public:
  using Body = FunctionRef<void(size_t chunk, int thread)>;

  // `threads` counts the caller; 0 means allowed_processors(). Throws Error (usage) when more
  // threads are asked for than the process may use, unless `oversubscribe` (tests).
  explicit ThreadTeam(int threads = 0, bool oversubscribe = false);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(chunk, thread) once for each chunk in [0, chunks), thread in [0, size()), and
  // returns when all have ended. All chunks run even if one throws; then the exception of the
  // lowest chunk is rethrown. One caller at a time; not from inside a body. Allocates nothing.
  void run(size_t chunks, Body body);

 private:
  void work(int thread);
  void take_chunks(uint32_t epoch, int thread);

  // High half: number of the current job; low half: the next unclaimed chunk. A claim is one
  // compare-exchange, so a chunk can only be claimed for the job that is current.
  alignas(64) std::atomic<uint64_t> claim_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  alignas(64) std::atomic<uint32_t> chunks_{0};
  std::atomic<const Body*> body_{nullptr};
  std::atomic<bool> stopping_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
  size_t error_chunk_ = 0;
  std::vector<std::thread> workers_;
};

// Number of chunks of at most `grain` items that cover `items`.
constexpr size_t chunk_count(size_t items, size_t grain) {
  return (items + grain - 1) / grain;
}

}  // namespace cairn
