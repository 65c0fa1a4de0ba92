#include "cairn/base/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "cairn/base/cgroup.h"
#include "cairn/base/error.h"

namespace cairn {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Value in bytes of a "Name:   123 kB" line of a file of /proc, 0 when absent. Allocates nothing: a
// training step asks.
uint64_t kibibyte_field(const char* path, std::string_view name) {
  const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  std::array<char, 8192> buffer;
  size_t size = 0;
  for (ssize_t got = 1; got > 0 && size < buffer.size(); size += static_cast<size_t>(got))
    if ((got = ::read(descriptor, buffer.data() + size, buffer.size() - size)) < 0) break;
  ::close(descriptor);
  const std::string_view text(buffer.data(), size);
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    if (text.substr(begin).starts_with(name)) {
      const size_t digits = text.find_first_not_of(" \t", begin + name.size());
      uint64_t value = 0;
      if (digits < text.size()) std::from_chars(&text[digits], text.data() + text.size(), value);
      return value * 1024;
    }
    if (text.find('\n', begin) == std::string_view::npos) break;
  }
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
