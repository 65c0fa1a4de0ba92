// Is the loss still sane? Compares each loss with the median of the last 128, in units of their
// median absolute deviation, so that earlier spikes do not hide the next one; spikes stay out of
// the window. A pure function of the losses seen, so a resumed run decides the same.
#pragma once

#include <cstddef>
#include <vector>

namespace cairn {

class SpikeDetector {
 public:
  static constexpr size_t kWindow = 128;

  explicit SpikeDetector(double threshold) : threshold_(threshold) {}

  // How many robust standard deviations `loss` lies above the window's median; 0 until the window
  // is full. Adds the loss to the window unless it is a spike.
  double see(double loss);
  bool is_spike(double score) const { return score > threshold_; }

  // For checkpoints: the window, oldest first.
  const std::vector<double>& window() const { return window_; }
  void set_window(std::vector<double> window) { window_ = std::move(window); }

 private:
  double threshold_;
  std::vector<double> window_;
};

}  // namespace cairn
