// The rooms "path" and "path_fox": front end, options, and what they are when maps do nothing.
#include "cairn/attention/path/path.h"
#include "cairn/base/error.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {
namespace {

using testing::HasSubstr;

constexpr double kF32Error = 2e-5;

Problem path_problem(std::map<std::string, OptionValue> values = {},
                     const std::string& mechanism = "path") {
  Problem p{.options = {mechanism, std::move(values)},
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 8,
            .value_dim = 6,
            .lengths = {70}};
  p.parameter_amplitude = 0.4;
  return p;
}

const std::vector<Problem>& front_ends() {
  static const std::vector<Problem> problems = {
      path_problem({{"path_rank", int64_t{3}}}),
      path_problem({{"path_rank", int64_t{0}}, {"path_conv", int64_t{4}}}, "path_fox"),
      path_problem({{"path_conv", int64_t{0}}, {"path_nh", int64_t{2}}, {"beta_max", 1.5}}),
      path_problem({{"path_rank", int64_t{5}},
                    {"qk_norm", true},
                    {"rope_on_w", true},
                    {"rope_theta", 100.0},
                    {"gate_scale", 0.3},
                    {"path_nh", int64_t{2}}},
                   "path_fox"),
      path_problem({{"qk_norm", true}}),
      path_problem({{"rope_on_w", true}}),
  };
  return problems;
}

// alpha inside (0, 1), where it has a gradient on both sides.
void set_alpha(Case& c, float value, float step = 0.1F) {
  const auto specs = c.attention->parameters();
  for (size_t i = 0; i < specs.size(); ++i)
    if (specs[i].name == "path_alpha")
      for (size_t h = 0; h < c.parameters.values[i].size; ++h)
        c.parameters.buffers[2 * i].as<float>()[h] = value + step * static_cast<float>(h);
}

TEST(PathRoomReference, GradientsAreTheCentralDifferencesOfForward) {
  for (Problem p : front_ends()) {
    p.lengths = {4, 3};
    Case c(p);
    set_alpha(c, 0.6F);
    const auto dout = c.dout.values();
    auto in = c.reference_inputs();
    const auto grad = c.attention->reference_backward(in, c.layout(), dout);
    const auto loss = [&] {
      const auto out = c.attention->reference_forward(in, c.layout());
      return std::inner_product(out.begin(), out.end(), dout.begin(), 0.0);
    };
    const auto differences = [&](std::vector<double>& values) {
      return central_differences(values, loss);
    };
    EXPECT_LT(relative_error(grad.x, differences(in.x)), 1e-6);
    EXPECT_LT(relative_error(grad.q, differences(in.q)), 1e-6);
    EXPECT_LT(relative_error(grad.k, differences(in.k)), 1e-6);
    EXPECT_LT(relative_error(grad.v, differences(in.v)), 1e-6);
    for (size_t i = 0; i < grad.parameters.size(); ++i)
      EXPECT_LT(relative_error(grad.parameters[i], differences(in.parameters[i])), 1e-6)
          << c.attention->parameters()[i].name;
  }
}

// Forward and backward against the reference, parameter by parameter.
void expect_close(const Problem& p, double bound, int threads = 1) {
  ThreadTeam team(threads, true);
  Case c(p);
  set_alpha(c, 0.6F);
  c.forward(team);
  c.backward(team);
  const auto in = c.reference_inputs();
  const auto grad = c.attention->reference_backward(in, c.layout(), c.dout.values());
  EXPECT_LT(relative_error(c.out.values(), c.attention->reference_forward(in, c.layout())), bound);
  EXPECT_LT(relative_error(c.dq.values(), grad.q), bound);
  EXPECT_LT(relative_error(c.dk.values(), grad.k), bound);
  EXPECT_LT(relative_error(c.dv.values(), grad.v), bound);
  EXPECT_LT(relative_error(c.dx.values(), grad.x), bound);
  for (size_t i = 0; i < grad.parameters.size(); ++i) {
    const auto& own = c.parameters.gradients[i];
    EXPECT_LT(relative_error({own.begin(), own.end()}, grad.parameters[i]), bound)
        << c.attention->parameters()[i].name;
  }
}

TEST(Path, MatchesFloat64WithEveryFrontEnd) {
  for (size_t i = 0; i < front_ends().size(); ++i) {
    SCOPED_TRACE(i);
    Problem p = front_ends()[i];
    p.gap = 3;
    p.lengths = {1, 130, 2, 40};
    expect_close(p, kF32Error, 2);
    p.dtype = DType::bf16;
    expect_close(p, 0.03);
  }
}

TEST(Path, AddsToGradientsOfHiddenStateAndParameters) {
  ThreadTeam team(1);
  Case once(path_problem()), twice(path_problem());
  once.forward(team);
  once.backward(team);
  twice.forward(team);
  twice.backward(team);
  twice.backward(team);
  EXPECT_EQ(once.dq.values(), twice.dq.values());
  auto doubled = once.dx.values();
  for (double& value : doubled) value *= 2;
  EXPECT_LT(relative_error(twice.dx.values(), doubled), 1e-6);
  doubled = joined(once.parameters.gradients);
  for (double& value : doubled) value *= 2;
  EXPECT_LT(relative_error(joined(twice.parameters.gradients), doubled), 1e-6);
}

TEST(Path, GivesTheSameBitsWith1And3Threads) {
  Problem p = front_ends()[3];
  p.lengths = {300, 100, 30};
  Case one(p), three(p);
  set_alpha(one, 0.5F);
  set_alpha(three, 0.5F);
  expect_same_bits(one, three, "path");
}

TEST(Path, IsSoftmaxWithRotationAtTheStartOfAConversion) {
  ThreadTeam team(1);
  Problem p = path_problem({{"rope_on_w", true}, {"rope_theta", 500.0}});
  Problem teacher = p;
  teacher.options = {"softmax", {{"rope_theta", 500.0}}};
  p.lengths = teacher.lengths = {150};
  Case student(p), softmax(teacher);
  set_alpha(student, 0, 0);
  student.forward(team);
  softmax.forward(team);
  student.backward(team);
  EXPECT_LT(relative_error(student.out.values(), softmax.out.values()), 1e-6);
  for (const float gradient : student.parameters.gradients.back())
    EXPECT_NE(gradient, 0) << "alpha has a way to leave 0";
}

TEST(PathOptionsCheck, AreCheckedByName) {
  const AttentionGeometry g{
      .hidden_size = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .value_dim = 4};
  const auto message = [](const AttentionOptions& options, const AttentionGeometry& geometry) {
    try {
      make_attention(options, geometry, 64);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message({"path", {{"rank", int64_t{3}}}}, g), HasSubstr("path_rank"));
  EXPECT_THAT(message({"path", {{"gate_scale", 1.0}}}, g), HasSubstr("path_fox"));
  EXPECT_EQ(message({"path_fox", {{"gate_scale", 1.0}}}, g), "no error");
  EXPECT_THAT(message({"path", {{"path_nh", int64_t{5}}}}, g), HasSubstr("1 to 4"));
  EXPECT_THAT(message({"path", {{"path_rank", 1.5}}}, g), HasSubstr("whole"));
  EXPECT_THAT(message({"path", {{"beta_max", 2.5}}}, g), HasSubstr("up to 2"));
  EXPECT_THAT(message({"path", {{"qk_norm", int64_t{1}}}}, g), HasSubstr("true or false"));
  AttentionGeometry odd = g;
  odd.head_dim = 3;
  EXPECT_EQ(message({"path", {}}, odd), "no error");
  EXPECT_THAT(message({"path", {{"rope_on_w", true}}}, odd), HasSubstr("even"));
  odd.head_dim = 257;
  EXPECT_THAT(message({"path", {}}, odd), HasSubstr("256"));
}

TEST(Path, NamesItsParametersAsTheReferenceDoes) {
  const Case c(path_problem({{"qk_norm", true}}, "path_fox"));
  std::vector<std::string> names;
  for (const ParameterSpec& spec : c.attention->parameters()) {
    names.push_back(spec.name);
    const bool vector = spec.name.ends_with("bias") || spec.name.find("norm") != std::string::npos;
    EXPECT_EQ(spec.group == ParameterGroup::vector, vector) << spec.name;
  }
  EXPECT_THAT(names, testing::ElementsAre("w_proj.0.weight", "w_proj.1.weight", "w_conv1d.weight",
                                          "bt_proj.weight", "bt_proj.bias", "g_proj.weight",
                                          "g_proj.bias", "q_norm.weight", "k_norm.weight"));
  EXPECT_EQ(c.attention->parameters()[2].shape, (Shape{16, 1, 3}));
}

}  // namespace
}  // namespace cairn::attention_test
