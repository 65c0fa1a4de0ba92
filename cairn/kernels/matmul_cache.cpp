#include "cairn/kernels/matmul_cache.h"

namespace cairn {

const Matmul& MatmulCache::get(const MatmulForm& form, size_t usual_rows) {
  const std::lock_guard lock(mutex_);
  for (const Entry& entry : entries_)
    if (entry.form == form && entry.usual_rows == usual_rows) return *entry.product;
  entries_.push_back({form, usual_rows, std::make_unique<Matmul>(form, threads_, usual_rows)});
  return *entries_.back().product;
}

}  // namespace cairn
