// What this machine can do at most, measured: the limits that every speed figure is a share of.
#pragma once

#include <cstddef>

#include "cairn/base/thread_team.h"

namespace cairn {

enum class PeakKind { f32, bf16, int8 };

// Multiply-adds of registers on all threads of `team`, in 1e9 operations a second (a multiply-add
// counts two). The best of several short runs over about `seconds`. 0 when the processor (or
// CAIRN_MAX_ISA) lacks the instruction.
double measure_peak(PeakKind kind, ThreadTeam& team, double seconds = 0.3);

// Reading `bytes` of memory that the team's threads share out, again and again, in 1e9 bytes a
// second.
double measure_read_bandwidth(size_t bytes, ThreadTeam& team, double seconds = 0.3);

}  // namespace cairn
