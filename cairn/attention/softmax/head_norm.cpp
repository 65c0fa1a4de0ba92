#include "cairn/attention/softmax/head_norm.h"

#include <algorithm>

#include "cairn/attention/tile.h"

namespace cairn {
namespace {

// Calls work(first token, tokens, scratch, tile) for every tile of the tokens of x.
template <class Work>
void by_tiles(const AnyView3& x, float* scratch, ThreadTeam& team, const Work& work) {
  team.run(chunk_count(x.tokens, kTile), [&](size_t tile, int thread) {
    const size_t begin = tile * kTile;
    work(begin, std::min(kTile, x.tokens - begin), scratch + head_norm_scratch(x.dim) * thread,
         tile);
  });
}

}  // namespace

size_t head_norm_scratch(size_t dim) {
  return 3 * kTile * padded_width(dim);
}

size_t head_norm_partials(size_t tokens, size_t dim) {
  return chunk_count(tokens, kTile) * dim;
}

void normalise_heads(const HeadNorm& norm, const AnyView3& x, const AnyView3& y, float* scratch,
                     ThreadTeam& team) {
  by_tiles(x, scratch, team, [&](size_t begin, size_t count, float* own, size_t /*tile*/) {
    const View2<float> rows(own, count, x.dim, padded_width(x.dim));
    for (size_t head = 0; head < x.heads; ++head) {
      load_tile(tile_rows(x, begin, count, head), {}, own);
      rms_norm(rows, norm.weight, norm.options, rows);
      unload_tile(own, 1.0F, {}, tile_rows(y, begin, count, head));
    }
  });
}

void normalise_heads_backward(const HeadNorm& norm, const AnyView3& x, const AnyView3& dy,
                              const AnyView3& dx, View1<float> dweight, float* partials,
                              float* scratch, ThreadTeam& team) {
  const size_t width = padded_width(x.dim);
  by_tiles(x, scratch, team, [&](size_t begin, size_t count, float* own, size_t tile) {
    const View2<float> in(own, count, x.dim, width);
    const View2<float> out(own + kTile * width, count, x.dim, width);
    const View2<float> to(own + 2 * kTile * width, count, x.dim, width);
    const View1<float> partial(partials + tile * x.dim, x.dim);
    std::fill(partial.begin(), partial.end(), 0.0F);
    for (size_t head = 0; head < x.heads; ++head) {
      load_tile(tile_rows(x, begin, count, head), {}, in.data);
      load_tile(tile_rows(dy, begin, count, head), {}, out.data);
      rms_norm_backward(in, norm.weight, norm.options, View2<const float>(out), to, partial, false);
      unload_tile(to.data, 1.0F, {}, tile_rows(dx, begin, count, head));
    }
  });
  for (size_t tile = 0; tile < chunk_count(x.tokens, kTile); ++tile)
    for (size_t i = 0; i < x.dim; ++i) dweight[i] += partials[tile * x.dim + i];
}

}  // namespace cairn
