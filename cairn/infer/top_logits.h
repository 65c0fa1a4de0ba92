// The k highest of many logits, found piece by piece while each is still in the first-level cache:
// by the threads of a pass over their own rows of the head, and by samplers over all logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "cairn/tensor/view.h"

namespace cairn {

struct Candidate {
  float logit;
  int32_t id;
};

// The order of sampling: falling logits, of equal ones the lower id first.
constexpr bool ahead(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Which are kept depends on the logits alone, not on the pieces nor on who saw them. -infinity is
// never kept. Allocates only when k grows beyond all before it.
class TopLogits {
 public:
  // Forgets everything; k > 0 are kept from now on.
  void begin(size_t k);
  // Logits of ids [first, first + logits.size), which are above all ids added before.
  void add(View1<const float> logits, int32_t first);
  // What another has kept of other ids.
  void add(const TopLogits& other);
  // Puts them in rising order of ids. Nothing may be added behind it.
  void sort();

  std::span<const Candidate> candidates() const { return candidates_; }
  // Of the lowest id whose logit is NaN or +infinity, if there was one: nothing may be drawn then.
  const std::optional<Candidate>& fault() const { return fault_; }

 private:
  void offer(const Candidate& candidate);
  void note_fault(const Candidate& candidate);

  size_t k_ = 1;
  // What a logit must exceed to matter. With k candidates, which are then a heap with the last of
  // them in front, the front's: one of equal height has a higher id.
  float least_ = -std::numeric_limits<float>::infinity();
  std::vector<Candidate> candidates_;
  std::optional<Candidate> fault_;
};

}  // namespace cairn
