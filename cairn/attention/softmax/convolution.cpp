#include "cairn/attention/softmax/convolution.h"

#include <algorithm>

#include "cairn/attention/tile.h"

namespace cairn {
namespace {

// Three neighbouring tiles of rows of one head in f32, so that rows up to kMostTaps before or
// behind the middle one are at hand, a tile of results and the taps, tap by tap.
struct Scratch {
  Scratch(float* memory, size_t dim) : width(padded_width(dim)) {
    before = memory;
    here = before + kTile * width;
    behind = here + kTile * width;
    result = behind + kTile * width;
    taps = result + kTile * width;
    dtaps = taps + kMostTaps * width;
  }
  size_t width;
  float* before;
  float* here;
  float* behind;
  float* result;
  float* taps;   // [kMostTaps][width], taps[tau] weighs the token tau back
  float* dtaps;  // the same

  // The row `row` of the middle tile, or of its neighbours.
  const float* at(int64_t row) const {
    return before + (row + static_cast<int64_t>(kTile)) * static_cast<int64_t>(width);
  }
};

void load_taps(const Convolution& c, size_t head, size_t dim, const Scratch& s) {
  std::fill_n(s.taps, kMostTaps * s.width, 0.0F);
  for (size_t i = 0; i < dim; ++i)
    for (size_t tau = 0; tau < c.kernel; ++tau)
      s.taps[tau * s.width + i] = c.taps[(head * dim + i + 1) * c.kernel - 1 - tau];
}

// Rows [token - kTile, token + 2 kTile) of a head; zeros where there are none. `token` may be any.
void load_around(const AnyView3& view, size_t token, size_t head, const Scratch& s) {
  const auto load = [&](size_t begin, float* to) {
    const size_t rows = begin < view.tokens ? std::min(kTile, view.tokens - begin) : 0;
    load_tile(tile_rows(view, rows == 0 ? 0 : begin, rows, head), {}, to);
  };
  load(token, s.here);
  load(token + kTile, s.behind);
  if (token >= kTile) return load(token - kTile, s.before);
  // Near the start: the rows [0, token) end where the middle tile begins.
  std::fill_n(s.before, (kTile - token) * s.width, 0.0F);
  const AnyView2 rows = tile_rows(view, 0, token, head);
  load_tile(rows, {}, s.result);
  std::copy_n(s.result, token * s.width, s.before + (kTile - token) * s.width);
}

// How many of the taps of a token reach into its sequence: [begin of its sequence, itself].
class Sequences {
 public:
  explicit Sequences(View1<const int32_t> offsets, size_t token) : offsets_(offsets) {
    const auto* after =
        std::upper_bound(offsets.begin(), offsets.end(), static_cast<int32_t>(token));
    next_ = static_cast<size_t>(after - offsets.begin());
  }
  // Tokens must rise from call to call.
  void move_to(size_t token) {
    while (next_ + 1 < offsets_.size && static_cast<size_t>(offsets_[next_]) <= token) ++next_;
  }
  size_t begin() const { return static_cast<size_t>(offsets_[next_ - 1]); }
  size_t end() const { return static_cast<size_t>(offsets_[next_]); }

 private:
  View1<const int32_t> offsets_;
  size_t next_;
};

void add_product(const float* a, const float* b, size_t n, float* to) {
  for (size_t i = 0; i < n; ++i) to[i] += a[i] * b[i];
}

// Both directions of a row: y_t = sum of taps times x_{t - tau}, or dx_t = sum of taps times
// dy_{t + tau}, over the `reach` nearest rows.
void sum_taps(const Scratch& s, int64_t row, int64_t step, size_t reach, float* to) {
  std::fill_n(to, s.width, 0.0F);
  for (size_t tau = 0; tau < reach; ++tau)
    add_product(s.taps + tau * s.width, s.at(row + step * static_cast<int64_t>(tau)), s.width, to);
}

// dtaps += dy_t x_{t - tau} over the rows of a tile; `x` and `dy` are loaded around it.
void add_tap_gradients(const Convolution& c, const Scratch& x, const float* dy, size_t token,
                       size_t rows, Sequences sequences) {
  for (size_t row = 0; row < rows; ++row) {
    sequences.move_to(token + row);
    const size_t reach = std::min(c.kernel, token + row - sequences.begin() + 1);
    for (size_t tau = 0; tau < reach; ++tau)
      add_product(dy + row * x.width, x.at(static_cast<int64_t>(row) - static_cast<int64_t>(tau)),
                  x.width, x.dtaps + tau * x.width);
  }
}

}  // namespace

size_t convolution_scratch(size_t dim) {
  return padded_width(dim) * (4 * kTile + 2 * kMostTaps);
}

void convolve(const Convolution& c, const AnyView3& x, size_t first, const AnyView3& y,
              float* scratch, ThreadTeam& team) {
  const size_t tiles = chunk_count(y.tokens, kTile);
  team.run(x.heads * tiles, [&](size_t chunk, int thread) {
    const size_t head = chunk / tiles, begin = chunk % tiles * kTile;
    const size_t rows = std::min(kTile, y.tokens - begin), token = first + begin;
    const Scratch s(scratch + convolution_scratch(x.dim) * thread, x.dim);
    load_taps(c, head, x.dim, s);
    load_around(x, token, head, s);
    Sequences sequences(c.offsets, token);
    for (size_t row = 0; row < rows; ++row) {
      sequences.move_to(token + row);
      sum_taps(s, static_cast<int64_t>(row), -1,
               std::min(c.kernel, token + row - sequences.begin() + 1), s.result + row * s.width);
    }
    unload_tile(s.result, 1.0F, {}, tile_rows(y, begin, rows, head));
  });
}

void convolve_backward(const Convolution& c, const AnyView3& x, const AnyView3& dy,
                       const AnyView3& dx, View1<float> dtaps, float* scratch, ThreadTeam& team) {
  // A head is one unit: its taps gather over all tokens in one order.
  team.run(x.heads, [&](size_t head, int thread) {
    const Scratch s(scratch + convolution_scratch(x.dim) * thread, x.dim);
    load_taps(c, head, x.dim, s);
    std::fill_n(s.dtaps, kMostTaps * s.width, 0.0F);
    for (size_t token = 0; token < x.tokens; token += kTile) {
      const size_t rows = std::min(kTile, x.tokens - token);
      load_around(x, token, head, s);  // uses s.result
      load_tile(tile_rows(dy, token, rows, head), {}, s.result);
      add_tap_gradients(c, s, s.result, token, rows, Sequences(c.offsets, token));
      load_around(dy, token, head, s);
      Sequences sequences(c.offsets, token);
      for (size_t row = 0; row < rows; ++row) {
        sequences.move_to(token + row);
        sum_taps(s, static_cast<int64_t>(row), 1, std::min(c.kernel, sequences.end() - token - row),
                 s.result + row * s.width);
      }
      unload_tile(s.result, 1.0F, {}, tile_rows(dx, token, rows, head));
    }
    for (size_t i = 0; i < x.dim; ++i)
      for (size_t tau = 0; tau < c.kernel; ++tau)
        dtaps[(head * x.dim + i + 1) * c.kernel - 1 - tau] += s.dtaps[tau * s.width + i];
  });
}

}  // namespace cairn
