#include "cairn/infer/team_barrier.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "cairn/base/thread_team.h"

namespace cairn {
namespace {

// The protocol as a machine of single memory accesses, for all interleavings of few threads and
// rounds. Each thread: store own count, look for sleepers (wake them if any), then for each other
// thread: look at its count; if late, announce, and sleep if the count is still the one seen (the
// kernel compares and sleeps in one step); withdraw the announcement, look again.
constexpr int kMost = 3;

enum Step : int8_t { store, look_for_sleepers, look, announce, sleep, asleep, withdraw, done };

struct State {
  std::array<int8_t, kMost> count{};  // the lines
  std::array<int8_t, kMost> step{};
  std::array<int8_t, kMost> round{};   // barriers passed
  std::array<int8_t, kMost> other{};   // whom the thread looks at
  std::array<int8_t, kMost> seen{};    // the count it saw there
  std::array<int8_t, kMost> sleeps{};  // announcements: on any line, as the hashed pool has them
  auto operator<=>(const State&) const = default;
};

struct Explorer {
  int threads, rounds;
  bool announces_first = true;  // false: the classical mistake, to see that it would be found
  std::set<State> known;
  size_t stuck = 0, early = 0, finished = 0;

  void next_other(State& s, int t) const {
    do ++s.other[t];
    while (s.other[t] == t);
    s.step[t] = look;
    if (s.other[t] < threads) return;
    ++s.round[t];
    s.step[t] = s.round[t] == rounds ? done : store;
  }

  bool sleeper_exists(const State& s) const {
    for (int u = 0; u < threads; ++u)
      if (s.sleeps[u] != 0) return true;
    return false;
  }

  // One access of thread t. False when it cannot move.
  bool move(State& s, int t) const {
    switch (s.step[t]) {
      case store:
        s.count[t] = static_cast<int8_t>(s.round[t] + 1);
        s.step[t] = look_for_sleepers;
        return true;
      case look_for_sleepers:
        if (sleeper_exists(s))
          for (int u = 0; u < threads; ++u)
            if (s.step[u] == asleep && s.other[u] == t) s.step[u] = withdraw;
        s.other[t] = -1;
        next_other(s, t);
        return true;
      case look:
        s.seen[t] = s.count[s.other[t]];
        if (s.seen[t] > s.round[t])
          next_other(s, t);
        else
          s.step[t] = announces_first ? announce : sleep;
        return true;
      case announce:
        s.sleeps[t] = 1;
        s.step[t] = announces_first ? sleep : asleep;
        return true;
      case sleep:
        if (announces_first)
          s.step[t] = s.count[s.other[t]] == s.seen[t] ? asleep : withdraw;
        else  // looks again, and only then says that it is going to sleep
          s.step[t] = s.count[s.other[t]] == s.seen[t] ? announce : look;
        return true;
      case withdraw:
        s.sleeps[t] = 0;
        s.step[t] = look;
        return true;
      default:
        return false;
    }
  }

  void explore(const State& state) {
    std::vector<State> stack = {state};
    while (!stack.empty()) {
      const State from = stack.back();
      stack.pop_back();
      if (!known.insert(from).second) continue;
      check(from);
      bool moved = false;
      for (int t = 0; t < threads; ++t) {
        State to = from;
        if (!move(to, t)) continue;
        moved = true;
        stack.push_back(to);
      }
      if (moved) continue;
      bool all = true;
      for (int t = 0; t < threads; ++t) all = all && from.step[t] == done;
      ++(all ? finished : stuck);
    }
  }

  // Nobody has passed a barrier at which somebody has not arrived.
  void check(const State& s) {
    for (int t = 0; t < threads; ++t)
      for (int u = 0; u < threads; ++u)
        if (s.round[t] > s.count[u]) ++early;
  }
};

TEST(TeamBarrierProtocol, InEveryInterleavingAllArriveAndNobodyIsLeftAsleep) {
  for (const auto& [threads, rounds] : {std::pair(2, 4), std::pair(3, 2)}) {
    Explorer explorer{.threads = threads, .rounds = rounds, .known = {}};
    explorer.explore({});
    EXPECT_EQ(explorer.stuck, 0U);
    EXPECT_EQ(explorer.early, 0U);
    EXPECT_GE(explorer.finished, 1U);
    EXPECT_GT(explorer.known.size(), 300U);
  }
}

TEST(TeamBarrierProtocol, LookingBeforeAnnouncingWouldLeaveAThreadAsleep) {
  Explorer explorer{.threads = 2, .rounds = 2, .announces_first = false, .known = {}};
  explorer.explore({});
  EXPECT_GT(explorer.stuck, 0U);
}

// Threads add to each other's numbers between barriers: any early passage changes a sum.
void run_rounds(WaitLimits limits, int threads, int rounds) {
  ThreadTeam team(threads, true);
  TeamBarrier barrier(threads, limits);
  std::vector<uint64_t> value(static_cast<size_t>(threads), 1), next(value);
  team.run(value.size(), [&](size_t /*chunk*/, int thread) {
    for (int round = 0; round < rounds; ++round) {
      uint64_t sum = 0;
      for (const uint64_t v : value) sum = sum * 31 + v;
      next[static_cast<size_t>(thread)] = sum + static_cast<uint64_t>(thread);
      barrier.meet(thread);
      value[static_cast<size_t>(thread)] = next[static_cast<size_t>(thread)];
      barrier.meet(thread);
    }
  });
  std::vector<uint64_t> expected(value.size(), 1);
  for (int round = 0; round < rounds; ++round) {
    uint64_t sum = 0;
    for (const uint64_t v : expected) sum = sum * 31 + v;
    for (size_t t = 0; t < expected.size(); ++t) expected[t] = sum + t;
  }
  EXPECT_EQ(value, expected);
}

TEST(TeamBarrier, KeepsRoundsApartHoweverItsThreadsWait) {
  for (const int threads : {1, 2, 5}) {
    run_rounds({}, threads, 200);
    run_rounds(WaitLimits::crowded(), threads, 1000);
    run_rounds({0, 0, {}}, threads, 1000);  // sleeps at once
  }
}

TEST(TeamBarrier, AWaiterSleepsUntilTheLastArrives) {
  TeamBarrier barrier(2, {2, 0, {}});
  int idles = 0;
  bool late = false;
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    late = true;
    barrier.meet(1);
  });
  barrier.meet(0, [&] { ++idles; });
  EXPECT_TRUE(late);
  EXPECT_LE(idles, 2);
  EXPECT_GE(barrier.lost(0), std::chrono::milliseconds(1));
  barrier.forget_lost(0);
  EXPECT_EQ(barrier.lost(0).count(), 0);
  other.join();
}

}  // namespace
}  // namespace cairn
