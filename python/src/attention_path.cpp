#include <optional>

#include "attention_call.h"
#include "cairn/attention/path/core.h"
#include "cairn/attention/path/reference.h"
#include "cairn/kernels/dispatch.h"

#include <nanobind/stl/optional.h>

namespace cairn::python {
namespace {

using MaybeInput = std::optional<Input>;
using MaybeOutput = std::optional<Output>;

class PathCall : Call {
 public:
  PathCall(Input q, Input k, Input v, Input w, Input beta, MaybeInput log_f, Output out,
           Offsets offsets, double scale, double gate_scale)
      : Call("path attention", std::move(q), std::move(k), std::move(v), std::move(out),
             std::move(offsets), scale),
        w_(std::move(w)),
        beta_(std::move(beta)),
        log_f_(std::move(log_f)),
        gate_scale_(gate_scale) {
    apply_isa_limit();
    if (!(gate_scale >= 0) || !std::isfinite(gate_scale))
      refuse(doing_, "gate_scale", "0 or more", std::to_string(gate_scale));
    if (geometry_.scale == 0)
      geometry_.scale = 1.0F / std::sqrt(static_cast<float>(geometry_.head_dim));
    check_axes(doing_, "w", w_, 3, "[tokens * products, kv_heads, dim]");
    check_axes(doing_, "beta", beta_, 2, "[tokens * products, kv_heads]");
    products_ = tokens() == 0 ? 1 : w_.shape(0) / tokens();
    if (products_ < 1 || products_ > 4)
      refuse(doing_, "w", "1 to 4 rows a token (" + std::to_string(tokens()) + " tokens)",
             "shape " + shape_text(w_));
    const size_t rows = tokens() * products_;
    check_shape(doing_, "w", {rows, geometry_.kv_heads, geometry_.head_dim},
                {w_.shape(0), w_.shape(1), w_.shape(2)});
    check_shape(doing_, "beta", {rows, geometry_.kv_heads}, {beta_.shape(0), beta_.shape(1)});
    if (log_f_) {
      check_axes(doing_, "log_f", *log_f_, 2, "[tokens, heads]");
      check_shape(doing_, "log_f", {tokens(), geometry_.heads},
                  {log_f_->shape(0), log_f_->shape(1)});
    }
    exact_ ? forward_exact() : forward();
  }

  void backward(const Input& dout, const Output& dq, const Output& dk, const Output& dv,
                const Output& dw, const Output& dbeta, const MaybeOutput& dlog_f) {
    if (exact_) return backward_exact(dout, dq, dk, dv, dw, dbeta, dlog_f);
    const PathInputs in = views();
    const AnyView3 from = view("out", out_), by = view("dout", dout);
    const AttentionGradients to = gradients(dq, dk, dv);
    const AnyView3 maps = view("dw", dw);
    if (maps.dtype != DType::f32) refuse(doing_, "dw", "float32", "another type");
    const PathGradients result{to.dq,
                               to.dk,
                               to.dv,
                               maps.as<float>(),
                               matrix_of(doing_, "dbeta", dbeta),
                               dlog_f ? matrix_of(doing_, "dlog_f", *dlog_f) : View2<float>()};
    Team::get().run([&](ThreadTeam& team) {
      Workspace workspace(path_workspace(in, team.size()));
      path_attention_backward(in, from, by, log2_sum_.data(), result, workspace.span(), team);
    });
  }

 private:
  PathInputs views() const {
    const AttentionInputs in = inputs();
    PathInputs path;
    path.q = in.q;
    path.k = in.k;
    path.v = in.v;
    const AnyView3 w = view("w", w_);
    if (w.dtype != DType::f32) refuse(doing_, "w", "float32 (rounded maps grow)", "another type");
    path.w = w.as<const float>();
    path.beta = matrix_of(doing_, "beta", beta_);
    if (log_f_) path.log_gate = matrix_of(doing_, "log_f", *log_f_);
    path.offsets = layout().offsets;
    path.products = products_;
    path.scale = geometry_.scale;
    path.gate_scale = static_cast<float>(gate_scale_);
    path.compute = in.q.dtype;
    return path;
  }
  PathReference exact() const {
    AttentionMechanism::Reference in = reference();
    PathReference path;
    path.tokens = tokens();
    path.heads = geometry_.heads;
    path.kv_heads = geometry_.kv_heads;
    path.dim = geometry_.head_dim;
    path.value_dim = geometry_.value_dim;
    path.products = products_;
    path.scale = geometry_.scale;
    path.gate_scale = gate_scale_;
    path.q = std::move(in.q);
    path.k = std::move(in.k);
    path.v = std::move(in.v);
    path.w = values_of(doing_, "w", w_);
    path.beta = values_of(doing_, "beta", beta_);
    if (log_f_) path.log_gate = values_of(doing_, "log_f", *log_f_);
    const auto offsets = layout().offsets;
    path.offsets.assign(offsets.begin(), offsets.end());
    return path;
  }
  void forward() {
    const PathInputs in = views();
    check_path_values(in);
    const AnyView3 to = view("out", out_);
    log2_sum_.resize(geometry_.heads * tokens());
    Team::get().run([&](ThreadTeam& team) {
      Workspace workspace(path_workspace(in, team.size()));
      path_attention(in, to, log2_sum_.data(), workspace.span(), team);
    });
  }
  // What check_path_values asks of the fast path, but for |w|: differences move it off 1.
  void forward_exact() {
    const PathReference in = exact();
    for (const double beta : in.beta)
      if (!(beta >= 0 && beta <= 2)) refuse(doing_, "beta", "0 to 2", std::to_string(beta));
    for (const double value : in.log_gate)
      if (!(value <= 0) || !std::isfinite(value))
        refuse(doing_, "log_f", "finite logarithms of gates, at most 0", std::to_string(value));
    store(doing_, "out", path_reference_forward(in), out_);
  }
  void backward_exact(const Input& dout, const Output& dq, const Output& dk, const Output& dv,
                      const Output& dw, const Output& dbeta, const MaybeOutput& dlog_f) const {
    const PathReference grad = path_reference_backward(exact(), values_of(doing_, "dout", dout));
    store_gradients({{}, grad.q, grad.k, grad.v, {}}, dq, dk, dv);
    store(doing_, "dw", grad.w, dw);
    store(doing_, "dbeta", grad.beta, dbeta);
    if (dlog_f) store(doing_, "dlog_f", grad.log_gate, *dlog_f);
  }

  Input w_, beta_;
  MaybeInput log_f_;
  double gate_scale_;
  size_t products_ = 1;
  std::vector<float> log2_sum_;
};

}  // namespace

void bind_path(nb::module_& attention) {
  nb::class_<PathCall>(attention, "PathCall")
      .def(nb::init<Input, Input, Input, Input, Input, MaybeInput, Output, Offsets, double,
                    double>(),
           "q"_a, "k"_a, "v"_a, "w"_a, "beta"_a, "log_f"_a.none(), "out"_a, "offsets"_a, "scale"_a,
           "gate_scale"_a)
      .def("backward", &PathCall::backward, "dout"_a, "dq"_a, "dk"_a, "dv"_a, "dw"_a, "dbeta"_a,
           "dlog_f"_a.none());
}

}  // namespace cairn::python
