#include "cairn/runs/lineage.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "cairn/base/error.h"
#include "cairn/io/json.h"

namespace cairn {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

struct BranchPoint {
  uint64_t step = 0;
  std::string run;
};

std::vector<BranchPoint> read_branches(const RunFolder& parent) {
  std::vector<BranchPoint> points;
  if (!std::filesystem::exists(parent.branches())) return points;
  std::istringstream lines(read_file(parent.branches(), kMaxBytes));
  for (std::string line; std::getline(lines, line);) {
    try {
      const Json value = parse_json(line, parent.branches().string());
      const JsonField field(value, parent.branches().string());
      points.push_back({static_cast<uint64_t>(field.member("step").as_integer(0)),
                        field.member("run").as_string()});
    } catch (const Error&) {  // a torn line costs a kept checkpoint, not the run
    }
  }
  return points;
}

}  // namespace

std::optional<RunParent> read_parent(const RunFolder& folder) {
  if (!std::filesystem::exists(folder.parent())) return std::nullopt;
  const Json document = read_json(folder.parent(), kMaxBytes);
  const JsonField field(document, folder.parent().string());
  RunParent parent;
  parent.how = field.member("how").as_string();
  if (parent.how != "branch" && parent.how != "cooldown" && parent.how != "weights")
    field.member("how").fail("branch, cooldown or weights");
  parent.folder = field.member("folder").as_string();
  parent.step = static_cast<uint64_t>(field.member("step").as_integer(0));
  parent.tokens = static_cast<uint64_t>(field.member("tokens").as_integer(0));
  return parent;
}

void write_parent(const RunFolder& folder, const RunParent& parent) {
  const Json document = {{"how", parent.how},
                         {"folder", parent.folder.string()},
                         {"step", parent.step},
                         {"tokens", parent.tokens}};
  write_file_atomically(folder.parent(), write_json(document));
}

void add_branch_point(const RunFolder& parent, uint64_t step, const Path& child) {
  for (const BranchPoint& point : read_branches(parent))
    if (point.step == step && point.run == child.string()) return;
  FileWriter writer(parent.branches(), FileWriter::Mode::append);
  writer.write(json_line({{"step", step}, {"run", child.string()}}));
  writer.sync();
  writer.close();
}

std::vector<uint64_t> branch_points(const RunFolder& parent) {
  std::set<uint64_t> steps;
  for (const BranchPoint& point : read_branches(parent)) steps.insert(point.step);
  return {steps.begin(), steps.end()};
}

}  // namespace cairn
