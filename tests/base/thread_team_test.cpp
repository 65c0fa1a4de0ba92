#include "cairn/base/thread_team.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "cairn/base/error.h"
#include "tests/support/processor_time.h"

namespace cairn {
namespace {

constexpr int kThreadCounts[] = {1, 2, 3, 8};

TEST(ThreadTeam, RunsEveryChunkExactlyOnce) {
  for (const int threads : kThreadCounts) {
    ThreadTeam team(threads, true);
    ASSERT_EQ(team.size(), threads);
    for (const size_t chunks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> runs(chunks);
      team.run(chunks, [&](size_t chunk, int) { runs.at(chunk).fetch_add(1); });
      for (size_t i = 0; i < chunks; ++i)
        ASSERT_EQ(runs[i], 1) << "chunk " << i << " of " << chunks << ", " << threads << " threads";
    }
  }
}

// A worker that leaves one region late must not claim a chunk of the next one by the old measure:
// regions of very different lengths follow each other without pause.
TEST(ThreadTeam, RegionsOfChangingLengthNeverMix) {
  for (const int threads : {2, 8}) {
    ThreadTeam team(threads, true);
    std::vector<std::atomic<uint32_t>> runs(40);
    std::vector<uint32_t> expected(runs.size(), 0);
    for (uint32_t region = 0; region < 20000; ++region) {
      const size_t chunks = region % 3 == 0 ? 2 : region % 3 == 1 ? runs.size() : 5;
      team.run(chunks, [&](size_t chunk, int) { runs.at(chunk).fetch_add(1); });
      for (size_t i = 0; i < chunks; ++i) ++expected[i];
      for (size_t i = 0; i < runs.size(); ++i)
        ASSERT_EQ(runs[i].load(), expected[i]) << "region " << region << ", chunk " << i;
    }
  }
}

TEST(ThreadTeam, GivesTheSameBitsWithAnyNumberOfThreads) {
  std::vector<float> values(100003);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = 1.0F / static_cast<float>(1 + i * 7919 % 1000);
  constexpr size_t kGrain = 1000;
  const size_t chunks = chunk_count(values.size(), kGrain);
  std::vector<float> first;
  for (const int threads : kThreadCounts) {
    ThreadTeam team(threads, true);
    std::vector<float> sums(chunks);
    team.run(chunks, [&](size_t chunk, int) {
      const size_t end = std::min(values.size(), (chunk + 1) * kGrain);
      for (size_t i = chunk * kGrain; i < end; ++i) sums[chunk] += values[i];
    });
    if (first.empty()) first = sums;
    EXPECT_EQ(sums, first) << threads << " threads";
  }
}

TEST(ThreadTeam, OneThreadNumberIsNeverUsedTwiceAtOnce) {
  ThreadTeam team(8, true);
  std::vector<std::atomic<int>> busy(8);
  std::atomic<int> clashes{0};
  for (int region = 0; region < 200; ++region) {
    team.run(50, [&](size_t, int thread) {
      if (busy.at(static_cast<size_t>(thread)).exchange(1) != 0) ++clashes;
      if (region % 20 == 0) sched_yield();
      busy[static_cast<size_t>(thread)] = 0;
    });
  }
  EXPECT_EQ(clashes, 0);
}

// Plain memory on purpose: ThreadSanitizer sees a missing edge between regions.
TEST(ThreadTeam, WhatARegionWroteTheNextOneReads) {
  ThreadTeam team(4, true);
  std::vector<int> values(64, 0), next(64, 0);
  for (int region = 0; region < 500; ++region) {
    team.run(64, [&](size_t chunk, int) { next[chunk] = values[63 - chunk] + 1; });
    std::swap(values, next);
  }
  for (const int value : values) EXPECT_EQ(value, 500);
}

TEST(ThreadTeam, RethrowsTheExceptionOfTheLowestChunkAfterAllHaveRun) {
  for (const int threads : kThreadCounts) {
    ThreadTeam team(threads, true);
    for (const size_t lowest : {0, 3, 99}) {
      std::atomic<int> runs{0};
      std::string message;
      try {
        team.run(100, [&](size_t chunk, int) {
          ++runs;
          if (chunk >= lowest) throw std::runtime_error("chunk " + std::to_string(chunk));
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      EXPECT_EQ(message, "chunk " + std::to_string(lowest)) << threads << " threads";
      EXPECT_EQ(runs, 100) << threads << " threads";
    }
    std::atomic<int> runs{0};
    EXPECT_NO_THROW(team.run(10, [&](size_t, int) { ++runs; })) << "the error is forgotten";
    EXPECT_EQ(runs, 10);
  }
}

TEST(ThreadTeam, RefusesToRunInsideItsOwnBody) {
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads, true);
    std::atomic<int> refused{0};
    team.run(4, [&](size_t, int) {
      try {
        team.run(2, [](size_t, int) {});
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::usage) ++refused;
      }
    });
    EXPECT_EQ(refused, 4);
  }
}

TEST(ThreadTeam, WorksWhileTheMachineIsBusy) {
  std::atomic<bool> done{false};
  std::vector<std::thread> load;
  for (int i = 0; i < 4; ++i)
    load.emplace_back([&] {
      while (!done.load(std::memory_order_relaxed)) {
      }
    });
  {
    ThreadTeam team(8, true);
    for (int region = 0; region < 200; ++region) {
      std::atomic<size_t> sum{0};
      team.run(30, [&](size_t chunk, int) { sum += chunk; });
      ASSERT_EQ(sum, 435U);
    }
  }
  done = true;
  for (std::thread& thread : load) thread.join();
}

TEST(ThreadTeam, ComesAndGoesWithAndWithoutWork) {
  for (int round = 0; round < 100; ++round) {
    ThreadTeam team(4, true);
    if (round % 2 == 0) continue;
    std::atomic<int> runs{0};
    team.run(5, [&](size_t, int) { ++runs; });
    EXPECT_EQ(runs, 5);
  }
}

TEST(ThreadTeam, CostsNoProcessorTimeWhenIdle) {
  ThreadTeam team(4, true);
  team.run(100, [](size_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the spinning ends
  const double before = processor_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  // One thread that spins takes up to 0.4 s; the margin is for a sanitizer's own threads.
  EXPECT_LT(processor_seconds() - before, 0.1);
}

TEST(ThreadTeam, FlushesDenormalsInEveryThread) {
  ThreadTeam team(4, true);
  std::atomic<int> kept{0};
  team.run(200, [&](size_t, int) {
    volatile float tiny = std::numeric_limits<float>::min();
    if (tiny / 2 != 0.0F) ++kept;
    sched_yield();
  });
  EXPECT_EQ(kept, 0);
  _mm_setcsr(_mm_getcsr() & ~0x8040U);  // other tests run in this thread
}

TEST(ThreadTeam, RefusesMoreThreadsThanTheProcessMayUse) {
  const int allowed = allowed_processors();
  EXPECT_EQ(ThreadTeam(0).size(), allowed);
  for (const int threads : {allowed + 1, 1000000, -1}) {
    try {
      const ThreadTeam team(threads);
      FAIL() << threads << " threads were given";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_THAT(error.what(), testing::HasSubstr("1 to " + std::to_string(allowed)));
    }
  }
}

// Runs `body` in a child process and returns its exit code.
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

cpu_set_t mask_of_this_thread() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  return mask;
}

// Of the caller, then of the workers.
std::vector<cpu_set_t> masks_of(ThreadTeam& team) {
  const int threads = team.size();
  std::vector<cpu_set_t> masks(static_cast<size_t>(threads));
  std::atomic<int> entered{0};
  team.run(masks.size(), [&](size_t /*chunk*/, int thread) {
    // Until all are here, so that each takes one chunk.
    for (++entered; entered < threads;) sched_yield();
    masks[static_cast<size_t>(thread)] = mask_of_this_thread();
  });
  return masks;
}

TEST(ThreadTeam, WorkersKeepOffTheCallersProcessorAndInItsMask) {
  if (allowed_processors() < 2) GTEST_SKIP() << "one processor";
  const cpu_set_t allowed = mask_of_this_thread();
  ThreadTeam team(2);
  const int before = sched_getcpu();
  team.keep_off_caller();
  const int after = sched_getcpu();
  std::vector<cpu_set_t> masks = masks_of(team);
  EXPECT_TRUE(CPU_EQUAL(&masks[0], &allowed)) << "the caller's own";
  cpu_set_t both;
  CPU_AND(&both, &masks[1], &allowed);
  EXPECT_TRUE(CPU_EQUAL(&both, &masks[1]));
  EXPECT_EQ(CPU_COUNT(&masks[1]), CPU_COUNT(&allowed) - 1);
  // Unless it has been moved in between.
  EXPECT_TRUE(before != after || !CPU_ISSET(before, &masks[1]));
}

TEST(ThreadTeam, WorkersGoAnywhereWhenThereAreMoreThreadsThanProcessors) {
  const cpu_set_t allowed = mask_of_this_thread();
  ThreadTeam team(CPU_COUNT(&allowed) + 1, true);
  team.keep_off_caller();
  for (const cpu_set_t& mask : masks_of(team)) EXPECT_TRUE(CPU_EQUAL(&mask, &allowed));
}

TEST(AllowedProcessors, FollowsTheAffinityMask) {
  EXPECT_EQ(in_child([] {
              cpu_set_t mask;
              if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 100;
              int first = 0;
              while (!CPU_ISSET(first, &mask)) ++first;
              CPU_ZERO(&mask);
              CPU_SET(first, &mask);
              if (sched_setaffinity(0, sizeof mask, &mask) != 0) return 101;
              return allowed_processors();
            }),
            1);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CAIRN_UNDER_SANITIZER 1
#endif
#endif
#ifndef CAIRN_UNDER_SANITIZER
// Sanitizers need more address space than this limit.
TEST(ThreadTeam, ASystemWithoutMoreThreadsIsAnError) {
  EXPECT_EQ(in_child([] {
              const struct rlimit limit { uint64_t{256} << 20, uint64_t{256} << 20 };
              if (setrlimit(RLIMIT_AS, &limit) != 0) return 100;
              try {
                const ThreadTeam team(1000, true);
              } catch (const Error& error) {
                return std::string(error.what()).find("1000 threads") != std::string::npos ? 0
                                                                                           : 101;
              }
              return 102;
            }),
            0);
}
#endif
#endif

TEST(ChunkCount, CoversTheItemsWithoutOverflow) {
  EXPECT_EQ(chunk_count(0, 8), 0U);
  EXPECT_EQ(chunk_count(1, 8), 1U);
  EXPECT_EQ(chunk_count(8, 8), 1U);
  EXPECT_EQ(chunk_count(9, 8), 2U);
  EXPECT_EQ(chunk_count(SIZE_MAX, 2), SIZE_MAX / 2 + 1);
}

}  // namespace
}  // namespace cairn
