// Aligned memory. 64-byte alignment (a cache line, an AVX-512 register), huge pages for large
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cairn {

inline constexpr size_t kAlignment = 64;

constexpr size_t align_up(size_t value, size_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// An owned block of zeroed bytes. Movable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Throws Error (failed) with the size when there is not enough memory.
  explicit AlignedBuffer(size_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Bytes of memory this process could still use: the smaller of what the machine has available and
// what the control groups leave, page cache counted as free.
uint64_t available_memory();
// Resident set of this process now, and its highest value so far (VmRSS, VmHWM).
uint64_t resident_memory();
uint64_t peak_resident_memory();

}  // namespace cairn
