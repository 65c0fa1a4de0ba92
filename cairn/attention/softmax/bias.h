// A term that is added to every score, and the one that ALiBi and forget gates add. Internal to
// softmax and the rooms built on it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cairn/attention/plan.h"

namespace cairn {

// A tile of queries of one head against a tile of keys.
struct BiasTile {
  size_t head = 0;        // query head
  size_t query = 0;       // first token among those of the queries
  size_t queries = 0;     // tokens
  size_t query_slot = 0;  // of the first query
  Tile key_tile;
  size_t key_slot = 0;  // of the first key
  size_t keys = 0;      // even, may be one more than there are
  size_t columns = 0;   // queries, padded to a multiple of kWidth
};

// One query of one head against a range of keys of one sequence.
struct BiasRow {
  size_t head = 0;   // query head
  size_t query = 0;  // token among those of the queries
  size_t query_slot = 0;
  size_t key = 0;  // first, token and slot
  size_t keys = 0;
};

// What is asked of a term, a tile at a time. Borrows all that it reads and writes. Thread-safe but
// for add_gradients(): calls of one head whose tiles of queries or of keys are the same must not
// overlap; their order alone decides the result.
class ScoreBias {
 public:
  // scores [keys][kTile] = bias / scale, for a product to add to. Padding of queries must become so
  // low that its weights cannot overflow.
  virtual void fill(const BiasTile& tile, float scale, float* scores) const = 0;
  // bias [row.keys].
  virtual void fill_row(const BiasRow& row, float* bias) const = 0;
  virtual bool wants_gradients() const = 0;
  // Adds what the gradients dscores [keys][kTile] of a tile's scores mean for the term. With
  // `diagonal`, late keys have nothing from early queries (triangle.h): their quarter must not be
  // read.
  virtual void add_gradients(const BiasTile& tile, const float* dscores, bool diagonal) const = 0;

 protected:
  ~ScoreBias() = default;
};

// One number a token and query head:
//   s[i, j] = scale * q_i . k_j + potential[i] - potential[j]
// ALiBi (Press et al. 2022, arXiv:2108.12409) has potential[t] = -slope * t, a forget gate (Lin et
// al. 2025, arXiv:2503.02130) the running sum of its logarithms.
//
// Potentials are f64: over long sequences they grow while only differences between near tokens
// count. On a tile they are taken relative to one token of the sequence inside the tile of keys, so
// that what is rounded to f32 is small wherever weights are not.
struct ScorePotentials {
  const double* queries = nullptr;  // [heads, tokens of q]
  const double* keys = nullptr;     // [heads, tokens of k]
  size_t query_stride = 0;          // from one head to the next
  size_t key_stride = 0;
  const int32_t* sequence_slot = nullptr;  // [slots of the plan]: where the slot's sequence begins
  // [heads, tokens], added to: a score's gradient to its query, its negative to its key. Null: not
  // wanted. Over all keys a query's sum is 0 but for rounding; counted on both sides, that rounding
  // cancels wherever gradients are later summed along the sequence.
  double* gradients = nullptr;
};

class PotentialBias final : public ScoreBias {
 public:
  explicit PotentialBias(const ScorePotentials& potentials) : of_(potentials) {}
  void fill(const BiasTile& tile, float scale, float* scores) const override;
  void fill_row(const BiasRow& row, float* bias) const override;
  bool wants_gradients() const override { return of_.gradients != nullptr; }
  void add_gradients(const BiasTile& tile, const float* dscores, bool diagonal) const override;

 private:
  ScorePotentials of_;
};

}  // namespace cairn
