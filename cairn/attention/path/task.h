// What forward and backward have in common. Internal to the room.
#pragma once

#include "cairn/attention/path/block.h"
#include "cairn/attention/path/supers.h"
#include "cairn/attention/softmax/steps.h"

namespace cairn {

struct PathTask {
  PathInputs in;
  BlockSize size{0, 1};
  size_t heads = 0, kv_heads = 0, group = 0;
  size_t value_dim = 0, value_width = 0;
  float scale = 1;
  const TileKernel* f32 = nullptr;     // of the transform
  const TileKernel* kernel = nullptr;  // of the products of attention
  const SoftmaxSteps* steps = nullptr;
  TilePlan plan;
  SuperPlan supers;
  const double* gate = nullptr;  // c by slot [heads][slots]; null: no gate

  float factor() const { return scale * kLog2E; }
};

// Fills everything but plan, supers and gate. Throws Error (usage) on shapes that disagree.
PathTask make_task(std::string_view doing, const PathInputs& inputs);
// Takes and fills the tables; with an arena that counts, takes only.
void plan_task(PathTask& task, size_t tokens, Arena& arena, ThreadTeam* team);

// The gate's share of the logits of a pair of tiles, in units of raw scores.
struct PairBias {
  float key[kTile], query[kTile];
};
// False without a gate.
bool pair_bias(const PathTask& task, size_t head, size_t query_tile, size_t key_tile,
               PairBias& bias);

// A tile of queries that gathers what it attends to.
struct PathQueries {
  const void* columns = nullptr;  // packed for `kernel`
  float* out = nullptr;           // [kTile][value_width]
  OnlineSoftmax* state = nullptr;
  size_t head = 0, tile = 0;
  bool fresh = true;  // nothing gathered yet
};
struct PathKeys {
  const void* rows = nullptr;    // packed for `kernel`
  const void* values = nullptr;  // paired form
  size_t tile = 0;
};
// Scratch of one meeting of tiles.
struct PairScratch {
  float* scores = nullptr;      // [kTile keys][kTile queries]
  uint32_t* weights = nullptr;  // left operand; the scores themselves in f32
  float* rescale = nullptr;     // [kTile]
};
PairScratch take_pair_scratch(Arena& arena, const TileKernel& kernel);

// How a tile of queries sees a tile of keys.
struct PairMask {
  size_t queries = kTile, keys = kTile;  // rows to look at; keys even
  TileMask mask;
  const PairBias* bias = nullptr;
  bool diagonal = false;  // the keys are the queries' own
};
// From raw scores in scratch to what the queries gather. `fresh`: `out` holds nothing yet.
struct Gathering {
  float* out = nullptr;  // [kTile][value_width]
  OnlineSoftmax* state = nullptr;
  bool fresh = true;
};
void gather_weighted(const PathTask& task, const PairMask& pair, const void* values,
                     const Gathering& to, const PairScratch& s);
// The same for tiles of the plan.
void gather_scores(const PathTask& task, const PathKeys& keys, PathQueries& queries,
                   const PairScratch& s);
// The same for earlier keys, scores included.
void meet(const PathTask& task, const PathKeys& keys, PathQueries& queries, const PairScratch& s);

}  // namespace cairn
