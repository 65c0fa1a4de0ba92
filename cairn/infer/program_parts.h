// What makes a decode program more than a list of operators, part by part: switches for measuring
// what each brings (`cairn bench ablation`), as Nrusimha et al. 2025 (arXiv:2505.22758) claim it
// for whole-model kernels. Logits have the same bits with and without any of them.
#pragma once

namespace cairn {

struct ProgramParts {
  // Operators of a phase without barriers between them, what is small done by every thread for
  // itself. Without: each operator of a pass of few tokens by itself between barriers, and norms,
  // sums, rounding and gates on one thread while the others wait, as graph interpreters do it.
  bool fusion = true;
  // A thread's weights in one block of memory in the order of use. Without: a block for each
  // matrix, shared by the threads.
  bool stream = true;
  // Reading ahead beyond the end of a matrix, and while waiting at a barrier. Only with the stream,
  // where what comes next is known.
  bool prefetch = true;
  // Products compiled for the width of a matrix, where there are such.
  bool constant_k = true;
};

}  // namespace cairn
