// The files of run and dataset folders that programs read again: metrics.jsonl, parent.json,
// branches.jsonl, dataset.json, the manifest of a checkpoint. The first byte chooses which one.
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "cairn/base/error.h"
#include "cairn/data/dataset.h"
#include "cairn/runs/lineage.h"
#include "cairn/runs/metrics.h"
#include "cairn/train/checkpoint_store.h"

namespace {

using cairn::Path;

void read(int kind, const Path& folder) {
  const cairn::RunFolder run{folder};
  switch (kind) {
    case 0: {
      const auto lines = cairn::read_metrics(run.metrics());
      cairn::series(lines, "step", "loss");
      const size_t removed = cairn::rewind_metrics(run.metrics(), 5).size();
      if (cairn::read_metrics(run.metrics()).size() + removed != lines.size()) std::abort();
      break;
    }
    case 1:
      cairn::read_parent(run);
      break;
    case 2:
      cairn::branch_points(run);
      break;
    case 3:
      cairn::read_dataset_info(folder);
      break;
    default:
      cairn::verify_manifest(folder);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Path folder =
      std::filesystem::temp_directory_path() / ("fuzz_run_files-" + std::to_string(::getpid()));
  constexpr std::array<const char*, 5> kNames = {"metrics.jsonl", "parent.json", "branches.jsonl",
                                                 "dataset.json", "MANIFEST"};
  if (size == 0) return 0;
  const int kind = data[0] % static_cast<int>(kNames.size());
  std::filesystem::create_directories(folder);
  cairn::FileWriter writer(folder / kNames[static_cast<size_t>(kind)]);
  writer.write(data + 1, size - 1);
  writer.close();
  try {
    read(kind, folder);
  } catch (const cairn::Error&) {
  }
  std::filesystem::remove_all(folder);
  return 0;
}
