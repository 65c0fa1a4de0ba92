// Learning-rate schedules as pure functions of how much of the run is done. Amounts are in any one
// unit: tokens for runs of a fixed length, seconds for runs with a time budget.
//   warm-up      lr = peak * done / warmup                          while done < warmup
//   constant     lr = peak
//   cosine       lr = peak * (end + (1 - end) (1 + cos(pi x)) / 2), x = (done - warmup) / (total -
//   warmup) wsd          lr = peak until total - decay, then peak * f(x),   x = (done - (total -
//   decay)) / decay
// Warmup-stable-decay: Hu et al. 2024 (MiniCPM), arXiv:2404.06395. Shapes of its decay, from 1 at
// x = 0 to `end` at x = 1:
//   exponential  A e^-x + B, A = (1 - end) e / (e - 1), B = (end e - 1) / (e - 1): one e-fold
//                shifted to hit both ends (Shen et al. 2024, arXiv:2408.13359, their trainer)
//   linear       1 - (1 - end) x
//   sqrt         1 - (1 - end) sqrt(x) (Haegele et al. 2024, arXiv:2405.18392)
#pragma once

namespace cairn {

enum class ScheduleKind { constant, cosine, wsd };
enum class DecayShape { exponential, linear, sqrt };

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double peak = 1e-3;      // learning rate
  double total = 0;        // length of the run
  double warmup = 0;       // length of the warm-up, from 0
  double decay = 0;        // wsd: length of the decay at the end
  double end_ratio = 0.1;  // learning rate at the end as a share of the peak
  DecayShape shape = DecayShape::exponential;
};

// f(x) of the table above; x is held to [0, 1].
double decay_factor(DecayShape shape, double x, double end_ratio);

// The learning rate when `done` of schedule.total has been trained. A step that trains B tokens
// after n asks for n + B, so that neither the first step is lost to a rate of zero nor the warm-up
// overshoots. Beyond the total the last value holds. Never negative.
double learning_rate(const Schedule& schedule, double done);

}  // namespace cairn
