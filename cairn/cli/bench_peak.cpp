// `cairn bench peak`: what this machine can do at most.
#include <fmt/core.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>

#include "cairn/base/cpu.h"
#include "cairn/base/progress.h"
#include "cairn/cli/bench.h"
#include "cairn/io/json.h"
#include "cairn/kernels/peak.h"

namespace cairn {
namespace {

struct Options {
  int64_t threads = 0;
  bool json = false;
};

constexpr std::array<size_t, 5> kBuffers = {size_t{32} << 10, size_t{512} << 10, size_t{4} << 20,
                                            size_t{32} << 20, size_t{512} << 20};

void print_products(ThreadTeam& team, bool json) {
  constexpr std::array<std::pair<PeakKind, const char*>, 3> kKinds = {
      {{PeakKind::f32, "f32"}, {PeakKind::bf16, "bf16"}, {PeakKind::int8, "int8"}}};
  for (const auto& [kind, name] : kKinds) {
    const double rate = measure_peak(kind, team);
    if (json)
      fmt::print(
          "{}",
          json_line(
              {{"bench", "peak"}, {"what", name}, {"threads", team.size()}, {"gflops", rate}}));
    else if (rate > 0)
      fmt::print("  {:<5} {:8.0f} GFLOP/s\n", name, rate);
    else
      fmt::print("  {:<5} no instruction for it\n", name);
  }
}

void print_bandwidths(ThreadTeam& team, bool json) {
  for (const size_t bytes : kBuffers) {
    const double rate = measure_read_bandwidth(bytes, team);
    if (json)
      fmt::print(
          "{}",
          json_line(
              {{"bench", "bandwidth"}, {"bytes", bytes}, {"threads", team.size()}, {"gbs", rate}}));
    else
      fmt::print("  read {:>9}  {:6.1f} GB/s\n", format_bytes(bytes), rate);
  }
}

int run_peak(const Options& options) {
  const ThreadTeam widest(static_cast<int>(options.threads));
  if (!options.json)
    fmt::print("{} ({}), {}\n", processor_name(), processor_family(), isa_name(usable_isa()));
  for (int threads = 1; threads <= widest.size(); threads *= 2) {
    ThreadTeam team(threads);
    if (!options.json) fmt::print("{} thread{}\n", threads, threads == 1 ? "" : "s");
    print_products(team, options.json);
    print_bandwidths(team, options.json);
  }
  return 0;
}

std::function<int()> prepare(Arguments& arguments) {
  auto options = std::make_shared<Options>();
  arguments.option("--threads", "up to this many (default: all allowed)", options->threads);
  arguments.flag("--json", "print JSON lines", options->json);
  return [options] { return run_peak(*options); };
}

}  // namespace

const Verb kBenchPeakVerb{.name = "peak",
                          .does = "Multiply-add peaks and read bandwidth of this machine",
                          .example = "cairn bench peak",
                          .prepare = prepare};

}  // namespace cairn
