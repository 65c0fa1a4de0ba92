#include "cairn/base/cpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "cairn/base/error.h"

namespace cairn {
namespace {

// Not a test of its own: the tests below start this program again with another environment, because
// the instruction set is decided once a process.
TEST(CpuChild, DISABLED_PrintsItsInstructionSet) {
  try {
    std::printf("isa=%s;\n", isa_name(usable_isa()).c_str());
  } catch (const Error& error) {
    std::printf("error %d: %s;\n", error.exit_code(), error.what());
  }
}

std::string isa_with(const std::string& limit) {
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) return "no /proc/self/exe";
  const std::string command =
      "GTEST_TOTAL_SHARDS=1 GTEST_SHARD_INDEX=0 CAIRN_MAX_ISA='" + limit + "' '" + self +
      "' --gtest_filter=CpuChild.* --gtest_also_run_disabled_tests --gtest_output= 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "no process";
  std::string text;
  char buffer[512];
  while (const size_t length = fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, length);
  pclose(pipe);
  return text;
}

TEST(UsableIsa, IsLoweredByTheEnvironmentAndNeverRaised) {
  const Isa best = usable_isa();
  for (const Isa limit : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16}) {
    EXPECT_THAT(isa_with(isa_name(limit)),
                testing::HasSubstr("isa=" + isa_name(std::min(limit, best)) + ";"));
  }
}

TEST(UsableIsa, AnUnknownLimitIsWrongUse) {
  EXPECT_THAT(isa_with("sse9"),
              testing::AllOf(testing::HasSubstr("error 2: "), testing::HasSubstr("CAIRN_MAX_ISA"),
                             testing::HasSubstr("found sse9")));
}

TEST(Processor, HasANameAndAFamilyFitForAFileName) {
  EXPECT_FALSE(processor_name().empty());
  EXPECT_THAT(processor_family(), testing::MatchesRegex("[a-z0-9-]+"));
}

TEST(Denormals, AreZeroAfterTheFlush) {
  const unsigned before = __builtin_ia32_stmxcsr();
  flush_denormals_in_this_thread();
  volatile float tiny = 1e-38F;
  EXPECT_EQ(tiny / 16, 0.0F);
  __builtin_ia32_ldmxcsr(before);
}

}  // namespace
}  // namespace cairn
