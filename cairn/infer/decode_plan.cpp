#include "cairn/infer/decode_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <string>

#include "cairn/base/error.h"
#include "cairn/infer/team_barrier.h"
#include "cairn/kernels/blocks.h"

namespace cairn {
namespace {

constexpr const char* kDoing = "compiling a decode program";

// A matrix and the tile it becomes.
struct Source {
  const StoredMatrix* matrix = nullptr;
  BlockType type = BlockType::f32;  // what its rows are packed from
  TileKind kind = TileKind::tf32;
  size_t group_bytes = 0;
  std::byte* home = nullptr;  // of all its tiles; null: they lie in the threads' streams

  size_t groups() const { return tile_groups(matrix->rows); }
};

Source source_of(const StoredMatrix& matrix, std::optional<BlockType> wanted) {
  const BlockType type = wanted.value_or(matrix.type);
  const std::optional<TileKind> kind = tile_kind_of(type);
  if (!kind)
    throw Error({.kind = wanted ? ErrorKind::usage : ErrorKind::data,
                 .doing = kDoing,
                 .subject = fmt::format("weights of type {}", block_type_name(type)),
                 .expected = "f32, f16, bf16, q4_0 to q8_0 or q2_k to q6_k",
                 .hint = "convert the file with cairn quantize"});
  if (wanted && matrix.cols % block_type_info(type).block_size != 0)
    throw Error(
        {.kind = ErrorKind::usage,
         .doing = kDoing,
         .subject = fmt::format("weights as {}", block_type_name(type)),
         .expected = fmt::format("rows of whole blocks of {}", block_type_info(type).block_size),
         .found = fmt::format("{} columns", matrix.cols)});
  return {&matrix, type, *kind, tile_group_bytes(*kind, matrix.cols)};
}

// Groups [begin, end) of each of several matrices that one thread takes: the matrices stand one
// after another and are cut where their bytes are.
struct GroupRange {
  size_t begin = 0, end = 0;
};

void cut(std::span<const Source> sources, size_t thread, size_t threads,
         std::span<GroupRange> ranges) {
  size_t total = 0;
  for (const Source& source : sources) total += source.groups() * source.group_bytes;
  // total * t / threads without overflow
  const auto share = [&](size_t t) { return total / threads * t + total % threads * t / threads; };
  const size_t low = share(thread), high = share(thread + 1);
  size_t at = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const size_t bytes = sources[i].group_bytes, groups = sources[i].groups();
    // The group goes to the thread in whose share it begins.
    const auto first_from = [&](size_t limit) {
      return limit <= at ? 0 : std::min(groups, (limit - at + bytes - 1) / bytes);
    };
    ranges[i] = {first_from(low), first_from(high)};
    at += groups * bytes;
  }
}

// Where a thread's tiles go: counts first, then packs.
class Packer {
 public:
  Packer() = default;
  explicit Packer(std::byte* arena) : packs_(true), arena_(arena) {}

  size_t used() const { return used_; }

  PlannedRows take(const Source& source, GroupRange range) {
    PlannedRows planned;
    if (range.begin >= range.end) return planned;
    const size_t last = std::min(range.end * kTileRows, source.matrix->rows);
    planned.first = range.begin * kTileRows;
    const size_t bytes = (range.end - range.begin) * source.group_bytes;
    if (packs_) {
      std::byte* to =
          source.home != nullptr ? source.home + range.begin * source.group_bytes : arena_ + used_;
      planned.tiles = {source.kind, last - planned.first, source.matrix->cols, to,
                       has_constant_cols(source.kind, source.matrix->cols)};
      for (size_t group = range.begin; group < range.end; ++group, to += source.group_bytes)
        pack(source, group, {to, source.group_bytes});
    }
    used_ += bytes;
    return planned;
  }

 private:
  void pack(const Source& source, size_t group, std::span<std::byte> tiles) {
    const StoredMatrix& matrix = *source.matrix;
    const size_t first = group * kTileRows, count = std::min(kTileRows, matrix.rows - first);
    const std::byte* rows[kTileRows];
    for (size_t r = 0; r < count; ++r) rows[r] = matrix.row(first + r);
    if (source.type != matrix.type) encode(source, rows, count);
    pack_tile_group(source.kind, {rows, count}, matrix.cols, tiles);
  }

  // Rows become those of another type.
  void encode(const Source& source, const std::byte** rows, size_t count) {
    const size_t cols = source.matrix->cols, bytes = block_row_bytes(source.type, cols);
    values_.resize(cols);
    encoded_.resize(kTileRows * bytes);
    for (size_t r = 0; r < count; ++r) {
      const View1<float> values(values_.data(), cols);
      decode_blocks(source.matrix->type, {rows[r], source.matrix->row_bytes()}, values);
      const std::span<std::byte> to(encoded_.data() + r * bytes, bytes);
      encode_blocks(source.type, values, to);
      rows[r] = to.data();
    }
  }

  bool packs_ = false;
  std::byte* arena_ = nullptr;
  size_t used_ = 0;
  std::vector<float> values_;
  std::vector<std::byte> encoded_;
};

struct MlpSources {
  size_t bytes() const {
    size_t bytes = down.groups() * down.group_bytes;
    for (const Source& source : gate_up) bytes += source.groups() * source.group_bytes;
    return bytes;
  }

  template <class Body>
  void each(const Body& body) {
    for (Source& source : gate_up) body(source);
    body(down);
  }

  std::array<Source, 2> gate_up;
  Source down;
};

// The matrices of a layer and what they become.
struct LayerSources {
  LayerSources(const DecoderLayerWeights& layer, std::optional<BlockType> type)
      : qkv{source_of(layer.q, type), source_of(layer.k, type), source_of(layer.v, type)},
        o(source_of(layer.o, type)) {
    const auto mlp_of = [&](const auto& of) {
      return MlpSources{{source_of(of.gate, type), source_of(of.up, type)},
                        source_of(of.down, type)};
    };
    if (layer.down.rows > 0) mlp = mlp_of(layer);
    // Rounding would choose other experts for the sake of few bytes.
    if (!layer.experts.empty()) router = source_of(layer.router, BlockType::f32);
    for (const ExpertWeights& expert : layer.experts) experts.push_back(mlp_of(expert));
  }

  template <class Body>
  void each(const Body& body) {
    for (Source& source : qkv) body(source);
    body(o);
    if (router) body(*router);
    if (mlp) mlp->each(body);
    for (MlpSources& expert : experts) expert.each(body);
  }

  std::array<Source, 3> qkv;
  Source o;
  std::optional<Source> router;
  std::optional<MlpSources> mlp;
  std::vector<MlpSources> experts;
};

ActivationKinds kinds_of(std::span<const Source> sources) {
  ActivationKinds kinds = 0;
  for (const Source& source : sources)
    if (source.matrix->rows > 0) kinds |= kinds_bit(activation_kind_of(source.kind));
  return kinds;
}

LayerKinds kinds_of(const LayerSources& sources) {
  LayerKinds kinds;
  kinds.qkv = kinds_of(sources.qkv);
  kinds.o = kinds_of({&sources.o, 1});
  if (sources.mlp) {
    kinds.gate_up = kinds_of(sources.mlp->gate_up);
    kinds.down = kinds_of({&sources.mlp->down, 1});
  }
  if (sources.router) kinds.router = kinds_of({&*sources.router, 1});
  for (const MlpSources& expert : sources.experts) {
    kinds.experts_gate_up |= kinds_of(expert.gate_up);
    kinds.experts_down |= kinds_of({&expert.down, 1});
  }
  return kinds;
}

GroupRange share_of(const Source& source, size_t thread, size_t threads) {
  GroupRange range;
  cut({&source, 1}, thread, threads, {&range, 1});
  return range;
}

void plan_gates(const MlpSources& sources, size_t thread, size_t threads, Packer& packer,
                ThreadMlp& mlp) {
  const GroupRange range = share_of(sources.gate_up[1], thread, threads);
  const bool gated = sources.gate_up[0].matrix->rows > 0;  // as many rows as up, or none
  constexpr size_t kTurn = DecodePlan::kGatedRows / kTileRows;
  for (size_t begin = range.begin; begin < range.end; begin += kTurn) {
    const GroupRange turn{begin, std::min(begin + kTurn, range.end)};
    if (gated) mlp.gate.push_back(packer.take(sources.gate_up[0], turn));
    mlp.up.push_back(packer.take(sources.gate_up[1], turn));
  }
}

ThreadLayer plan_layer(const LayerSources& sources, size_t thread, size_t threads, Packer& packer) {
  ThreadLayer layer;
  std::array<GroupRange, 3> ranges;
  cut(sources.qkv, thread, threads, ranges);
  for (size_t i = 0; i < 3; ++i) layer.qkv[i] = packer.take(sources.qkv[i], ranges[i]);
  layer.o = packer.take(sources.o, share_of(sources.o, thread, threads));
  if (sources.mlp) plan_gates(*sources.mlp, thread, threads, packer, layer.mlp);
  if (sources.router)
    layer.router = packer.take(*sources.router, share_of(*sources.router, thread, threads));
  layer.experts.resize(sources.experts.size());
  for (size_t e = 0; e < layer.experts.size(); ++e)
    plan_gates(sources.experts[e], thread, threads, packer, layer.experts[e]);
  if (!sources.mlp && sources.experts.empty()) return layer;
  // A thread adds up what all experts give to its rows, so it has the same rows of each.
  const MlpSources& first = sources.mlp ? *sources.mlp : sources.experts[0];
  const GroupRange down = share_of(first.down, thread, threads);
  if (sources.mlp) layer.mlp.down = packer.take(sources.mlp->down, down);
  for (size_t e = 0; e < layer.experts.size(); ++e)
    layer.experts[e].down = packer.take(sources.experts[e].down, down);
  return layer;
}

// What reads the last norm: a head, or keys and values.
using LastSources = std::vector<Source>;

LastSources last_sources(const DecoderWeights& weights, std::optional<BlockType> type) {
  if (weights.readers.empty()) return {source_of(weights.head, type)};
  LastSources last;
  for (const SourceReader& reader : weights.readers)
    for (const StoredMatrix* matrix : {&reader.k, &reader.v})
      last.push_back(source_of(*matrix, type));
  return last;
}

void plan_thread(std::span<const LayerSources> layers, const LastSources& last, size_t thread,
                 size_t threads, Packer& packer, ThreadProgram& program) {
  program.layers.clear();
  program.readers.clear();
  for (const LayerSources& layer : layers)
    program.layers.push_back(plan_layer(layer, thread, threads, packer));
  const auto take = [&](const Source& source) {
    return packer.take(source, share_of(source, thread, threads));
  };
  if (last.size() == 1) program.head = take(last[0]);
  for (size_t i = 0; i + 1 < last.size(); i += 2)
    program.readers.push_back({take(last[i]), take(last[i + 1])});
}

void check_memory(size_t needed) {
  const uint64_t free = available_memory();
  if (needed <= free) return;
  throw Error({.doing = kDoing,
               .expected = fmt::format("{} bytes for the weights", needed),
               .found = fmt::format("{} bytes available", free),
               .hint = "take a smaller type, as cairn quantize writes"});
}

}  // namespace

void on_each_thread(ThreadTeam& team, FunctionRef<void(int thread)> body) {
  const auto threads = static_cast<size_t>(team.size());
  TeamBarrier all(team.size(), WaitLimits::crowded());
  std::vector<std::exception_ptr> errors(threads);
  team.run(threads, [&](size_t /*chunk*/, int thread) {
    try {
      body(thread);
    } catch (...) {
      errors[static_cast<size_t>(thread)] = std::current_exception();
    }
    all.meet(thread);  // until then no thread can take a second chunk
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

DecodePlan::DecodePlan(const DecoderWeights& weights, std::optional<BlockType> type,
                       ThreadTeam& team, bool stream)
    : threads_(static_cast<size_t>(team.size())) {
  size_t idle = 0;  // bytes of experts that a token does not read
  std::vector<LayerSources> layers;
  layers.reserve(weights.layers.size());
  for (const DecoderLayerWeights& layer : weights.layers) {
    const LayerSources& sources = layers.emplace_back(layer, type);
    kinds_.push_back(kinds_of(sources));
    for (size_t e = weights.config.experts_per_token; e < sources.experts.size(); ++e)
      idle += sources.experts[e].bytes();  // experts are as large as each other
  }
  LastSources last = last_sources(weights, type);
  head_kinds_ = kinds_of(last);

  size_t needed = 0;
  std::vector<size_t> bytes(threads_.size());
  for (size_t t = 0; t < threads_.size(); ++t) {
    Packer counter;
    plan_thread(layers, last, t, threads_.size(), counter, threads_[t]);
    needed += bytes[t] = counter.used();
  }
  check_memory(needed);
  bytes_ = needed - idle;
  const auto house = [&](Source& source) {
    source.home = matrices_.emplace_back(source.groups() * source.group_bytes).data();
  };
  for (LayerSources& layer : layers)
    if (!stream) layer.each(house);
  for (Source& source : last)
    if (!stream) house(source);
  on_each_thread(team, [&](int thread) {
    const auto t = static_cast<size_t>(thread);
    if (stream) threads_[t].arena = AlignedBuffer(bytes[t]);
    Packer packer(threads_[t].arena.data());
    plan_thread(layers, last, t, threads_.size(), packer, threads_[t]);
  });
}

}  // namespace cairn
