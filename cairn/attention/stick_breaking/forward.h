// The blockwise forward pass, for training and for prompts over a cache. Internal to the room.
#pragma once

#include "cairn/attention/stick_breaking/store.h"

namespace cairn {

struct StickForwardTask {
  const StickBreaking& attention;
  StickInputs inputs;
  AnyView3 out;
  View2<float> remainder;  // [tokens of q, heads]; may be empty
  StickStore store;        // of the tokens of q
};

// Queries against the keys of one sequence: the last `queries` of its `keys` tokens.
struct StickPassage {
  size_t query = 0, queries = 0;  // first in q, count
  size_t key = 0, keys = 0;       // first in k and v, count

  size_t query_tiles() const { return chunk_count(queries, kTile); }
  size_t key_tiles() const { return chunk_count(keys, kTile); }
};

// Bytes of workspace for sequences of at most `tiles` tiles of keys.
size_t stick_forward_workspace(const AttentionGeometry& geometry, const TileKernel& kernel,
                               size_t tiles, int threads);
// All sequences, every token a query.
void run_stick_forward(const StickForwardTask& task, View1<const int32_t> offsets, Arena& arena,
                       ThreadTeam& team);
// One passage, divided among the threads. The store keeps no sticks.
void run_stick_passage(const StickForwardTask& task, const StickPassage& passage, Arena& arena,
                       ThreadTeam& team);

}  // namespace cairn
