// A packed dataset folder as the trainer's data.
#pragma once

#include <memory>
#include <optional>

#include "cairn/data/evaluation_windows.h"
#include "cairn/data/loader.h"
#include "cairn/train/batch_source.h"

namespace cairn {

// Of the headers of a split's shards, which hold hashes of all their tokens.
uint64_t fingerprint_of(const TokenStream& stream);

class DatasetSource final : public BatchSource {
 public:
  // Opens the shards of `folder`. Throws Error (data) when it is not a dataset, a shard has
  // vanished or is damaged, or no shard holds a whole sequence. Without held-out text there is
  // nothing to evaluate on; a warning says so.
  DatasetSource(const Path& folder, const LoaderOptions& options);
  ~DatasetSource() override;

  const DatasetInfo& info() const { return training_.dataset(); }

  uint64_t samples() const override { return maker_.sampler().samples_per_epoch(); }
  uint64_t fingerprint() const override { return fingerprint_; }
  void seek(uint64_t first) override;
  Batch next() override;
  void recycle(Batch&& used) override;
  std::vector<std::string> files(uint64_t first, uint64_t count) const override;
  uint64_t held_out_windows() const override;
  Batch held_out(uint64_t first, uint64_t count) const override;
  double bytes_per_token() const override;

 private:
  LoaderOptions options_;
  TokenStream training_;
  BatchMaker maker_;
  std::optional<TokenStream> held_out_;
  std::optional<EvaluationWindows> held_out_windows_;
  std::unique_ptr<DataLoader> loader_;
  uint64_t fingerprint_ = 0;
};

}  // namespace cairn
