#include "cairn/infer/top_logits.h"

#include <algorithm>

#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

void TopLogits::begin(size_t k) {
  k_ = k;
  least_ = -kInfinity;
  fault_.reset();
  candidates_.clear();
  candidates_.reserve(k);
}

void TopLogits::add(View1<const float> logits, int32_t first) {
  // Few of many logits get past this.
  for (size_t i = 0; (i = first_above(logits, i, least_)) < logits.size; ++i) {
    const Candidate candidate{logits[i], first + static_cast<int32_t>(i)};
    if (!(candidate.logit < kInfinity)) note_fault(candidate);
    if (candidate.logit > least_) offer(candidate);  // not NaN
  }
}

void TopLogits::add(const TopLogits& other) {
  for (const Candidate& candidate : other.candidates_) offer(candidate);
  if (other.fault_) note_fault(*other.fault_);
}

void TopLogits::sort() {
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
}

void TopLogits::offer(const Candidate& candidate) {
  if (candidates_.size() == k_) {
    if (!ahead(candidate, candidates_.front())) return;
    std::pop_heap(candidates_.begin(), candidates_.end(), ahead);
    candidates_.pop_back();
  }
  candidates_.push_back(candidate);
  std::push_heap(candidates_.begin(), candidates_.end(), ahead);
  if (candidates_.size() == k_) least_ = candidates_.front().logit;
}

void TopLogits::note_fault(const Candidate& candidate) {
  if (!fault_ || candidate.id < fault_->id) fault_ = candidate;
}

}  // namespace cairn
