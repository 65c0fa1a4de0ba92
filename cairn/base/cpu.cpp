#include "cairn/base/cpu.h"

#include <cpuid.h>
#include <immintrin.h>

#include <cstdlib>
#include <fstream>

#include "cairn/base/error.h"

namespace cairn {
namespace {

Isa detect() {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  if (avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni"))
    return Isa::avx512_bf16;
  if (avx512) return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return Isa::avx2;
  return Isa::baseline;
}

Isa limit_from_environment() {
  const char* limit = std::getenv("CAIRN_MAX_ISA");
  if (limit == nullptr || *limit == '\0') return Isa::avx512_bf16;
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (isa_name(isa) == limit) return isa;
  throw Error({.kind = ErrorKind::usage,
               .doing = "reading the environment",
               .subject = "CAIRN_MAX_ISA",
               .expected = "baseline, avx2, avx512 or avx512_bf16",
               .found = limit});
}

struct FamilyModel {
  unsigned family = 0;
  unsigned model = 0;
};

FamilyModel family_model() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return {};
  FamilyModel result{(eax >> 8) & 15, (eax >> 4) & 15};
  result.model |= ((eax >> 16) & 15) << 4;
  if (result.family == 15) result.family += (eax >> 20) & 255;
  return result;
}

}  // namespace

std::string isa_name(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
  }
  return "unknown";
}

Isa usable_isa() {
  static const Isa isa = [] {
    const Isa limit = limit_from_environment();
    const Isa best = detect();
    return best < limit ? best : limit;
  }();
  return isa;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string processor_family() {
  const FamilyModel cpu = family_model();
  if (cpu.family == 26) return "zen5";
  if (cpu.family == 25 && (cpu.model >= 0x60 || (cpu.model >= 0x10 && cpu.model < 0x20)))
    return "zen4";
  return "family-" + std::to_string(cpu.family) + "-model-" + std::to_string(cpu.model);
}

void flush_denormals_in_this_thread() {
  constexpr unsigned kFlushToZero = 1U << 15;
  constexpr unsigned kDenormalsAreZero = 1U << 6;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
}

}  // namespace cairn
