#include "cairn/base/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>

#include "cairn/base/cgroup.h"
#include "cairn/base/error.h"
#include "tests/support/temporary_folder.h"

namespace cairn {
namespace {

TEST(AlignedBuffer, IsAlignedAndZeroed) {
  for (const size_t bytes : {size_t{1}, size_t{63}, size_t{4097}, (size_t{4} << 20) + 3}) {
    AlignedBuffer buffer(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment, 0U);
    EXPECT_EQ(buffer.size(), bytes);
    for (const std::byte b : buffer.as<std::byte>()) ASSERT_EQ(b, std::byte{0});
    std::memset(buffer.data(), 1, bytes);
  }
  EXPECT_EQ(AlignedBuffer(0).data(), nullptr);
  EXPECT_EQ(AlignedBuffer().size(), 0U);
  EXPECT_EQ(AlignedBuffer(15).as<float>().size(), 3U) << "whole elements only";
}

TEST(AlignedBuffer, Moves) {
  AlignedBuffer a(100);
  a.data()[5] = std::byte{7};
  AlignedBuffer b = std::move(a);
  EXPECT_EQ(b.data()[5], std::byte{7});
  b = AlignedBuffer(10);
  EXPECT_EQ(b.size(), 10U);
  EXPECT_EQ(b.data()[5], std::byte{0});
}

TEST(AlignedBuffer, MoreMemoryThanThereIsIsAnErrorWithTheSize) {
  try {
    const AlignedBuffer buffer(size_t{1} << 60);
    FAIL() << "a million terabytes were given";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failed);
    EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(size_t{1} << 60) + " bytes"));
  }
}

TEST(AlignUp, RoundsToTheNextMultiple) {
  EXPECT_EQ(align_up(0, 64), 0U);
  EXPECT_EQ(align_up(1, 64), 64U);
  EXPECT_EQ(align_up(64, 64), 64U);
  EXPECT_EQ(align_up(65, 64), 128U);
}

TEST(Memory, ResidentMemoryFollowsWhatIsTouched) {
  constexpr size_t kBytes = size_t{64} << 20;
  const uint64_t before = resident_memory();
  EXPECT_GT(before, uint64_t{1} << 20);
  {
    AlignedBuffer buffer(kBytes);
    std::memset(buffer.data(), 1, kBytes);
    EXPECT_GE(resident_memory(), before + kBytes * 9 / 10);
  }
  EXPECT_GE(peak_resident_memory(), before + kBytes * 9 / 10);
  EXPECT_LT(resident_memory(), peak_resident_memory());
  EXPECT_GT(available_memory(), uint64_t{1} << 20);
}

// A machine of files for cgroup_room to look at.
class CgroupRoomTest : public testing::Test {
 protected:
  void put(const std::string& name, const std::string& text) {
    const std::filesystem::path path = root / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  TemporaryFolder root;
};

TEST_F(CgroupRoomTest, NothingThereLimitsNothing) {
  const CgroupRoom room = cgroup_room(root.path());
  EXPECT_EQ(room.processors, std::numeric_limits<double>::infinity());
  EXPECT_EQ(room.memory, std::numeric_limits<uint64_t>::max());
}

TEST_F(CgroupRoomTest, Version2TakesTheTightestLimitOnTheWayUp) {
  put("proc/self/cgroup", "0::/slurm/job7/step0\n");
  put("sys/fs/cgroup/cpu.max", "max 100000\n");
  put("sys/fs/cgroup/slurm/job7/cpu.max", "150000 100000\n");
  put("sys/fs/cgroup/slurm/job7/step0/cpu.max", "400000 100000\n");
  put("sys/fs/cgroup/slurm/job7/step0/memory.max", "max\n");
  put("sys/fs/cgroup/slurm/memory.max", "1000000\n");
  put("sys/fs/cgroup/slurm/memory.current", "700000\n");
  const CgroupRoom room = cgroup_room(root.path());
  EXPECT_EQ(room.processors, 1.5);
  EXPECT_EQ(room.memory, 300000U);
}

TEST_F(CgroupRoomTest, ThePageCacheCountsAsFree) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/memory.max", "1000000\n");
  put("sys/fs/cgroup/memory.current", "900000\n");
  put("sys/fs/cgroup/memory.stat",
      "anon 300000\nfile 600000\ninactive_file 400000\nactive_file 200000\nshmem 5\n");
  EXPECT_EQ(cgroup_room(root.path()).memory, 700000U);
}

TEST_F(CgroupRoomTest, Version1ReadsEachControllersOwnTree) {
  put("proc/self/cgroup",
      "9:name=systemd:/x\n4:memory:/docker/1a2b\n2:cpu,cpuacct:/docker/1a2b\n1:cpuset:/\n");
  put("sys/fs/cgroup/memory/docker/1a2b/memory.limit_in_bytes", "5000\n");
  put("sys/fs/cgroup/memory/docker/1a2b/memory.usage_in_bytes", "3000\n");
  put("sys/fs/cgroup/memory/docker/1a2b/memory.stat",
      "cache 1000\ntotal_inactive_file 400\ntotal_active_file 100\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("sys/fs/cgroup/cpu,cpuacct/docker/1a2b/cpu.cfs_quota_us", "50000\n");
  put("sys/fs/cgroup/cpu,cpuacct/docker/1a2b/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const CgroupRoom room = cgroup_room(root.path());
  EXPECT_EQ(room.memory, 2500U);
  EXPECT_EQ(room.processors, 0.5);
}

// Inside a container the path is the host's and does not exist below the mount.
TEST_F(CgroupRoomTest, APathThatIsNotThereFallsBackToTheMount) {
  put("proc/self/cgroup", "0::/../outside/elsewhere\n");
  put("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(cgroup_room(root.path()).processors, 2.0);
}

TEST_F(CgroupRoomTest, UsageAboveTheLimitLeavesNothing) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/memory.max", "1000\n");
  put("sys/fs/cgroup/memory.current", "2000\n");
  EXPECT_EQ(cgroup_room(root.path()).memory, 0U);
}

TEST_F(CgroupRoomTest, NonsenseLimitsNothing) {
  put("proc/self/cgroup", "\n::\nx\n0::/\n0:\n");
  put("sys/fs/cgroup/cpu.max", "-5 x\n");
  put("sys/fs/cgroup/memory.max", "lots\n");
  const CgroupRoom room = cgroup_room(root.path());
  EXPECT_EQ(room.processors, std::numeric_limits<double>::infinity());
  EXPECT_EQ(room.memory, std::numeric_limits<uint64_t>::max());
}

}  // namespace
}  // namespace cairn
