// A dataset of pairs (data/pairs.h) as the trainer's data.
#pragma once

#include <optional>

#include "cairn/data/pairs.h"
#include "cairn/train/batch_source.h"

namespace cairn {

class PairSource final : public BatchSource {
 public:
  // Micro-batches of `sequences` pairs. Errors as DatasetSource's.
  PairSource(const Path& folder, size_t sequences, const PairOptions& options);

  uint64_t samples() const override { return pairs_.size(); }
  uint64_t fingerprint() const override;
  void seek(uint64_t first) override { next_ = first; }
  Batch next() override;
  std::vector<std::string> files(uint64_t first, uint64_t count) const override;
  uint64_t held_out_windows() const override {
    return held_out_pairs_ ? held_out_pairs_->size() : 0;
  }
  Batch held_out(uint64_t first, uint64_t count) const override;
  double bytes_per_token() const override { return 0; }  // half of the bytes are only read

 private:
  TokenStream training_;
  PairBatches pairs_;
  std::optional<TokenStream> held_out_;
  std::optional<PairBatches> held_out_pairs_;
  size_t sequences_;
  uint64_t next_ = 0;
};

}  // namespace cairn
