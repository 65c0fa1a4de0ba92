#include "attention_call.h"
#include "cairn/attention/stick_breaking/core.h"
#include "cairn/attention/stick_breaking/reference.h"
#include "cairn/kernels/dispatch.h"

namespace cairn::python {
namespace {

class StickBreakingCall : Call {
 public:
  StickBreakingCall(Input q, Input k, Input v, Output out, Output remainder, Offsets offsets,
                    double scale, bool attend_current, double exit_threshold)
      : Call("stick-breaking attention", std::move(q), std::move(k), std::move(v), std::move(out),
             std::move(offsets), scale) {
    apply_isa_limit();
    if (!(exit_threshold >= 0) || !(exit_threshold < 1))
      refuse(doing_, "exit_threshold", "0 or more and below 1", std::to_string(exit_threshold));
    attention_.geometry = geometry_;
    if (geometry_.scale == 0)
      attention_.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
    attention_.options.remainder = StickRemainder::none;
    attention_.options.attend_current = attend_current;
    attention_.options.exit_threshold = static_cast<float>(exit_threshold);
    if (exact_) {
      const auto result = stick_breaking_reference(attention_, exact(), layout().offsets);
      store(doing_, "out", result.out, out_);
      store(doing_, "remainder", result.remainder, remainder);
      return;
    }
    const StickInputs in = views();
    const AnyView3 to = view("out", out_);
    const View2<float> left = matrix_of(doing_, "remainder", remainder);
    Team::get().run([&](ThreadTeam& team) {
      reserve(stick_breaking_memory(attention_, tokens(), longest(), in.q.dtype, team.size()));
      Workspace workspace(workspace_bytes_);
      stick_breaking_forward(attention_, in, layout().offsets, to, left, saved(), workspace.span(),
                             team);
    });
  }

  void backward(const Input& dout, const Input& dremainder, const Output& dq, const Output& dk,
                const Output& dv) {
    check_axes(doing_, "dremainder", dremainder, 2, "[tokens, heads]");
    if (exact_) {
      const StickReference grad = stick_breaking_reference_backward(
          attention_, exact(), layout().offsets, values_of(doing_, "dout", dout),
          values_of(doing_, "dremainder", dremainder));
      return store_gradients({{}, grad.q, grad.k, grad.v, {}}, dq, dk, dv);
    }
    const StickInputs in = views();
    const AnyView3 by = view("dout", dout);
    const View2<float> left = matrix_of(doing_, "dremainder", dremainder);
    const AttentionGradients to = gradients(dq, dk, dv);
    Team::get().run([&](ThreadTeam& team) {
      Workspace workspace(
          stick_breaking_memory(attention_, tokens(), longest(), in.q.dtype, team.size())
              .workspace);
      stick_breaking_backward(attention_, in, layout().offsets, by, left, saved(),
                              {to.dq, to.dk, to.dv, {}}, workspace.span(), team);
    });
  }

 private:
  StickInputs views() const {
    const AttentionInputs in = inputs();
    return {in.q, in.k, in.v, {}};
  }
  StickReference exact() const {
    AttentionMechanism::Reference in = reference();
    return {std::move(in.q), std::move(in.k), std::move(in.v), {}, {}, {}, {}};
  }

  StickBreaking attention_;
};

}  // namespace

void bind_stick_breaking(nb::module_& attention) {
  nb::class_<StickBreakingCall>(attention, "StickBreakingCall")
      .def(nb::init<Input, Input, Input, Output, Output, Offsets, double, bool, double>(), "q"_a,
           "k"_a, "v"_a, "out"_a, "remainder"_a, "offsets"_a, "scale"_a, "attend_current"_a,
           "exit_threshold"_a)
      .def("backward", &StickBreakingCall::backward, "dout"_a, "dremainder"_a, "dq"_a, "dk"_a,
           "dv"_a);
}

}  // namespace cairn::python
