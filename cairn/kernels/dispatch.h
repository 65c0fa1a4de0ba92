// Lowers what Highway and oneDNN may choose to the instruction set that base/cpu.h allows.
#pragma once

namespace cairn {

// Call once, before the first kernel runs (main, test mains, the Python module). Later calls do
// nothing. Throws Error (usage) when CAIRN_MAX_ISA holds an unknown word.
void apply_isa_limit();

}  // namespace cairn
