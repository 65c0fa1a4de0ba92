#include "cairn/train/pair_source.h"

#include <set>

#include "cairn/base/log.h"
#include "cairn/train/dataset_source.h"

namespace cairn {

PairSource::PairSource(const Path& folder, size_t sequences, const PairOptions& options)
    : training_(folder, Split::training), pairs_(training_, options), sequences_(sequences) {
  if (training_.dataset().held_out.documents == 0) {
    log_warning(folder.string() + " holds no held-out pairs: nothing to evaluate on");
    return;
  }
  held_out_.emplace(folder, Split::held_out);
  held_out_pairs_.emplace(*held_out_, options);
}

uint64_t PairSource::fingerprint() const {
  return fingerprint_of(training_);
}

Batch PairSource::next() {
  Batch batch = pairs_.shuffled(next_, sequences_);
  next_ += sequences_;
  return batch;
}

std::vector<std::string> PairSource::files(uint64_t first, uint64_t count) const {
  std::vector<std::string> all;
  std::set<std::string> seen;
  for (uint64_t sample = first; sample < first + count; ++sample)
    if (std::string origin = pairs_.origin(sample); seen.insert(origin).second)
      all.push_back(std::move(origin));
  return all;
}

Batch PairSource::held_out(uint64_t first, uint64_t count) const {
  return held_out_pairs_->in_order(first, count);
}

}  // namespace cairn
