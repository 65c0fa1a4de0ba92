// The decode program of one model for one number of threads, compiled once: which rows of which
// matrix each thread multiplies, in which order, and the weights themselves, repacked into one
// contiguous stream a thread in exactly that order (Nrusimha et al. 2025, arXiv:2505.22758: the
// whole pass as one program whose weight reads never stop).
//
// A layer is five phases with a barrier behind each:
//   1  norm; rows of q, k, v          2  attention, which also stores the new keys and values
//   3  rows of o                      4  norm; rows of gate and up, gated     5  rows of down
// and one more of a mixture of experts, in phase 4 behind the rows of the router: every thread has
// its rows of every expert, and reads those of the chosen ones.
// Then norm and rows of the head; of an encoder, rows of what reads it, one reader after another. A
// layer may have no MLP: then it ends with phase 3. Rows are cut in groups of 16 by their bytes;
// every row is computed whole by one thread, so results do not depend on the cut.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "cairn/base/memory.h"
#include "cairn/base/thread_team.h"
#include "cairn/infer/decoder_weights.h"
#include "cairn/kernels/tile_products.h"
#include "cairn/kernels/tiles.h"

namespace cairn {

// Rows [first, first + tiles.rows) of a matrix; none when tiles.rows is 0.
struct PlannedRows {
  TileRows tiles;
  size_t first = 0;
};

// Rows of an MLP, or of an expert.
struct ThreadMlp {
  // The same rows of both, in turns of at most kGatedRows; gate is empty in MLPs without one.
  std::vector<PlannedRows> gate, up;
  PlannedRows down;
};

// What one thread does in one layer.
struct ThreadLayer {
  std::array<PlannedRows, 3> qkv;  // rows of q, k, v
  PlannedRows o;
  PlannedRows router;
  ThreadMlp mlp;  // with experts, the shared one; of no rows where there is none
  std::vector<ThreadMlp> experts;
};

struct ThreadProgram {
  AlignedBuffer arena;  // all tiles in the order of use
  std::vector<ThreadLayer> layers;
  PlannedRows head;
  std::vector<std::array<PlannedRows, 2>> readers;  // rows of k, v
};

// The kinds of activations that a phase's products read, a bit for each ActivationKind.
using ActivationKinds = uint8_t;
constexpr ActivationKinds kinds_bit(ActivationKind kind) {
  return static_cast<ActivationKinds>(1U << static_cast<unsigned>(kind));
}

struct LayerKinds {
  ActivationKinds qkv = 0, o = 0, gate_up = 0, down = 0;
  ActivationKinds router = 0, experts_gate_up = 0, experts_down = 0;
};

class DecodePlan {
 public:
  // Rows of gate and up that are multiplied before they are gated: both and their product stay in
  // the second-level cache for a whole chunk of a prompt.
  static constexpr size_t kGatedRows = 256;

  // Packs all matrices of `weights`, each as it is stored or encoded as `type` (routers always in
  // f32), every thread of the team its own; without `stream` into a block of memory for each
  // matrix. Throws Error: usage when a matrix cannot have the
  // type, data when its stored type has no tiles or its bytes are damaged, failed when there is not
  // enough memory.
  DecodePlan(const DecoderWeights& weights, std::optional<BlockType> type, ThreadTeam& team,
             bool stream = true);

  // One a thread.
  std::span<const ThreadProgram> programs() const { return threads_; }
  const LayerKinds& kinds(size_t layer) const { return kinds_[layer]; }
  // Of the head, or of all readers.
  ActivationKinds head_kinds() const { return head_kinds_; }
  // Bytes of tiles that one token reads.
  size_t bytes() const { return bytes_; }

 private:
  std::vector<ThreadProgram> threads_;
  std::vector<AlignedBuffer> matrices_;  // without a stream
  std::vector<LayerKinds> kinds_;
  ActivationKinds head_kinds_ = 0;
  size_t bytes_ = 0;
};

// Calls body(thread) exactly once on every thread of the team; rethrows the first exception when
// all have ended.
void on_each_thread(ThreadTeam& team, FunctionRef<void(int thread)> body);

}  // namespace cairn
