// The LM head with its cross-entropy, for a block of tokens at a time, so that tokens x vocabulary
// never exists. For target t of a token with logits z:
//   loss = logsumexp(z) - z_t        dz = softmax(z) - onehot(t)
// The vocabulary is walked in tiles that stay in cache: a first walk makes the logits and their
// running maximum and sum, a second turns them into dz and adds dz * head to dx. The gradient of
// the head, dz^T x, then sums over the block.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cairn/autograd/operations.h"
#include "cairn/kernels/elementwise.h"

namespace cairn {
namespace {

constexpr size_t kRows = Tape::kChunkTokens;
constexpr size_t kVocabularyTile = 1024;
constexpr size_t kGradientTile = 128;  // rows of the head that one gradient unit owns
constexpr size_t kBlockBytes = size_t{32} << 20;

// Tokens whose logits exist at once: enough that the head's gradient is not read and written too
// often, few enough that the logits stay small.
size_t block_tokens(size_t tokens, size_t vocabulary) {
  const size_t fitting = kBlockBytes / (vocabulary * sizeof(float)) / kRows * kRows;
  return std::min(align_up(tokens, kRows), std::clamp(fitting, 4 * kRows, 16 * kRows));
}

class CrossEntropyHead final : public Operation {
 public:
  CrossEntropyHead(const TokenInputs& inputs, Value x, WeightRef head, LossResult& result,
                   Recorder& recorder)
      : inputs_(inputs),
        x_(x),
        head_(head),
        result_(result),
        compute_(recorder.compute),
        products_(recorder.products),
        block_(block_tokens(recorder.tape.tokens(), head.values.rows)) {
    const size_t tokens = recorder.tape.tokens();
    for (size_t begin = 0; begin < vocabulary(); begin += kVocabularyTile) {
      const size_t count = std::min(kVocabularyTile, vocabulary() - begin);
      const Matmul& logits = products_.get(logits_form(count));
      const Matmul& dx = products_.get(dx_form(count, begin != 0));
      tiles_.push_back({begin, count, &logits, &dx,
                        recorder.tape.scratch(logits.packed_bytes(), Lifetime::saved),
                        recorder.tape.scratch(dx.packed_bytes(), Lifetime::backward)});
    }
    // Logits and losses are needed by whichever pass computes the loss.
    logits_ = recorder.tape.scratch(block_ * vocabulary() * sizeof(float), Lifetime::saved);
    losses_ = recorder.tape.scratch(tokens * sizeof(float), Lifetime::saved);
    answers_ = recorder.tape.scratch(tokens * sizeof(int32_t), Lifetime::saved);
  }

  std::string_view kind() const override { return "head"; }
  bool row_wise() const override { return false; }
  Uses uses() const override {
    return {.inputs = {x_}, .backward_data = {x_}, .weights = {head_.block}};
  }

  void forward_all(Tape& tape, ThreadTeam& team) override {
    if (tape.mode() == Tape::Mode::training) return;
    walk_blocks(tape, team, false);
  }
  void backward_all(Tape& tape, ThreadTeam& team) override { walk_blocks(tape, team, true); }

  size_t packing_units() const override { return tiles_.size(); }
  void pack_unit(Tape& tape, size_t unit, int thread) override {
    const bool training = tape.mode() == Tape::Mode::training;
    if (training && !tape.in_backward()) return;
    const Tile& tile = tiles_[unit];
    const float* rows = head_.values[tile.begin].data;
    tile.logits->pack(rows, tape.memory(tile.packed_logits).data(), thread);
    if (training) tile.dx->pack(rows, tape.memory(tile.packed_dx).data(), thread);
  }

 private:
  struct Tile {
    size_t begin = 0, count = 0;  // rows of the head
    const Matmul* logits;
    const Matmul* dx;
    Scratch packed_logits, packed_dx;
  };

  size_t vocabulary() const { return head_.values.rows; }
  size_t width() const { return head_.values.cols; }

  MatmulForm logits_form(size_t count) const {
    return {.n = count,
            .k = width(),
            .operands = compute_,
            .result = DType::f32,
            .transpose_b = true,
            .packed_b = true,
            .ldc = vocabulary()};
  }
  // dz lies where the logits were; as bf16 a row starts at the same place but is half as long.
  size_t dz_stride() const { return vocabulary() * sizeof(float) / dtype_size(compute_); }
  MatmulForm dx_form(size_t count, bool add) const {
    return {.n = width(),
            .k = count,
            .operands = compute_,
            .result = DType::f32,
            .packed_b = true,
            .accumulate = add,
            .lda = dz_stride()};
  }
  MatmulForm gradient_form(size_t tokens) const {
    return {.n = width(),
            .k = tokens,
            .operands = compute_,
            .result = DType::f32,
            .transpose_a = true,
            .accumulate = true,
            .lda = dz_stride()};
  }

  View2<float> logits(Tape& tape) const {
    return {reinterpret_cast<float*>(tape.memory(logits_).data()), block_, vocabulary()};
  }

  std::span<int32_t> answers(Tape& tape) const {
    const std::span<std::byte> bytes = tape.memory(answers_);
    return {reinterpret_cast<int32_t*>(bytes.data()), bytes.size() / sizeof(int32_t)};
  }

  void walk_blocks(Tape& tape, ThreadTeam& team, bool with_gradient) {
    for (size_t begin = 0; begin < tape.active_tokens(); begin += block_) {
      const size_t count = std::min(block_, tape.active_tokens() - begin);
      team.run(chunk_count(count, kRows), [&](size_t chunk, int thread) {
        const size_t first = chunk * kRows;
        const Rows rows{begin + first, std::min(kRows, count - first), thread};
        make_logits(tape, rows, first, with_gradient);
      });
      if (with_gradient) head_gradient(tape, team, begin, count);
    }
    sum_losses(tape);
  }

  // The rows of one chunk: `first` is their place within the block.
  void make_logits(Tape& tape, const Rows& rows, size_t first, bool with_gradient) {
    const AnyView2 x = tape.data(x_, rows);
    const auto z = logits(tape).rows_slice(first, rows.count);
    float max[kRows], sum[kRows];
    std::fill_n(max, kRows, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, kRows, 0.0F);
    for (const Tile& tile : tiles_) {
      tile.logits->run(rows.count, x.data, tape.memory(tile.packed_logits).data(),
                       z.data + tile.begin, rows.thread);
      for (size_t row = 0; row < rows.count; ++row) {
        float tile_sum = 0;
        const float tile_max = max_and_sum_exp(z[row].slice(tile.begin, tile.count), tile_sum);
        const float both = std::max(max[row], tile_max);
        sum[row] = sum[row] * std::exp(max[row] - both) + tile_sum * std::exp(tile_max - both);
        max[row] = both;
      }
    }
    auto* losses = reinterpret_cast<float*>(tape.memory(losses_).data());
    for (size_t row = 0; row < rows.count; ++row) {
      const int32_t target = inputs_.targets[rows.begin + row];
      const float log_sum = max[row] + std::log(sum[row]);
      losses[rows.begin + row] = target < 0 ? 0.0F : log_sum - z[row][static_cast<size_t>(target)];
      max[row] = log_sum;
    }
    if (with_gradient)
      make_dx(tape, rows, first, max);
    else
      choose_answers(tape, rows, first);
  }

  // The likeliest token of each row, the first of several; for ignored targets too.
  void choose_answers(Tape& tape, const Rows& rows, size_t first) {
    const auto z = logits(tape).rows_slice(first, rows.count);
    int32_t* chosen = answers(tape).data() + rows.begin;
    for (size_t row = 0; row < rows.count; ++row) {
      const float* begin = z[row].data;
      chosen[row] = static_cast<int32_t>(std::max_element(begin, begin + vocabulary()) - begin);
    }
  }

  void make_dx(Tape& tape, const Rows& rows, size_t first, const float* log_sums) {
    const auto z = logits(tape).rows_slice(first, rows.count);
    float* dx = tape.gradient(x_, rows).as<float>().data;
    for (const Tile& tile : tiles_) {
      for (size_t row = 0; row < rows.count; ++row)
        make_dz(z[row], tile, inputs_.targets[rows.begin + row], log_sums[row]);
      const auto* dz =
          reinterpret_cast<const std::byte*>(z.data) + tile.begin * dtype_size(compute_);
      tile.dx->run(rows.count, dz, tape.memory(tile.packed_dx).data(), dx, rows.thread);
    }
  }

  // One row of one tile: probabilities less one at the target, nothing for ignored targets. In bf16
  // a tile is written over the first half of what was read so far, never over what is still to
  // come.
  void make_dz(View1<float> row, const Tile& tile, int32_t target, float log_sum) const {
    const View1<float> z = row.slice(tile.begin, tile.count);
    const auto offset = static_cast<size_t>(target) - tile.begin;
    const bool here = target >= 0 && static_cast<size_t>(target) >= tile.begin && offset < z.size;
    if (compute_ != DType::bf16) {
      if (target < 0) {
        std::memset(z.data, 0, z.size * sizeof(float));
        return;
      }
      exp_minus(z, log_sum);
      if (here) z[offset] -= 1.0F;
      return;
    }
    const float at_target = here ? std::exp(z[offset] - log_sum) - 1.0F : 0.0F;
    bf16* dz = reinterpret_cast<bf16*>(row.data) + tile.begin;
    if (target < 0) {
      std::fill_n(dz, z.size, bf16{});
      return;
    }
    exp_minus(View1<const float>(z), log_sum, dz);
    if (here) dz[offset] = bf16::from_float(at_target);
  }

  void head_gradient(Tape& tape, ThreadTeam& team, size_t begin, size_t count) {
    const Matmul& product = products_.get(gradient_form(count), kGradientTile);
    const Rows all{begin, count, 0};
    const AnyView2 x = tape.data(x_, all);
    const auto* dz = reinterpret_cast<const std::byte*>(logits(tape).data);
    team.run(chunk_count(vocabulary(), kGradientTile), [&](size_t unit, int thread) {
      const size_t row = unit * kGradientTile;
      product.run(std::min(kGradientTile, vocabulary() - row), dz + row * dtype_size(compute_),
                  x.data, head_.gradient[row].data, thread);
    });
  }

  void sum_losses(Tape& tape) {
    const auto* losses = reinterpret_cast<const float*>(tape.memory(losses_).data());
    result_ = {};
    for (size_t token = 0; token < tape.active_tokens(); ++token) {
      result_.loss += static_cast<double>(losses[token]);
      result_.targets += inputs_.targets[token] >= 0 ? 1 : 0;
    }
    if (tape.mode() == Tape::Mode::evaluation)
      result_.answers = answers(tape).first(tape.active_tokens());
  }

  const TokenInputs& inputs_;
  Value x_;
  WeightRef head_;
  LossResult& result_;
  DType compute_;
  MatmulCache& products_;
  size_t block_;
  std::vector<Tile> tiles_;
  Scratch logits_;   // [block, vocabulary] f32, then dz in the compute type
  Scratch losses_;   // [tokens]
  Scratch answers_;  // [tokens] int32, of evaluation
};

}  // namespace

void cross_entropy_head(Recorder& recorder, const TokenInputs& inputs, Value x, WeightRef head,
                        LossResult& result) {
  auto operation = std::make_unique<CrossEntropyHead>(inputs, x, head, result, recorder);
  operation->label = recorder.label;
  recorder.tape.record(std::move(operation));
}

}  // namespace cairn
