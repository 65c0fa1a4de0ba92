// What the processor is and which instructions may be used.
#pragma once

#include <string>

namespace cairn {

// Instruction sets in rising order; each includes the ones before it.
enum class Isa { baseline, avx2, avx512, avx512_bf16 };

// "baseline", "avx2", "avx512", "avx512_bf16" (which includes VNNI).
std::string isa_name(Isa isa);

// The best set this processor and operating system have, lowered by the environment variable
// CAIRN_MAX_ISA (one of the names above). Decided once, at the first call. Throws Error (usage)
// when the variable holds another word.
Isa usable_isa();

// "AMD EPYC 9B45" or "unknown". For reports.
std::string processor_name();

// A short word for the processor's family under which committed speed ratios are kept ("zen5",
// "zen4", or "family-6-model-143").
std::string processor_family();

// Sets flush-to-zero and denormals-are-zero for the calling thread: denormal moments slow training
// tenfold. The thread team does this for its threads and for the thread that creates it.
void flush_denormals_in_this_thread();

}  // namespace cairn
