// Random stick-breaking problems, run through the plain functions and through their reference.
#pragma once

#include "cairn/attention/stick_breaking/reference.h"
#include "cairn/attention/stick_breaking/stick_breaking.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {

inline AttentionOptions stick_options(std::map<std::string, OptionValue> values = {}) {
  return {"stick_breaking", std::move(values)};
}

inline std::vector<double> widened(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

struct StickCase : Case {
  explicit StickCase(const Problem& p)
      : Case(p),
        core(dynamic_cast<const StickBreakingAttention&>(*attention).core()),
        remainder(tokens * p.heads, -1.0F),
        dremainder(tokens * p.heads) {
    const RandomStream stream(1, "dremainder");
    for (size_t i = 0; i < dremainder.size(); ++i)
      dremainder[i] = static_cast<float>(stream.normal(i));
  }

  // Gives the logits this mean and standard deviation.
  void spread_logits(double mean, double deviation) {
    const double root = std::sqrt(static_cast<double>(problem.head_dim));
    q.fill(RandomStream(1, "q"), std::sqrt(deviation));
    k.fill(RandomStream(1, "k"), std::sqrt(deviation));
    if (mean == 0) return;
    const double size = std::sqrt(std::abs(mean) * root);  // one channel carries the mean
    for (size_t token = 0; token < tokens; ++token) {
      for (size_t h = 0; h < problem.heads; ++h) q.set(token, h * problem.head_dim, size);
      for (size_t h = 0; h < problem.kv_heads; ++h)
        k.set(token, h * problem.head_dim, std::copysign(size, mean));
    }
  }

  StickInputs core_inputs() const {
    return dynamic_cast<const StickBreakingAttention&>(*attention).core_inputs("test", inputs());
  }
  View1<const int32_t> cuts() const { return {offsets.data(), offsets.size()}; }
  void run_forward(ThreadTeam& team) {
    const int longest = *std::max_element(problem.lengths.begin(), problem.lengths.end());
    const AttentionMemory memory =
        stick_breaking_memory(core, tokens, longest, problem.dtype, team.size());
    saved = AlignedBuffer(memory.saved);
    workspace = AlignedBuffer(memory.workspace);
    std::fill_n(workspace.data(), workspace.size(), std::byte{0xff});
    stick_breaking_forward(core, core_inputs(), cuts(), out.view(),
                           {remainder.data(), tokens, problem.heads}, {saved.data(), saved.size()},
                           {workspace.data(), workspace.size()}, team);
  }
  void run_backward(ThreadTeam& team) {
    StickGradients to{dq.view(), dk.view(), dv.view(), {}};
    size_t next = 0;
    if (core.options.remainder == StickRemainder::head_bias)
      to.vectors.remainder = parameters.gradients[next++];
    if (core.options.head_norm) {
      to.vectors.norm_weight = parameters.gradients[next++];
      to.vectors.norm_bias = parameters.gradients[next++];
    }
    if (core.options.logit_bias) to.vectors.logit_bias = parameters.gradients[next++];
    std::fill_n(workspace.data(), workspace.size(), std::byte{0xff});
    stick_breaking_backward(
        core, core_inputs(), cuts(), dout.view(), {dremainder.data(), tokens, problem.heads},
        {saved.data(), saved.size()}, to, {workspace.data(), workspace.size()}, team);
  }
  void run(ThreadTeam& team) {
    run_forward(team);
    run_backward(team);
  }
  AttentionStatistics statistics() const {
    return stick_breaking_statistics(core, cuts(), {saved.data(), saved.size()});
  }

  StickReference core_reference() const {
    StickReference in{q.values(), k.values(), v.values(), {}, {}, {}, {}};
    size_t next = 0;
    const auto take = [&] {
      const auto& values = parameters.values[next++];
      return std::vector<double>(values.begin(), values.end());
    };
    if (core.options.remainder == StickRemainder::head_bias) in.remainder = take();
    if (core.options.head_norm) {
      in.norm_weight = take();
      in.norm_bias = take();
    }
    if (core.options.logit_bias) in.logit_bias = take();
    return in;
  }

  StickBreaking core;
  std::vector<float> remainder, dremainder;
};

struct StickErrors {
  double out, remainder, dq, dk, dv, vectors;
  double worst() const { return std::max({out, remainder, dq, dk, dv, vectors}); }
};

inline std::ostream& operator<<(std::ostream& to, const StickErrors& e) {
  return to << "out " << e.out << " remainder " << e.remainder << " dq " << e.dq << " dk " << e.dk
            << " dv " << e.dv << " vectors " << e.vectors;
}

// Relative errors, norm by norm, of what run() has left.
inline StickErrors errors_of(const StickCase& c) {
  const StickReference in = c.core_reference();
  const auto forward = stick_breaking_reference(c.core, in, c.cuts());
  const auto grad = stick_breaking_reference_backward(c.core, in, c.cuts(), c.dout.values(),
                                                      widened(c.dremainder));
  std::vector<double> vectors;
  for (const auto* part : {&grad.remainder, &grad.norm_weight, &grad.norm_bias, &grad.logit_bias})
    vectors.insert(vectors.end(), part->begin(), part->end());
  return {relative_error(c.out.values(), forward.out),
          relative_error(widened(c.remainder), forward.remainder),
          relative_error(c.dq.values(), grad.q),
          relative_error(c.dk.values(), grad.k),
          relative_error(c.dv.values(), grad.v),
          relative_error(joined(c.parameters.gradients), vectors)};
}

}  // namespace cairn::attention_test
