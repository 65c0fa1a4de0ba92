#include "cairn/attention/softmax/steps.h"

namespace cairn {
const SoftmaxSteps& bf16_softmax_steps() {
  return f32_softmax_steps();
}
}  // namespace cairn
