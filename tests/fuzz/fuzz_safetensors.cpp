// Safetensors: every tensor of an accepted file must lie inside it, cover it, and be readable.
#include <cstdlib>

#include "cairn/base/error.h"
#include "cairn/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    cairn::TensorFileFacts facts;
    const auto tensors = cairn::parse_safetensors(file, "fuzz.safetensors", facts);
    size_t covered = 8 + facts.header_bytes;
    unsigned sum = 0;
    for (const auto& [name, tensor] : tensors) {
      covered += tensor.bytes.size();
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<unsigned>(byte);
    }
    if (covered != size || sum == 1U << 31) std::abort();
  } catch (const cairn::Error&) {
  }
  return 0;
}
