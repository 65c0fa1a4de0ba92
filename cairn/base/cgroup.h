// What Linux control groups leave to this process: containers, Slurm steps and systemd services
// limit through them. Versions 1 and 2, at every level from the process's group up to the root.
#pragma once

#include <cstdint>
#include <limits>

#include "cairn/base/file.h"

namespace cairn {

struct CgroupRoom {
  // CPU time a second: 1.5 is one and a half processors; infinity when there is no quota.
  double processors = std::numeric_limits<double>::infinity();
  // Bytes still to be had; the page cache counts as free, since the kernel gives it back. The
  // highest value when there is no limit.
  uint64_t memory = std::numeric_limits<uint64_t>::max();
};

// Reads ROOT/proc/self/cgroup and ROOT/sys/fs/cgroup; tests give another root. What is missing or
// unreadable sets no limit. Throws nothing but std::bad_alloc.
CgroupRoom cgroup_room(const Path& root = "/");

}  // namespace cairn
