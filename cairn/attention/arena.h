// Cuts a borrowed block of memory into aligned arrays. An arena without memory only counts, so that
// the code which lays a workspace out is also the code which says how large it must be.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"

namespace cairn {

class Arena {
 public:
  // Counts; every array it hands out is null.
  Arena() = default;
  // Borrows `memory`, which must be aligned to kAlignment.
  explicit Arena(std::span<std::byte> memory) : base_(memory.data()), size_(memory.size()) {}

  // `count` uninitialised elements on a cache line of their own. Throws Error (usage) when the
  // memory is too small.
  template <class T>
  T* take(size_t count) {
    const size_t begin = used_;
    used_ = align_up(begin + count * sizeof(T), kAlignment);
    if (base_ == nullptr) return nullptr;
    if (used_ > size_)
      throw Error({.kind = ErrorKind::usage,
                   .doing = "laying out an attention workspace",
                   .expected = "at least " + std::to_string(used_) + " bytes",
                   .found = std::to_string(size_) + " bytes",
                   .hint = "ask AttentionMechanism::memory() for the size"});
    return reinterpret_cast<T*>(base_ + begin);
  }

  size_t used() const { return used_; }
  // What is left of the memory.
  std::span<std::byte> rest() const { return {base_ + used_, size_ - used_}; }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
};

}  // namespace cairn
