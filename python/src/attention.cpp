// cairn._cairn.attention: one call of attention each, forward when it is made, backward when asked.
// The Python modules cairn.attention and cairn.attention.torch choose what to allocate; here all
// arrays are borrowed, checked and handed on as views.
#include "attention_call.h"
#include "cairn/attention/fox/core.h"
#include "cairn/kernels/dispatch.h"

namespace cairn::python {
namespace {

class SoftmaxCall : Call {
 public:
  SoftmaxCall(Input q, Input k, Input v, Output out, Offsets offsets, double scale,
              const std::string& position, double rope_theta, int64_t window)
      : Call("softmax attention", std::move(q), std::move(k), std::move(v), std::move(out),
             std::move(offsets), scale) {
    AttentionOptions options;
    options.values = {{"position", position}, {"rope_theta", rope_theta}, {"window", window}};
    attention_ = make_attention(options, geometry_, longest());
    if (exact_) {
      store(doing_, "out", attention_->reference_forward(reference(), layout()), out_);
      return;
    }
    const AttentionInputs in = inputs();
    const AnyView3 to = view("out", out_);
    Team::get().run([&](ThreadTeam& team) {
      reserve(attention_->memory(tokens(), longest(), in.q.dtype, team.size()));
      Workspace workspace(workspace_bytes_);
      attention_->forward(in, layout(), to, saved(), workspace.span(), team);
    });
  }

  void backward(const Input& dout, const Output& dq, const Output& dk, const Output& dv) {
    if (exact_)
      return store_gradients(
          attention_->reference_backward(reference(), layout(), values_of(doing_, "dout", dout)),
          dq, dk, dv);
    const AttentionInputs in = inputs();
    const AnyView3 from = view("out", out_), by = view("dout", dout);
    const AttentionGradients to = gradients(dq, dk, dv);
    Team::get().run([&](ThreadTeam& team) {
      Workspace workspace(
          attention_->memory(tokens(), longest(), in.q.dtype, team.size()).workspace);
      attention_->backward(in, layout(), from, by, saved(), to, workspace.span(), team);
    });
  }

 private:
  std::unique_ptr<AttentionMechanism> attention_;
};

class FoxCall : Call {
 public:
  FoxCall(Input q, Input k, Input v, Input log_f, Output out, Offsets offsets, double scale,
          double gate_scale)
      : Call("fox attention", std::move(q), std::move(k), std::move(v), std::move(out),
             std::move(offsets), scale),
        log_f_(std::move(log_f)) {
    apply_isa_limit();
    if (!(gate_scale >= 0) || !std::isfinite(gate_scale))
      refuse(doing_, "gate_scale", "0 or more", std::to_string(gate_scale));
    core_.softmax.geometry = geometry_;
    if (geometry_.scale == 0)
      core_.softmax.geometry.scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
    core_.softmax.biased = true;
    core_.gate_scale = static_cast<float>(gate_scale);
    check_axes(doing_, "log_f", log_f_, 2, "[tokens, heads]");
    check_shape(doing_, "log_f", {tokens(), geometry_.heads}, {log_f_.shape(0), log_f_.shape(1)});
    exact_ ? forward_exact() : forward();
  }

  void backward(const Input& dout, const Output& dq, const Output& dk, const Output& dv,
                const Output& dlog_f) {
    if (exact_) {
      std::vector<double> gates(tokens() * geometry_.heads);
      store_gradients(fox_reference_backward(core_, reference(), values_of(doing_, "log_f", log_f_),
                                             layout(), values_of(doing_, "dout", dout), gates),
                      dq, dk, dv);
      return store(doing_, "dlog_f", gates, dlog_f);
    }
    const AttentionInputs in = inputs();
    const AnyView3 from = view("out", out_), by = view("dout", dout);
    const AttentionGradients to = gradients(dq, dk, dv);
    const View2<float> gates = matrix_of(doing_, "log_f", log_f_);
    const View2<float> dgates = matrix_of(doing_, "dlog_f", dlog_f);
    Team::get().run([&](ThreadTeam& team) {
      Workspace workspace(fox_memory(core_, tokens(), in.q.dtype, team.size()).workspace);
      fox_backward(doing_, core_, in, gates, layout(), from, by, saved(), to, dgates,
                   workspace.span(), team);
    });
  }

 private:
  void check_gate(double value) const {
    if (!(value <= 0) || !std::isfinite(value))
      refuse(doing_, "log_f", "finite logarithms of gates, at most 0", std::to_string(value));
  }
  void forward_exact() {
    const std::vector<double> gates = values_of(doing_, "log_f", log_f_);
    for (const double value : gates) check_gate(value);
    store(doing_, "out", fox_reference_forward(core_, reference(), gates, layout()), out_);
  }
  void forward() {
    const View2<float> gates = matrix_of(doing_, "log_f", log_f_);
    for (size_t t = 0; t < gates.rows; ++t)
      for (const float value : gates[t]) check_gate(value);
    const AttentionInputs in = inputs();
    const AnyView3 to = view("out", out_);
    Team::get().run([&](ThreadTeam& team) {
      reserve(fox_memory(core_, tokens(), in.q.dtype, team.size()));
      Workspace workspace(workspace_bytes_);
      fox_forward(doing_, core_, in, gates, layout(), to, saved(), workspace.span(), team);
    });
  }

  Input log_f_;
  FoxCore core_;
};

}  // namespace

void bind_attention(nb::module_& module) {
  nb::module_ attention = module.def_submodule("attention", "Calls behind cairn.attention.");
  attention.def(
      "set_threads", [](int threads) { Team::get().resize(threads); }, "threads"_a);
  attention.def("threads", [] { return Team::get().size(); });
  nb::class_<SoftmaxCall>(attention, "SoftmaxCall")
      .def(nb::init<Input, Input, Input, Output, Offsets, double, const std::string&, double,
                    int64_t>(),
           "q"_a, "k"_a, "v"_a, "out"_a, "offsets"_a, "scale"_a, "position"_a, "rope_theta"_a,
           "window"_a)
      .def("backward", &SoftmaxCall::backward, "dout"_a, "dq"_a, "dk"_a, "dv"_a);
  nb::class_<FoxCall>(attention, "FoxCall")
      .def(nb::init<Input, Input, Input, Input, Output, Offsets, double, double>(), "q"_a, "k"_a,
           "v"_a, "log_f"_a, "out"_a, "offsets"_a, "scale"_a, "gate_scale"_a)
      .def("backward", &FoxCall::backward, "dout"_a, "dq"_a, "dk"_a, "dv"_a, "dlog_f"_a);
  bind_stick_breaking(attention);
  bind_path(attention);
}

}  // namespace cairn::python
