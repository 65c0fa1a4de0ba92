#include "cairn/base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace cairn {
namespace {

template <class T>
std::optional<T> read_value(const Path& file) {
  T value{};
  if (std::ifstream stream(file); stream >> value) return value;
  return std::nullopt;
}

// The sum of the lines "NAME VALUE" of a memory.stat file whose name is one of the two.
uint64_t sum_of(const Path& file, std::string_view first, std::string_view second) {
  std::ifstream stream(file);
  uint64_t total = 0, value = 0;
  for (std::string name; stream >> name >> value;)
    if (name == first || name == second) total += value;
  return total;
}

void limit_processors(CgroupRoom& room, const Path& group) {
  double quota = 0, period = 0;
  std::string word;
  if (std::ifstream stream(group / "cpu.max"); stream >> word >> period) {  // version 2
    if (word == "max" || word.empty() || word[0] < '0' || word[0] > '9') return;
    quota = static_cast<double>(std::strtoull(word.c_str(), nullptr, 10));
  } else {  // version 1: a quota of -1 is none
    quota = static_cast<double>(read_value<int64_t>(group / "cpu.cfs_quota_us").value_or(-1));
    period = static_cast<double>(read_value<int64_t>(group / "cpu.cfs_period_us").value_or(0));
  }
  if (quota > 0 && period > 0) room.processors = std::min(room.processors, quota / period);
}

void limit_memory(CgroupRoom& room, const Path& group) {
  std::optional<uint64_t> limit = read_value<uint64_t>(group / "memory.max");  // not for "max"
  uint64_t used = 0, cache = 0;
  if (limit) {
    used = read_value<uint64_t>(group / "memory.current").value_or(0);
    cache = sum_of(group / "memory.stat", "inactive_file", "active_file");
  } else {
    limit = read_value<uint64_t>(group / "memory.limit_in_bytes");  // none: nearly 2^63
    if (!limit) return;
    used = read_value<uint64_t>(group / "memory.usage_in_bytes").value_or(0);
    cache = sum_of(group / "memory.stat", "total_inactive_file", "total_active_file");
  }
  used -= std::min(used, cache);
  room.memory = std::min(room.memory, *limit - std::min(*limit, used));
}

// Applies both limits of `group` and of each group above it, up to `mount`.
void limit_upwards(CgroupRoom& room, const Path& mount, const std::string& group) {
  Path level = mount / Path(group).relative_path();
  for (;;) {
    limit_processors(room, level);
    limit_memory(room, level);
    if (level == mount || level.string().size() <= mount.string().size()) return;
    level = level.parent_path();
  }
}

}  // namespace

CgroupRoom cgroup_room(const Path& root) {
  CgroupRoom room;
  const Path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  // "0::/user.slice" (version 2) or "4:memory:/docker/1a2b" (version 1). Inside a container the
  // path may not exist below the mount; the walk upwards then begins where something exists.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.starts_with("name=")) continue;
    limit_upwards(room, controllers.empty() ? mounts : mounts / controllers, group);
  }
  return room;
}

}  // namespace cairn
