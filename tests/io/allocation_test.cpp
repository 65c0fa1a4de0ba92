// What a hostile file can make the readers allocate: every allocation of this program is counted.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"

namespace {

std::atomic<size_t> live{0};
std::atomic<size_t> peak{0};

void* counted(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  const size_t now = live += malloc_usable_size(memory);
  if (now > peak) peak = now;
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) live -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(size_t bytes) {
  return counted(std::malloc(bytes));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  const auto unit = static_cast<size_t>(alignment);
  return counted(std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit));
}
void operator delete(void* memory) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t /*bytes*/) noexcept {
  release(memory);
}
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  release(memory);
}
void operator delete(void* memory, size_t /*bytes*/, std::align_val_t /*alignment*/) noexcept {
  release(memory);
}

namespace cairn {
namespace {

template <class T>
void add(std::string& text, T value) {
  text.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string header(uint64_t tensors, uint64_t pairs) {
  std::string text = "GGUF";
  add(text, uint32_t{3});
  add(text, tensors);
  add(text, pairs);
  return text;
}

// Three letters that differ for each number below 2^24.
std::string short_name(size_t number) {
  return {static_cast<char>(number), static_cast<char>(number >> 8),
          static_cast<char>(number >> 16)};
}

// The most memory that reading the file takes at a time, whether it is accepted or not.
size_t peak_of_reading(const std::string& file) {
  const size_t before = live;
  peak = before;
  try {
    const GgufFile read({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "x.gguf");
    EXPECT_GT(read.metadata_count() + read.tensor_count(), 0U);
  } catch (const Error&) {
  }
  return peak - before;
}

TEST(GgufMemory, TheSmallestPairsTakeNoMoreThanTwiceTheFile) {
  constexpr size_t kCount = 500'000;
  std::string file = header(0, kCount);
  for (size_t i = 0; i < kCount; ++i) {
    add(file, uint64_t{3});
    file += short_name(i);
    add(file, uint32_t{0});
    add(file, uint8_t{0});
  }
  EXPECT_LE(peak_of_reading(file), 2 * file.size() + (1U << 20));
}

TEST(GgufMemory, TheSmallestTensorsTakeNoMoreThanTwiceTheFile) {
  constexpr size_t kCount = 200'000;
  std::string file = header(kCount, 0);
  for (size_t i = 0; i < kCount; ++i) {
    add(file, uint64_t{3});
    file += short_name(i);
    add(file, uint32_t{1});
    add(file, uint64_t{0});
    add(file, uint32_t{0});
    add(file, uint64_t{0});
  }
  EXPECT_LE(peak_of_reading(file), 2 * file.size() + (1U << 20));
}

TEST(GgufMemory, FalseCountsTakeNothing) {
  for (const uint64_t count : {uint64_t{1} << 20, uint64_t{1} << 40, UINT64_MAX}) {
    EXPECT_LE(peak_of_reading(header(count, 0) + "x"), 1U << 20);
    EXPECT_LE(peak_of_reading(header(0, count) + "x"), 1U << 20);
    std::string array = header(0, 1);
    add(array, uint64_t{1});
    array += "k";
    add(array, uint32_t{9});
    add(array, uint32_t{8});
    add(array, count);
    EXPECT_LE(peak_of_reading(array + std::string(1000, '\0')), 1U << 20);
  }
}

}  // namespace
}  // namespace cairn
