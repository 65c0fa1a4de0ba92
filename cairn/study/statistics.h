// Means over few seeds, with what they leave open.
#pragma once

#include <cstdint>
#include <span>

namespace cairn {

struct Estimate {
  double mean = 0;
  double half_width =
      0;  // of the 95 % interval by Student's t; 0 for one value, where it is unknown
  double lowest = 0, highest = 0;
  size_t count = 0;
};
Estimate estimate(std::span<const double> values);

// The 97.5 % quantile of Student's t with `degrees` of freedom, at least 1.
double student_t(size_t degrees);

// The 95 % upper bound of an error rate when none of `trials` failed: about 3 / trials (the rule of
// three). 1 without trials.
double upper_bound_without_errors(uint64_t trials);

}  // namespace cairn
