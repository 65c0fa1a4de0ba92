// Files of the PyPI package and ours, of the same tensors
// (tests/golden/make_safetensors_golden.py).
#include <cstring>

#include "cairn/io/safetensors.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace cairn {
namespace {

const Path kGolden = golden_folder() / "safetensors";

std::vector<TensorEntry> golden_entries() {
  return {{"été.bool", DType::boolean, {5}}, {"été.u8", DType::u8, {2, 2}},
          {"été.i64", DType::i64, {3}},      {"été.f16", DType::f16, {2, 3}},
          {"été.bf16", DType::bf16, {7}},    {"été.f32", DType::f32, {2, 4}},
          {"été.f64", DType::f64, {2, 1}},   {"scalar", DType::f32, {}},
          {"empty", DType::f32, {0, 3}}};
}

// The bytes of golden_entries()[number].
std::string golden_bytes(size_t number) {
  const TensorEntry entry = golden_entries()[number];
  std::string bytes;
  for (size_t i = 0; i < element_count(entry.shape) * dtype_size(entry.dtype); ++i)
    bytes += static_cast<char>((37 * number + i) % (entry.dtype == DType::boolean ? 2 : 256));
  const float scalar = 2.5F;
  if (entry.name == "scalar") std::memcpy(bytes.data(), &scalar, sizeof scalar);
  return bytes;
}

const auto give_golden = [](size_t number, ByteSink sink) {
  const std::string bytes = golden_bytes(number);
  sink(bytes.data(), bytes.size());
};

TEST(SafetensorsGolden, ReadsTheFileOfThePackage) {
  const TensorArchive archive(kGolden / "theirs.safetensors");
  EXPECT_EQ(archive.files()[0].metadata, (TensorMetadata{{"format", "pt"}, {"note", "été"}}));
  const std::vector<TensorEntry> entries = golden_entries();
  ASSERT_EQ(archive.tensors().size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const StoredTensor& tensor = archive.find(entries[i].name);
    EXPECT_EQ(tensor.type, entries[i].dtype);
    EXPECT_EQ(tensor.shape, entries[i].shape);
    const std::string found(reinterpret_cast<const char*>(tensor.bytes.data()),
                            tensor.bytes.size());
    EXPECT_EQ(found, golden_bytes(i)) << entries[i].name;
  }
}

// tests/python reads that file with the package. To make it anew after a change of the writer, run
// this test with CAIRN_MAKE_GOLDEN set.
TEST(SafetensorsGolden, WritesTheFileThatThePackageReads) {
  const TensorMetadata note = {{"note", "été"}};
  const Path golden = kGolden / "ours.safetensors";
  if (std::getenv("CAIRN_MAKE_GOLDEN") != nullptr)
    write_safetensors(golden, golden_entries(), give_golden, note);
  const TempFolder folder;
  write_safetensors(folder / "m.safetensors", golden_entries(), give_golden, note);
  EXPECT_EQ(read_file(folder / "m.safetensors"), read_file(golden));
}

}  // namespace
}  // namespace cairn
