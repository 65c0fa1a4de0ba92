// `cairn bench gemv`: products of stored weights and a few tokens, by themselves: bytes of weights
// a second as a share of the read bandwidth of a buffer as large, in the same run; a pass of
// several tokens against a pass of one; operations a second as a share of the multiply-add peak.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/base/progress.h"
#include "cairn/base/random.h"
#include "cairn/cli/bench.h"
#include "cairn/infer/decode_plan.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"
#include "cairn/kernels/peak.h"
#include "cairn/kernels/tile_products.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> formats;
  std::vector<std::string> tokens;
  int64_t cols = 1536;
  int64_t kib = 0;
  int64_t runs = 15;
  int64_t threads = 0;
  bool json = false;
};

// The second-level cache of each thread, the third level, memory.
constexpr int64_t kSizes[] = {512, 12288, 262144};  // KiB

[[noreturn]] void refuse(const char* option, const char* expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = "measuring products",
               .subject = option,
               .expected = expected,
               .found = "\"" + found + "\""});
}

std::vector<BlockType> wanted_formats(const Options& options) {
  if (options.formats.empty())
    return {BlockType::q4_0, BlockType::q4_1, BlockType::q4_k, BlockType::q6_k,
            BlockType::q8_0, BlockType::bf16, BlockType::f16};
  std::vector<BlockType> types;
  for (const std::string& name : options.formats) {
    const BlockTypeInfo* info = find_block_type(name);
    if (info == nullptr || !tile_kind_of(info->type))
      refuse("--format", "a type such as q4_0, q6_k or bf16", name);
    types.push_back(info->type);
  }
  return types;
}

// "1,2,4" or several of them.
std::vector<size_t> wanted_tokens(const Options& options) {
  std::vector<size_t> counts;
  for (const std::string& list : options.tokens)
    for (size_t begin = 0; begin <= list.size();) {
      const size_t end = std::min(list.find(',', begin), list.size());
      const std::string word = list.substr(begin, end - begin);
      const bool digits = !word.empty() && word.size() < 6 &&
                          word.find_first_not_of("0123456789") == std::string::npos;
      if (!digits || std::stoul(word) == 0) refuse("--tokens", "counts such as 1,2,4,8", list);
      counts.push_back(std::stoul(word));
      begin = end + 1;
    }
  return counts.empty() ? std::vector<size_t>{1, 2, 4, 8} : counts;
}

// Rows of random weights in tiles, in one contiguous part for each thread; all groups hold the same
// sixteen rows: values change no speed.
class Weights {
 public:
  Weights(BlockType type, size_t cols, size_t bytes, size_t parts)
      : kind_(*tile_kind_of(type)), cols_(cols), group_bytes_(tile_group_bytes(kind_, cols)) {
    groups_ = std::max<size_t>(1, bytes / parts / group_bytes_);
    std::vector<float> row(cols);
    const size_t row_bytes = block_row_bytes(type, cols);
    std::vector<std::byte> blocks(kTileRows * row_bytes);
    const RandomStream random(1, "bench gemv weights");
    for (size_t r = 0; r < kTileRows; ++r) {
      for (size_t k = 0; k < cols; ++k)
        row[k] = 0.02F * static_cast<float>(random.normal(r * cols + k));
      encode_blocks(type, {row.data(), cols}, {blocks.data() + r * row_bytes, row_bytes});
    }
    tiles_ = AlignedBuffer(parts * groups_ * group_bytes_);
    pack_tiles(kind_, blocks.data(), row_bytes, kTileRows, cols, {tiles_.data(), group_bytes_});
    for (size_t g = 1; g < parts * groups_; ++g)
      std::memcpy(tiles_.data() + g * group_bytes_, tiles_.data(), group_bytes_);
  }

  TileKind kind() const { return kind_; }
  size_t bytes() const { return tiles_.size(); }
  size_t rows_of_part() const { return groups_ * kTileRows; }
  // `constant`: with the products compiled for this width, where there are such.
  TileRows part(size_t p, bool constant) const {
    return {kind_, rows_of_part(), cols_, tiles_.data() + p * groups_ * group_bytes_,
            constant && has_constant()};
  }
  bool has_constant() const { return has_constant_cols(kind_, cols_); }

 private:
  TileKind kind_;
  size_t cols_, group_bytes_, groups_ = 0;
  AlignedBuffer tiles_;
};

struct Inputs {
  std::vector<float> x;
  AlignedBuffer buffer;
  Activations activations;

  Inputs(ActivationKind kind, size_t tokens, size_t cols)
      : x(tokens * cols), buffer(activation_bytes(kind, tokens, cols)) {
    const RandomStream random(2, "bench gemv inputs");
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
    activations = {kind, tokens, cols, buffer.data()};
    store_activations({.x = {x.data(), tokens, cols}}, 0, activations);
  }
};

// The first rows against the portable code, before anything is timed.
void check(const Weights& weights, const Inputs& inputs) {
  TileRows first = weights.part(0, true);
  first.rows = kTileRows;
  const size_t tokens = inputs.activations.tokens;
  std::vector<float> found(tokens * kTileRows), expected(found.size());
  multiply_tiles(first, inputs.activations, {found.data(), tokens, kTileRows});
  multiply_tiles(first, inputs.activations, {expected.data(), tokens, kTileRows}, {},
                 Isa::baseline);
  for (size_t i = 0; i < found.size(); ++i)
    if (std::abs(found[i] - expected[i]) > 1e-4F)
      throw Error({.doing = "checking a product before it is timed",
                   .subject = std::string(tile_kind_name(weights.kind())),
                   .expected = std::to_string(expected[i]),
                   .found = std::to_string(found[i])});
}

// Seconds of one pass over all weights: the median of `runs`. Small ones pass many times a run, so
// that the start of a parallel region does not count.
double time_passes(const Weights& weights, const Inputs& inputs, bool constant, int64_t runs,
                   ThreadTeam& team) {
  const auto parts = static_cast<size_t>(team.size());
  const size_t tokens = inputs.activations.tokens;
  // Products are used up in pieces that stay in the first-level cache, as the engine does it.
  const size_t piece = std::max<size_t>(kTileRows, 4096 / tokens / kTileRows * kTileRows);
  std::vector<AlignedBuffer> y;
  for (size_t p = 0; p < parts; ++p) y.emplace_back(tokens * piece * sizeof(float));
  const size_t group_bytes = tile_group_bytes(weights.kind(), inputs.activations.cols);
  const size_t repeats =
      std::max<size_t>(1, (size_t{32} << 20) / weights.bytes() / std::max<size_t>(1, tokens / 2));
  const auto pass = [&](int thread) {
    const auto p = static_cast<size_t>(thread);
    for (size_t i = 0; i < repeats; ++i)
      for (size_t row = 0; row < weights.rows_of_part(); row += piece) {
        TileRows some = weights.part(p, constant);
        some.tiles += row / kTileRows * group_bytes;
        some.rows = std::min(piece, some.rows - row);
        multiply_tiles(some, inputs.activations,
                       {y[p].as<float>().data(), tokens, some.rows, piece});
      }
  };
  on_each_thread(team, pass);
  std::vector<double> seconds;
  for (int64_t run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    on_each_thread(team, pass);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    seconds.push_back(elapsed.count() / static_cast<double>(repeats));
  }
  return median(seconds);
}

double peak_of(TileKind kind, ThreadTeam& team) {
  switch (activation_kind_of(kind)) {
    case ActivationKind::int8:
      return measure_peak(PeakKind::int8, team, 0.1);
    case ActivationKind::bf16:
      return measure_peak(PeakKind::bf16, team, 0.1);
    default:
      return measure_peak(PeakKind::f32, team, 0.1);
  }
}

void run_format(const Options& options, BlockType type, size_t bytes, ThreadTeam& team) {
  const auto cols = static_cast<size_t>(options.cols);
  const Weights weights(type, cols, bytes, static_cast<size_t>(team.size()));
  double before = measure_read_bandwidth(weights.bytes(), team, 0.1);
  const double peak = peak_of(weights.kind(), team);
  const double rows = static_cast<double>(weights.rows_of_part()) * team.size();
  double first = 0;
  for (const size_t tokens : wanted_tokens(options)) {
    const Inputs inputs(activation_kind_of(weights.kind()), tokens, cols);
    check(weights, inputs);
    const double seconds = time_passes(weights, inputs, true, options.runs, team);
    const double general = tokens == 1 && weights.has_constant()
                               ? time_passes(weights, inputs, false, options.runs, team)
                               : seconds;
    if (first == 0) first = seconds;
    // Memory that others use too gives more in one second than in the next.
    const double after = measure_read_bandwidth(weights.bytes(), team, 0.1);
    const double bandwidth = (before + after) / 2;
    before = after;
    const double rate = static_cast<double>(weights.bytes()) / seconds / 1e9;
    const double gops = 2 * rows * static_cast<double>(cols * tokens) / seconds / 1e9;
    if (options.json)
      fmt::print("{}", json_line({{"bench", "gemv"},
                                  {"format", block_type_name(type)},
                                  {"tile", tile_kind_name(weights.kind())},
                                  {"bytes", weights.bytes()},
                                  {"cols", cols},
                                  {"tokens", tokens},
                                  {"threads", team.size()},
                                  {"isa", isa_name(usable_isa())},
                                  {"processor", processor_family()},
                                  {"us", 1e6 * seconds},
                                  {"constant_cols_gain", general / seconds},
                                  {"gbs", rate},
                                  {"bandwidth", bandwidth},
                                  {"share_of_bandwidth", rate / bandwidth},
                                  {"ratio_to_first", seconds / first},
                                  {"gops", gops},
                                  {"share_of_peak", peak > 0 ? gops / peak : 0}}));
    else
      fmt::print(
          "  {:<5} {:>9} {:>4} tokens {:10.1f} us {:6.1f} GB/s = {:.2f} of bandwidth  "
          "{:.2f} x the first  {:5.0f} GOP/s = {:.2f} of peak\n",
          block_type_name(type), format_bytes(weights.bytes()), tokens, 1e6 * seconds, rate,
          rate / bandwidth, seconds / first, gops, peak > 0 ? gops / peak : 0);
  }
}

int run_gemv(const Options& options) {
  if (options.cols < 32 || options.cols % 32 != 0)
    refuse("--cols", "a multiple of 32, and of 256 for k types", std::to_string(options.cols));
  if (options.runs < 1) refuse("--runs", "at least 1", std::to_string(options.runs));
  if (options.kib < 0) refuse("--kib", "KiB of weights", std::to_string(options.kib));
  ThreadTeam team(static_cast<int>(options.threads));
  if (!options.json)
    fmt::print("{} ({}), {}, {} threads, rows of {}\n", processor_name(), processor_family(),
               isa_name(usable_isa()), team.size(), options.cols);
  for (const BlockType type : wanted_formats(options)) {
    if (options.kib > 0) {
      run_format(options, type, static_cast<size_t>(options.kib) << 10, team);
      continue;
    }
    for (const int64_t kib : kSizes)  // the second level is each thread's own
      run_format(options, type,
                 static_cast<size_t>(kib == kSizes[0] ? kib * team.size() : kib) << 10, team);
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--format", "type of the weights, may be repeated (the common ones)",
                   options->formats);
  arguments.option("--tokens", "tokens a pass, as 1,2,4,8", options->tokens);
  arguments.option("--cols", "inputs of a row (1536)", options->cols);
  arguments.option("--kib", "only this many KiB of weights (cache sizes and memory)", options->kib);
  arguments.option("--runs", "to take the median of (15)", options->runs);
  arguments.option("--threads", "threads (default: all allowed)", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] { return run_gemv(*options); };
}

}  // namespace

const Verb kBenchGemvVerb{
    .name = "gemv",
    .does = "Products of stored weights and a few tokens, beside bandwidth and peak",
    .example = "cairn bench gemv --format q4_0 --tokens 1,2,4,8 --json",
    .prepare = prepare};

}  // namespace cairn
