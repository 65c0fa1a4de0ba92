// Hashes of bytes: XXH3, 64 bits (xxHash). Not for secrets; for fingerprints of files and weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cairn {

uint64_t hash64(const void* data, size_t bytes, uint64_t seed = 0);
uint64_t hash64(std::string_view text, uint64_t seed = 0);

// Sixteen lower-case hexadecimal digits.
std::string hex64(uint64_t value);

// The same hash over bytes that arrive in pieces.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void update(const void* data, size_t bytes);
  uint64_t digest() const;  // of everything so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn
