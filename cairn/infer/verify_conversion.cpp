// Whether a conversion kept every bit.
#include <algorithm>
#include <filesystem>

#include "cairn/base/error.h"
#include "cairn/infer/convert.h"
#include "cairn/model/folder.h"

namespace cairn {
namespace {

// Removes what it names, when it goes.
struct Scratch {
  explicit Scratch(const Path& where) : path(where) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "verifying a conversion",
                   .subject = path.string(),
                   .expected = "no such file, to convert back to",
                   .found = "one"});
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  Path path;
};

void note(RoundTrip& result, const std::string& name, bool same) {
  if (same)
    ++result.same;
  else
    result.different.push_back(name);
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

RoundTrip compare_folders(const Path& source, const Path& back) {
  const ModelFolder before = open_model_folder(source);
  const TensorArchive after(back);
  RoundTrip result;
  for (const auto& [name, tensor] : before.archive.tensors()) {
    const auto found = after.tensors().find(name);
    note(result, name,
         found != after.tensors().end() && found->second.dtype == tensor.dtype &&
             same_bytes(found->second.bytes, tensor.bytes));
  }
  return result;
}

RoundTrip compare_gguf(const Path& source, const Path& back) {
  const GgufArchive before(source), after(back);
  RoundTrip result;
  for (size_t i = 0; i < before.tensor_count(); ++i) {
    const GgufTensor tensor = before.tensor(i);
    if (block_type_info(tensor.type).quantized) {
      ++result.decoded;
      continue;
    }
    const auto found = after.find_tensor(tensor.name);
    note(result, std::string(tensor.name),
         found && found->type == tensor.type && same_bytes(found->bytes, tensor.bytes));
  }
  return result;
}

}  // namespace

RoundTrip verify_conversion(const Path& source, const Path& written, const Path& scratch,
                            ThreadTeam& team) {
  const Scratch back(scratch);
  if (is_gguf(source)) {
    write_gguf_model(open_as_gguf(written), back.path, nullptr, {}, team);
    return compare_gguf(source, back.path);
  }
  write_hf_model(written, back.path, {});
  return compare_folders(source, back.path);
}

}  // namespace cairn
