// A steady training step allocates nothing: every allocation of this test program is counted.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>

#include "cairn/base/file.h"
#include "cairn/base/progress.h"
#include "cairn/data/dataset.h"
#include "cairn/runs/metrics.h"
#include "cairn/train/dataset_source.h"
#include "tests/train/tiny_run.h"

namespace {

std::atomic<size_t> ours{0};   // asked for by anything but oneDNN
std::atomic<size_t> large{0};  // above 4 KiB, by anyone
std::atomic<bool> counting{false};

bool from_onednn(const void* caller) {
  Dl_info info;
  return ::dladdr(caller, &info) != 0 && std::strstr(info.dli_fname, "libdnnl") != nullptr;
}

void count(size_t bytes, const void* caller) {
  if (!counting) return;
  if (bytes > 4096) ++large;
  // oneDNN makes a few objects of some hundred bytes a call.
  if (!from_onednn(caller)) ++ours;
}

void* taken(size_t bytes, size_t alignment) {
  void* memory =
      alignment <= alignof(std::max_align_t)
          ? std::malloc(bytes)
          : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t bytes) {
  count(bytes, __builtin_return_address(0));
  return taken(bytes, 1);
}
void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  count(bytes, __builtin_return_address(0));
  return std::malloc(bytes);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  count(bytes, __builtin_return_address(0));
  return taken(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t /*bytes*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace cairn {
namespace {

constexpr uint64_t kSteady = 160;  // the windows of speeds and losses are full

// Counts from the first batch of step kSteady to that of the last step: everything that steps do,
// their report included.
class CountedSource final : public BatchSource {
 public:
  CountedSource(BatchSource& source, uint64_t first, uint64_t last)
      : source_(source), first_(first), last_(last) {}
  uint64_t samples() const override { return source_.samples(); }
  uint64_t fingerprint() const override { return source_.fingerprint(); }
  void seek(uint64_t first) override { source_.seek(first); }
  Batch next() override {
    ++batches_;
    if (batches_ == first_) counting = true;
    if (batches_ == last_) counting = false;
    return source_.next();
  }
  void recycle(Batch&& used) override { source_.recycle(std::move(used)); }
  std::vector<std::string> files(uint64_t first, uint64_t count) const override {
    return source_.files(first, count);
  }
  uint64_t held_out_windows() const override { return 0; }
  Batch held_out(uint64_t first, uint64_t count) const override {
    return source_.held_out(first, count);
  }
  double bytes_per_token() const override { return 0; }

 private:
  BatchSource& source_;
  uint64_t first_, last_, batches_ = 0;
};

void write_dataset(const Path& folder) {
  constexpr int32_t kVocabulary = 64;
  make_folders(folder);
  DatasetInfo info{.vocab_size = kVocabulary, .tokenizer = 9, .eos_id = 0};
  const RandomStream random(5, "documents");
  for (const Split split : {Split::training, Split::held_out}) {
    ShardWriter writer(info.vocab_size, info.tokenizer);
    std::string files;
    for (uint64_t d = 0; d < 40; ++d) {
      std::vector<int32_t> tokens;
      for (uint64_t i = 0; i < 500; ++i)
        tokens.push_back(static_cast<int32_t>(random.below(kVocabulary, i, d)));
      writer.add_document(tokens);
      files += "document-" + std::to_string(d) + ".txt\n";
    }
    SplitInfo& part = split == Split::training ? info.training : info.held_out;
    part = {.tokens = writer.tokens(),
            .documents = writer.documents(),
            .bytes = writer.tokens(),
            .shards = {std::string(split_name(split)) + "-00000.tokens"}};
    writer.write(folder / part.shards[0]);
    write_file_atomically(folder / (std::string(split_name(split)) + ".files"), files);
  }
  write_dataset_info(info, folder);
}

TEST(TrainingStep, AllocatesNothingOnceItIsSteadyAndMemoryStaysAsItIs) {
  constexpr uint64_t kSteps = 1000;
  set_progress_quiet(true);  // its line is made by the clock, at most five times a second
  const TemporaryFolder folder;
  write_dataset(folder.path() / "data");
  const TrainConfig config =
      tiny_config({"run.steps=" + std::to_string(kSteps), "checkpoint.every=0", "eval.every=0",
                   "log.every=1", "log.tensorboard=true"});
  DatasetSource data(folder.path() / "data", {.sequences = config.batch.micro_batch,
                                              .length = config.batch.seq_len,
                                              .mask_documents = true});
  const uint64_t batches = config.batch.accumulation();
  CountedSource counted(data, kSteady * batches + 1, (kSteps - 1) * batches + 1);
  ThreadTeam team(2, true);
  Trainer trainer({.config = config,
                   .data = counted,
                   .team = team,
                   .model = config.model_config(64),
                   .folder = {folder.path() / "run"}});
  trainer.run();
  EXPECT_EQ(ours, 0U);
  EXPECT_EQ(large, 0U);

  double early = 0, late = 0;
  for (const Json& line : read_metrics(folder.path() / "run" / "metrics.jsonl")) {
    if (line.at("step") == 50 && line.contains("rss_bytes")) early = line.at("rss_bytes");
    if (line.at("step") == kSteps && line.contains("rss_bytes")) late = line.at("rss_bytes");
  }
  EXPECT_GT(early, 0);
  EXPECT_NEAR(late / early, 1, 0.01);
}

}  // namespace
}  // namespace cairn
