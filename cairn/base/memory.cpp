#include "cairn/base/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

#include "cairn/base/cgroup.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Value in bytes of a "Name:   123 kB" line, 0 when absent.
uint64_t kibibyte_field(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name)) return std::stoull(line.substr(name.size())) * 1024;
  return 0;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED)
    throw Error({.doing = "allocating memory",
                 .expected = std::to_string(bytes) + " bytes",
                 .found = std::to_string(available_memory()) + " bytes available"});
  if (bytes >= kHugePage) ::madvise(mapped, bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(mapped);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

uint64_t available_memory() {
  return std::min(kibibyte_field("/proc/meminfo", "MemAvailable:"), cgroup_room().memory);
}

uint64_t resident_memory() {
  return kibibyte_field("/proc/self/status", "VmRSS:");
}
uint64_t peak_resident_memory() {
  return kibibyte_field("/proc/self/status", "VmHWM:");
}

}  // namespace cairn
