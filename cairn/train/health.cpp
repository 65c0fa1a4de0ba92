#include "cairn/train/health.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "cairn/base/median.h"

namespace cairn {

double SpikeDetector::see(double loss) {
  double score = 0;
  if (window_.size() == kWindow) {
    std::array<double, kWindow> values;  // every step comes here: on the stack
    std::copy(window_.begin(), window_.end(), values.begin());
    const double center = median_of(values);
    for (double& value : values) value = std::abs(value - center);
    // 1.4826: a normal distribution's standard deviation over its median absolute deviation. The
    // floor keeps a window of equal losses from making everything a spike.
    const double deviation = std::max(1.4826 * median_of(values), 1e-3 * center + 1e-9);
    score = (loss - center) / deviation;
  }
  if (!is_spike(score)) {
    if (window_.size() == kWindow) window_.erase(window_.begin());
    window_.push_back(loss);
  }
  return score;
}

}  // namespace cairn
