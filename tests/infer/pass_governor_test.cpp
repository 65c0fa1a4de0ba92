#include "cairn/infer/pass_governor.h"

#include <gtest/gtest.h>

#include <vector>

namespace cairn {
namespace {

using std::chrono::microseconds;

// A machine on which a pass takes what it takes; counts who walks.
struct Machine {
  microseconds team, waited, one;
  size_t passes_alone = 0;

  void walk(PassGovernor& governor, size_t passes) {
    passes_alone = 0;
    for (size_t i = 0; i < passes; ++i) {
      passes_alone += governor.alone() ? 1 : 0;
      governor.alone() ? governor.one_walked(one) : governor.team_walked(team, waited);
    }
  }
};

constexpr Machine kIdle{microseconds(5000), microseconds(100), microseconds(9000)};
constexpr Machine kCrowded{microseconds(60000), microseconds(50000), microseconds(15000)};

TEST(PassGovernor, AnIdleMachineIsTheTeams) {
  PassGovernor governor;
  Machine idle = kIdle;
  idle.walk(governor, 10000);
  EXPECT_EQ(idle.passes_alone, 0U);
}

TEST(PassGovernor, ACrowdedMachineIsOneThreadsAfterTwoLatePasses) {
  PassGovernor governor;
  Machine crowded = kCrowded;
  crowded.walk(governor, 2);
  EXPECT_EQ(crowded.passes_alone, 0U);
  EXPECT_TRUE(governor.alone());
  crowded.walk(governor, 10000);
  // The team tries in 4 passes each time, after 32, 64, ... 1024, 1024, ... alone.
  EXPECT_GT(crowded.passes_alone, 9900U);
  EXPECT_LT(crowded.passes_alone, 10000U);
}

TEST(PassGovernor, OneLatePassChangesNothing) {
  PassGovernor governor;
  Machine idle = kIdle, crowded = kCrowded;
  for (int i = 0; i < 10; ++i) {
    crowded.walk(governor, 1);
    idle.walk(governor, 5);
    EXPECT_EQ(idle.passes_alone, 0U);
  }
}

TEST(PassGovernor, TheTeamComesBackWhenTheOthersHaveGone) {
  PassGovernor governor;
  Machine idle = kIdle, crowded = kCrowded;
  crowded.walk(governor, 100);
  idle.walk(governor, PassGovernor::kLongestStay + PassGovernor::kTrial);
  EXPECT_FALSE(governor.alone());
  idle.walk(governor, 1000);
  EXPECT_EQ(idle.passes_alone, 0U);
}

TEST(PassGovernor, APromptThatWasMostlyWaitedForMakesTheNextPassesOneThreads) {
  PassGovernor governor;
  governor.prompt_walked(microseconds(200000), microseconds(60000));
  EXPECT_FALSE(governor.alone());
  governor.prompt_walked(microseconds(900000), microseconds(700000));
  EXPECT_TRUE(governor.alone());
  Machine idle = kIdle;
  idle.walk(governor, PassGovernor::kFirstStay + PassGovernor::kTrial);
  EXPECT_FALSE(governor.alone());
}

TEST(PassGovernor, ATeamThatWaitsButIsQuickerGoesOn) {
  PassGovernor governor;
  Machine uneven{microseconds(5000), microseconds(2000), microseconds(9000)};
  uneven.walk(governor, 6);
  EXPECT_EQ(uneven.passes_alone, 4U) << "one trial";
  EXPECT_FALSE(governor.alone());
}

}  // namespace
}  // namespace cairn
