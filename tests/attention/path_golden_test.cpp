// The float64 definitions against numbers of an independent program
// (tests/golden/make_path_golden.py), and the blockwise code against the same.
#include <fstream>

#include "tests/attention/path_harness.h"
#include "tests/support/golden.h"

namespace cairn::attention_test {
namespace {

using Arrays = std::map<std::string, std::vector<double>>;

std::vector<Arrays> read_cases() {
  std::ifstream file(golden_folder() / "attention" / "path.txt");
  std::vector<Arrays> cases;
  std::string name;
  for (size_t count = 0; file >> name >> count;) {
    if (name == "case") cases.emplace_back();
    std::vector<double>& values = cases.back()[name];
    values.resize(count);
    for (double& value : values) file >> value;
  }
  return cases;
}

// Sizes in the order that the program writes.
enum Size { kRoom, kHeads, kKvHeads, kDim, kValueDim, kProducts, kGate, kGateScale, kScale };

PathReference core_problem(const Arrays& golden) {
  const auto& sizes = golden.at("case");
  const auto whole = [&](Size size) { return static_cast<size_t>(sizes[size]); };
  PathReference in;
  in.heads = whole(kHeads);
  in.kv_heads = whole(kKvHeads);
  in.dim = whole(kDim);
  in.value_dim = whole(kValueDim);
  in.products = whole(kProducts);
  in.gate_scale = sizes[kGateScale];
  in.scale = sizes[kScale];
  in.q = golden.at("q");
  in.k = golden.at("k");
  in.v = golden.at("v");
  in.w = golden.at("w");
  in.beta = golden.at("beta");
  if (whole(kGate) != 0) in.log_gate = golden.at("log_gate");
  for (const double offset : golden.at("offsets"))
    in.offsets.push_back(static_cast<int32_t>(offset));
  in.tokens = in.offsets.back();
  return in;
}

void expect_equal(const std::vector<double>& found, const std::vector<double>& golden,
                  const std::string& name) {
  EXPECT_LT(relative_error(found, golden), 1e-12) << name;
}

TEST(PathGolden, TheDefinitionAgreesWithAnIndependentProgram) {
  size_t checked = 0;
  for (const Arrays& golden : read_cases()) {
    if (golden.at("case")[kRoom] != 0) continue;
    const PathReference in = core_problem(golden);
    expect_equal(path_reference_forward(in), golden.at("out"), "out");
    const PathReference grad = path_reference_backward(in, golden.at("dout"));
    expect_equal(grad.q, golden.at("dq"), "dq");
    expect_equal(grad.k, golden.at("dk"), "dk");
    expect_equal(grad.v, golden.at("dv"), "dv");
    expect_equal(grad.w, golden.at("dw"), "dw");
    expect_equal(grad.beta, golden.at("dbeta"), "dbeta");
    if (!in.log_gate.empty()) expect_equal(grad.log_gate, golden.at("dlog_gate"), "dlog_gate");
    ++checked;
  }
  EXPECT_EQ(checked, 3U);
}

TEST(PathGolden, TheRoomAgreesWithAnIndependentProgram) {
  size_t checked = 0;
  for (const Arrays& golden : read_cases()) {
    const auto& sizes = golden.at("case");
    if (sizes[kRoom] == 0) continue;
    const auto room = make_attention(
        {"path_fox", {{"path_rank", int64_t{3}}}},
        {.hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .value_dim = 3}, 64);
    AttentionMechanism::Reference in{
        golden.at("x"), golden.at("q"), golden.at("k"), golden.at("v"), {}};
    for (const ParameterSpec& spec : room->parameters())
      in.parameters.push_back(golden.at(spec.name));
    std::vector<int32_t> offsets, positions(golden.at("offsets").back());
    for (const double offset : golden.at("offsets"))
      offsets.push_back(static_cast<int32_t>(offset));
    const TokenLayout layout{{offsets.data(), offsets.size()},
                             {positions.data(), positions.size()}};
    expect_equal(room->reference_forward(in, layout), golden.at("out"), "out");
    const auto grad = room->reference_backward(in, layout, golden.at("dout"));
    expect_equal(grad.x, golden.at("dx"), "dx");
    expect_equal(grad.q, golden.at("dq"), "dq");
    expect_equal(grad.k, golden.at("dk"), "dk");
    expect_equal(grad.v, golden.at("dv"), "dv");
    for (size_t i = 0; i < grad.parameters.size(); ++i) {
      const std::string name = room->parameters()[i].name;
      expect_equal(grad.parameters[i], golden.at("d" + name), name);
    }
    ++checked;
  }
  EXPECT_EQ(checked, 1U);
}

}  // namespace
}  // namespace cairn::attention_test
