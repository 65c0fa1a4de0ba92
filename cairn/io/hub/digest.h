// Checksums by which hubs name files: SHA-256, and SHA-1 of git objects (OpenSSL's libcrypto).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cairn {

class Digest {
 public:
  enum class Kind { sha1, sha256 };
  // Throws Error (failed) when libcrypto is absent.
  explicit Digest(Kind kind);
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void update(std::string_view bytes);
  // In lower-case hexadecimal digits; once.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn
