#include "cairn/autograd/interval_planner.h"

#include <algorithm>
#include <numeric>

#include "cairn/base/memory.h"

namespace cairn {
namespace {

bool alive_together(const BufferInterval& a, const BufferInterval& b) {
  return a.first <= b.last && b.first <= a.last;
}

// The lowest offset at which `buffer` overlaps none of `placed`, which are sorted by offset.
size_t lowest_gap(const BufferInterval& buffer, const std::vector<const BufferInterval*>& placed) {
  size_t offset = 0;
  for (const BufferInterval* other : placed) {
    if (!alive_together(buffer, *other)) continue;
    if (offset + buffer.bytes <= other->offset) break;
    offset = std::max(offset, align_up(other->offset + other->bytes, kAlignment));
  }
  return offset;
}

}  // namespace

size_t place_buffers(std::vector<BufferInterval>& buffers) {
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::stable_partition(order.begin(), order.end(), [&](size_t i) { return buffers[i].fixed; });
  std::vector<const BufferInterval*> placed;
  size_t total = 0;
  for (const size_t index : order) {
    BufferInterval& buffer = buffers[index];
    if (buffer.bytes == 0) continue;
    if (!buffer.fixed) buffer.offset = lowest_gap(buffer, placed);
    total = std::max(total, align_up(buffer.offset + buffer.bytes, kAlignment));
    const auto position = std::lower_bound(
        placed.begin(), placed.end(), buffer.offset,
        [](const BufferInterval* other, size_t offset) { return other->offset < offset; });
    placed.insert(position, &buffer);
  }
  return total;
}

}  // namespace cairn
