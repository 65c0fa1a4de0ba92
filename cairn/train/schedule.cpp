#include "cairn/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace cairn {

double decay_factor(DecayShape shape, double x, double end_ratio) {
  x = std::clamp(x, 0.0, 1.0);
  switch (shape) {
    case DecayShape::exponential: {
      constexpr double e = std::numbers::e;
      const double a = (1 - end_ratio) * e / (e - 1), b = (end_ratio * e - 1) / (e - 1);
      return std::max(0.0, a * std::exp(-x) + b);
    }
    case DecayShape::linear:
      return 1 - (1 - end_ratio) * x;
    case DecayShape::sqrt:
      return 1 - (1 - end_ratio) * std::sqrt(x);
  }
  return 1;
}

double learning_rate(const Schedule& s, double done) {
  if (done < s.warmup) return s.peak * std::max(0.0, done) / s.warmup;
  switch (s.kind) {
    case ScheduleKind::constant:
      return s.peak;
    case ScheduleKind::cosine: {
      const double rest = s.total - s.warmup;
      const double x = rest > 0 ? std::clamp((done - s.warmup) / rest, 0.0, 1.0) : 1;
      return s.peak * (s.end_ratio + (1 - s.end_ratio) * (1 + std::cos(std::numbers::pi * x)) / 2);
    }
    case ScheduleKind::wsd: {
      const double start = s.total - s.decay;
      if (done <= start) return s.peak;
      return s.peak *
             decay_factor(s.shape, s.decay > 0 ? (done - start) / s.decay : 1, s.end_ratio);
    }
  }
  return s.peak;
}

}  // namespace cairn
