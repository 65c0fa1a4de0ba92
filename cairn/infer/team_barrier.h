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
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cairn {

// How long a waiter does what before the next, dearer thing.
struct WaitLimits {
  int polls = 50;                          // each calls `idle`, of 10-50 ns
  int pauses = 60;                         // about 2 us in all
  std::chrono::microseconds yielding{50};  // by the clock: where others run, a single yield can
                                           // take milliseconds; then sleep
  // For threads that share a processor: spinning would keep the awaited thread from running.
  static constexpr WaitLimits crowded() { return {0, 0, std::chrono::microseconds{5}}; }
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
    std::chrono::nanoseconds lost{};
    for (int other = 0; other < threads_; ++other)
      if (other != thread) lost += wait_for(lines_[other].count, target, idle);
    // Seldom: the others are reading this line.
    if (lost.count() > 0) lines_[thread].lost += lost;
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

  // What `thread` has lost in waits that outlasted polls and pauses: the awaited thread was not
  // running, or had much more to do. To be called by that thread, or when none is in the barrier.
  std::chrono::nanoseconds lost(int thread) const { return lines_[thread].lost; }
  void forget_lost(int thread) { lines_[thread].lost = {}; }

 private:
  using Clock = std::chrono::steady_clock;
  struct alignas(64) Line {
    std::atomic<uint32_t> count{0};
    std::chrono::nanoseconds lost{0};  // of the owner alone
  };

  // Counts wrap; two threads are never further apart than one barrier.
  static bool reached(uint32_t count, uint32_t target) {
    return static_cast<int32_t>(count - target) >= 0;
  }
  // Returns the time since pauses had been enough.
  template <class Idle>
  std::chrono::nanoseconds wait_for(const std::atomic<uint32_t>& count, uint32_t target,
                                    Idle& idle) {
    for (int round = 0; round < limits_.polls + limits_.pauses; ++round) {
      if (reached(count.load(std::memory_order_acquire), target)) return {};
      if (round < limits_.polls)
        idle();
      else
        pause();
    }
    uint32_t now = count.load(std::memory_order_acquire);
    if (reached(now, target)) return {};
    const Clock::time_point begin = Clock::now();
    for (; !reached(now, target); now = count.load(std::memory_order_acquire)) {
      if (Clock::now() - begin < limits_.yielding)
        sched_yield();
      else
        count.wait(now, std::memory_order_acquire);
    }
    return Clock::now() - begin;
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
