// Compiled products shared by everything that uses the same form: a model has many layers but few
// forms.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cairn/kernels/matmul.h"

namespace cairn {

class MatmulCache {
 public:
  explicit MatmulCache(int threads) : threads_(threads) {}

  // The product of this form, compiled at the first call. Valid as long as the cache. Thread-safe.
  const Matmul& get(const MatmulForm& form, size_t usual_rows = Matmul::kRows);

 private:
  struct Entry {
    MatmulForm form;
    size_t usual_rows;
    std::unique_ptr<Matmul> product;
  };
  int threads_;
  std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace cairn
