// Places buffers that live for known stretches of time into one block of memory, so that buffers
// which are never alive together share it.
#pragma once

#include <cstddef>
#include <vector>

namespace cairn {

struct BufferInterval {
  size_t bytes = 0;
  size_t first = 0;    // the first moment at which the buffer is written
  size_t last = 0;     // the last moment at which it is read (inclusive)
  size_t offset = 0;   // result: from the start of the block, a multiple of kAlignment
  bool fixed = false;  // the offset is given; such buffers do not overlap while alive together
};

// Fills in the offsets and returns the size of the block. Larger buffers are placed first, each at
// the lowest offset that is free for as long as it lives; deterministic.
size_t place_buffers(std::vector<BufferInterval>& buffers);

}  // namespace cairn
