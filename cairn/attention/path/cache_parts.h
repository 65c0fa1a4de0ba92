// What the files of the cache share. Internal to the room.
#pragma once

#include "cairn/attention/path/cache.h"
#include "cairn/attention/path/task.h"

namespace cairn {

// A tile of new queries of one head on its way through the cache.
struct PathCache::Traveller {
  float* columns = nullptr;    // x [dim][kTile]
  uint32_t* packed = nullptr;  // the same for the kernel
  float* out = nullptr;        // [kTile][value_width]
  OnlineSoftmax* state = nullptr;
  size_t head = 0;
  size_t position = 0;                // of row 0 of the tile
  size_t first_row = 0, end_row = 0;  // the new ones
  bool fresh = true;                  // nothing gathered yet
};

struct PathCache::Scratch {
  Block block;
  BlockQueries queries;
  PairScratch pair;
  float* load = nullptr;                              // [kTile][larger width]
  float* next = nullptr;                              // [dim][kTile]
  uint32_t* keys = nullptr;                           // rows form
  uint32_t* values = nullptr;                         // paired form
  int32_t *first_key = nullptr, *last_key = nullptr;  // [kTile]
};

}  // namespace cairn
