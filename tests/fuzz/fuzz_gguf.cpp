// GGUF: everything that an accepted file holds must be readable and lie inside it.
#include <cstdlib>

#include "cairn/base/error.h"
#include "cairn/io/gguf.h"

namespace {

// Through every accessor; whether it refuses is its own affair.
size_t use(const cairn::GgufValue& value) {
  size_t seen = value.show().size();
  const auto attempt = [&](auto&& access) {
    try {
      access();
    } catch (const cairn::Error&) {
      ++seen;
    }
  };
  attempt([&] { seen += value.as_bool() ? 1 : 0; });
  attempt([&] { seen += static_cast<size_t>(value.as_integer(0, 100)); });
  attempt([&] { seen += value.as_number() > 0 ? 1 : 0; });
  attempt([&] { seen += value.as_string().size(); });
  attempt([&] { seen += value.as_integers().size() + value.as_floats().size(); });
  attempt([&] { seen += value.as_strings().size(); });
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const cairn::GgufFile file(bytes, "fuzz.gguf");
    size_t seen = 0;
    for (size_t i = 0; i < file.metadata_count(); ++i) {
      const cairn::GgufValue value = file.metadata(i);
      seen += use(value);
      if (file.find(value.key())->bytes().data() != value.bytes().data()) std::abort();
    }
    for (size_t i = 0; i < file.tensor_count(); ++i) {
      const cairn::GgufTensor tensor = file.tensor(i);
      if (file.find_tensor(tensor.name) != i) std::abort();
      if (!tensor.bytes.empty() && tensor.bytes.data() + tensor.bytes.size() > bytes.data() + size)
        std::abort();
      for (const std::byte byte : tensor.bytes) seen += std::to_integer<size_t>(byte);
    }
    if (seen == SIZE_MAX) std::abort();
  } catch (const cairn::Error&) {
  }
  return 0;
}
