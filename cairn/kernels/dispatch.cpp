#include "cairn/kernels/dispatch.h"

#include <hwy/highway.h>

#include <dnnl.hpp>

#include "cairn/base/cpu.h"

namespace cairn {

void apply_isa_limit() {
  static const bool applied = [] {
    switch (usable_isa()) {
      case Isa::avx512_bf16:
        break;
      case Isa::avx512:
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
        break;
      case Isa::avx2:
        hwy::DisableTargets(HWY_AVX3);
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
        break;
      case Isa::baseline:
        hwy::DisableTargets(HWY_AVX3 | HWY_AVX2);
        dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
        break;
    }
    return true;
  }();
  static_cast<void>(applied);
}

}  // namespace cairn
