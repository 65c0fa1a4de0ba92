// `cairn bench quantize`: how fast weights become blocks, and what of them is lost.
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/random.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/kernels/blocks.h"
#include "cairn/tensor/tensor.h"

namespace cairn {
namespace {

struct Options {
  std::vector<std::string> types;
  int64_t rows = 256;
  int64_t cols = 4096;
  int64_t runs = 5;
  int64_t threads = 1;
  bool importance = false;
  bool json = false;
};

struct Speed {
  double seconds = 0;
  double error = 0;  // sum w (x - y)^2 / sum w x^2, w the importance or 1
};

std::vector<BlockType> wanted_types(const Options& options) {
  if (options.types.empty())
    return {BlockType::q8_0, BlockType::q6_k, BlockType::q5_k, BlockType::q5_1, BlockType::q5_0,
            BlockType::q4_k, BlockType::q4_1, BlockType::q4_0, BlockType::q3_k, BlockType::q2_k};
  std::vector<BlockType> types;
  for (const std::string& name : options.types) {
    const BlockTypeInfo* info = find_block_type(name);
    if (info == nullptr || !can_encode(info->type))
      throw Error({.kind = ErrorKind::usage,
                   .doing = "measuring quantisers",
                   .subject = "--types",
                   .expected = "a type such as q4_0 or q6_k",
                   .found = in_quotes(name)});
    types.push_back(info->type);
  }
  return types;
}

// Normal weights of the size that trained matrices have.
void fill_weights(View2<float> x) {
  const RandomStream stream(1, "bench weights");
  for (size_t i = 0; i < x.rows * x.cols; ++i)
    x.data[i] = 0.02F * static_cast<float>(stream.normal(i));
}

// Squares of activations that differ by orders of magnitude from column to column.
std::vector<float> make_importance(size_t cols) {
  std::vector<float> importance(cols);
  for (size_t i = 0; i < cols; ++i)
    importance[i] = static_cast<float>(std::exp(2.5 * std::sin(0.7 * static_cast<double>(i))));
  return importance;
}

double relative_error(BlockType type, View2<const float> x, std::span<const std::byte> blocks,
                      View1<const float> importance) {
  std::vector<float> y(x.cols);
  const size_t row_bytes = block_row_bytes(type, x.cols);
  double lost = 0, all = 0;
  for (size_t row = 0; row < x.rows; ++row) {
    decode_blocks(type, blocks.subspan(row * row_bytes, row_bytes), {y.data(), y.size()});
    for (size_t i = 0; i < x.cols; ++i) {
      const double weight = importance.empty() ? 1 : static_cast<double>(importance[i]);
      const double value = static_cast<double>(x[row][i]), off = value - static_cast<double>(y[i]);
      lost += weight * off * off;
      all += weight * value * value;
    }
  }
  return lost / all;
}

Speed measure(BlockType type, View2<const float> x, View1<const float> importance, int64_t runs,
              ThreadTeam& team) {
  std::vector<std::byte> blocks(x.rows * block_row_bytes(type, x.cols));
  std::vector<double> seconds;
  encode_rows(type, x, blocks, importance, team);  // pages in, frequency up
  for (int64_t run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    encode_rows(type, x, blocks, importance, team);
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {median(seconds), relative_error(type, x, blocks, importance)};
}

int run_quantize_bench(const Options& options) {
  const std::vector<BlockType> types = wanted_types(options);
  for (const int64_t value : {options.rows, options.cols, options.runs})
    if (value < 1 || value > (1 << 20) || options.cols % 256 != 0)
      throw Error({.kind = ErrorKind::usage,
                   .doing = "measuring quantisers",
                   .expected = "--rows, --cols (a multiple of 256) and --runs from 1 to 1048576"});
  ThreadTeam team(static_cast<int>(options.threads));
  const auto rows = static_cast<size_t>(options.rows), cols = static_cast<size_t>(options.cols);
  Tensor weights(DType::f32, Shape{rows, cols});
  fill_weights(weights.matrix<float>());
  const std::vector<float> importance =
      options.importance ? make_importance(cols) : std::vector<float>{};
  const auto elements = static_cast<double>(rows * cols);
  if (!options.json) fmt::print("type   M weights/s      error  ({} threads)\n", team.size());
  for (const BlockType type : types) {
    const Speed speed = measure(type, weights.matrix<float>(),
                                {importance.data(), importance.size()}, options.runs, team);
    const double rate = elements / 1e6 / speed.seconds;
    if (options.json)
      fmt::print("{}", json_line({{"bench", "quantize"},
                                  {"processor", processor_family()},
                                  {"type", block_type_name(type)},
                                  {"importance", options.importance},
                                  {"threads", team.size()},
                                  {"mweights_per_second", rate},
                                  {"error", speed.error}}));
    else
      fmt::print("{:<5} {:12.1f} {:10.3e}\n", block_type_name(type), rate, speed.error);
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--types", "q8_0, q4_k ...; may be given again (all)", options->types);
  arguments.flag("--importance", "with an importance of each column", options->importance);
  arguments.option("--rows", "of the matrix (256)", options->rows);
  arguments.option("--cols", "of the matrix (4096)", options->cols);
  arguments.option("--runs", "to take the median of (5)", options->runs);
  arguments.option("--threads", "threads (1)", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] { return run_quantize_bench(*options); };
}

}  // namespace

const Verb kBenchQuantizeVerb{.name = "quantize",
                              .does = "Weights to blocks of few bits, and their error",
                              .example = "cairn bench quantize --types q4_k --types q6_k",
                              .prepare = prepare};

}  // namespace cairn
