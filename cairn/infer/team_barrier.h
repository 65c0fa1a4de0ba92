// Where the threads of a decode pass meet, some hundred times a token (Nrusimha et al. 2025,
// arXiv:2505.22758, section on grid synchronisation; here for a few cores that others may want
// too).
//
// Each thread owns a cache line with the number of barriers it has arrived at. Arriving is one
// store to the own line, waiting is reading the others': nothing is reset, no line is written by
// two. A waiter polls, pauses, yields and at last sleeps on the line of the thread that is late, so
// that a preempted thread costs its peers little and an unfinished pass no processor time.
//
// Why nobody sleeps for ever: an arriver stores its count and then looks for sleepers; a sleeper
// announces itself and then looks at the count once more before it sleeps. Both pairs are
// sequentially consistent, so at least one of the two sees the other. That is the protocol of
// std::atomic's wait and notify; tests/infer/team_barrier_test.cpp walks through all its
// interleavings.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cairn {

// How long a waiter does what before the next, dearer thing.
struct WaitLimits {
  int polls = 50;    // each calls `idle`, of 10-50 ns
  int pauses = 60;   // about 2 us in all
  int yields = 100;  // about 50 us in all; then sleep
  // For threads that share a processor: spinning would keep the awaited thread from running.
  static constexpr WaitLimits crowded() { return {0, 0, 4}; }
};

class TeamBarrier {
 public:
  explicit TeamBarrier(int threads, WaitLimits limits = {})
      : threads_(threads), limits_(limits), lines_(new Line[static_cast<size_t>(threads)]) {}

  // Thread `thread` of [0, threads) says that it has come. What it wrote before is visible to all
  // that wait for it.
  void arrive(int thread) {
    std::atomic<uint32_t>& count = lines_[thread].count;
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_seq_cst);
    count.notify_all();
  }
  // Returns when all have arrived as often as `thread` has. Calls idle() a few times meanwhile.
  template <class Idle>
  void wait(int thread, Idle idle) {
    const uint32_t target = lines_[thread].count.load(std::memory_order_relaxed);
    for (int other = 0; other < threads_; ++other)
      if (other != thread) wait_for(lines_[other].count, target, idle);
  }
  template <class Idle>
  void meet(int thread, Idle idle) {
    if (threads_ == 1) return;
    arrive(thread);
    wait(thread, idle);
  }
  void meet(int thread) {
    meet(thread, [] {});
  }

 private:
  struct alignas(64) Line {
    std::atomic<uint32_t> count{0};
  };

  // Counts wrap; two threads are never further apart than one barrier.
  static bool reached(uint32_t count, uint32_t target) {
    return static_cast<int32_t>(count - target) >= 0;
  }
  template <class Idle>
  void wait_for(const std::atomic<uint32_t>& count, uint32_t target, Idle& idle) {
    int rounds = 0;
    for (uint32_t now = 0; !reached(now = count.load(std::memory_order_acquire), target);
         ++rounds) {
      if (rounds < limits_.polls) {
        idle();
      } else if (rounds < limits_.polls + limits_.pauses) {
        pause();
      } else if (rounds < limits_.polls + limits_.pauses + limits_.yields) {
        sched_yield();
      } else {
        count.wait(now, std::memory_order_acquire);
      }
    }
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  int threads_;
  WaitLimits limits_;
  std::unique_ptr<Line[]> lines_;
};

}  // namespace cairn
