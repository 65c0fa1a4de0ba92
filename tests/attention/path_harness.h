// Random PaTH problems on the functions of core.h, run through them and through the float64
// definition.
#pragma once

#include "cairn/attention/path/core.h"
#include "cairn/attention/path/reference.h"
#include "tests/attention/harness.h"

namespace cairn::attention_test {

struct PathProblem {
  size_t heads = 2, kv_heads = 1, dim = 16, value_dim = 16, products = 1;
  std::vector<int> lengths = {17};
  bool gate = false;
  float gate_scale = 1;
  float scale = 0;
  DType dtype = DType::f32;
  size_t gap = 0;
  size_t block_tiles = 0;
  double low = 0.05, high = 1.95;  // of beta
};

class PathCase {
 public:
  explicit PathCase(const PathProblem& p)
      : problem(p),
        tokens(std::accumulate(p.lengths.begin(), p.lengths.end(), 0)),
        q(tokens, p.heads, p.dim, p.dtype, p.gap),
        k(tokens, p.kv_heads, p.dim, p.dtype, p.gap),
        v(tokens, p.kv_heads, p.value_dim, p.dtype, p.gap),
        w(tokens * p.products, p.kv_heads, p.dim, DType::f32, p.gap),
        beta(tokens * p.products, p.kv_heads, 1, DType::f32, p.gap),
        log_gate(tokens, p.heads, 1, DType::f32, p.gap),
        out(tokens, p.heads, p.value_dim, p.dtype, p.gap),
        dout(tokens, p.heads, p.value_dim, p.dtype, p.gap),
        dq(tokens, p.heads, p.dim, p.dtype, p.gap),
        dk(tokens, p.kv_heads, p.dim, p.dtype, p.gap),
        dv(tokens, p.kv_heads, p.value_dim, p.dtype, p.gap),
        dw(tokens * p.products, p.kv_heads, p.dim, DType::f32, p.gap),
        dbeta(tokens * p.products, p.kv_heads, 1, DType::f32, p.gap),
        dlog_gate(tokens, p.heads, 1, DType::f32, p.gap),
        log2_sum(tokens * p.heads) {
    q.fill(RandomStream(2, "q"), 1);
    k.fill(RandomStream(2, "k"), 1);
    v.fill(RandomStream(2, "v"), 1);
    dout.fill(RandomStream(2, "dout"), 1);
    for (Rows* rows : {&out, &dq, &dk, &dv, &dw, &dbeta, &dlog_gate})
      rows->fill(RandomStream(2, "rubbish"), 100);
    fill_maps();
    offsets = {0};
    for (const int length : p.lengths) offsets.push_back(offsets.back() + length);
  }

  PathInputs inputs() const {
    PathInputs in;
    in.q = q.view();
    in.k = k.view();
    in.v = v.view();
    in.w = w.view().as<const float>();
    in.beta = flat(beta);
    if (problem.gate) in.log_gate = flat(log_gate);
    in.offsets = {offsets.data(), offsets.size()};
    in.products = problem.products;
    in.scale = problem.scale;
    in.gate_scale = problem.gate_scale;
    in.compute = problem.dtype;
    in.block_tiles = problem.block_tiles;
    return in;
  }
  PathReference reference() const {
    PathReference r;
    r.tokens = tokens;
    r.heads = problem.heads;
    r.kv_heads = problem.kv_heads;
    r.dim = problem.dim;
    r.value_dim = problem.value_dim;
    r.products = problem.products;
    r.scale = problem.scale == 0 ? 1 / std::sqrt(static_cast<double>(problem.dim)) : problem.scale;
    r.gate_scale = problem.gate_scale;
    r.q = q.values();
    r.k = k.values();
    r.v = v.values();
    r.w = w.values();
    r.beta = beta.values();
    if (problem.gate) r.log_gate = log_gate.values();
    r.offsets = offsets;
    return r;
  }
  void forward(ThreadTeam& team) {
    workspace = AlignedBuffer(path_workspace(inputs(), team.size()));
    spoil();
    path_attention(inputs(), out.view(), log2_sum.data(), {workspace.data(), workspace.size()},
                   team);
  }
  void backward(ThreadTeam& team) {
    spoil();
    PathGradients g;
    g.dq = dq.view();
    g.dk = dk.view();
    g.dv = dv.view();
    g.dw = dw.view().as<float>();
    g.dbeta = {dbeta.view().as<float>().data, dbeta.view().tokens, problem.kv_heads,
               dbeta.view().token_stride};
    if (problem.gate)
      g.dlog_gate = {dlog_gate.view().as<float>().data, tokens, problem.heads,
                     dlog_gate.view().token_stride};
    path_attention_backward(inputs(), out.view(), dout.view(), log2_sum.data(), g,
                            {workspace.data(), workspace.size()}, team);
  }

  PathProblem problem;
  size_t tokens;
  Rows q, k, v, w, beta, log_gate, out, dout, dq, dk, dv, dw, dbeta, dlog_gate;
  std::vector<float> log2_sum;
  std::vector<int32_t> offsets;
  AlignedBuffer workspace;

 private:
  static View2<const float> flat(const Rows& rows) {
    const AnyView3 view = rows.view();
    return {static_cast<const float*>(view.data), view.tokens, view.heads, view.token_stride};
  }
  // What lies in the workspace must not matter: NaN everywhere.
  void spoil() { std::fill_n(workspace.data(), workspace.size(), std::byte{0xff}); }

  void fill_maps() {
    const RandomStream direction(2, "w"), strength(2, "beta"), gates(2, "gate");
    const size_t dim = problem.dim;
    for (size_t row = 0; row < tokens * problem.products; ++row)
      for (size_t head = 0; head < problem.kv_heads; ++head) {
        const size_t at = row * problem.kv_heads + head;
        double square = 0;
        for (size_t i = 0; i < dim; ++i) square += std::pow(direction.normal(at * dim + i), 2);
        for (size_t i = 0; i < dim; ++i)
          w.set(row, head * dim + i, direction.normal(at * dim + i) / std::sqrt(square));
        beta.set(row, head, problem.low + (problem.high - problem.low) * strength.uniform(at));
      }
    for (size_t t = 0; t < tokens; ++t)
      for (size_t head = 0; head < problem.heads; ++head)
        log_gate.set(t, head, std::log(0.5 + 0.5 * gates.uniform(t * problem.heads + head)));
  }
};

struct PathErrors {
  double out, dq, dk, dv, dw, dbeta, dlog_gate;
  double values() const { return out; }
  double worst() const { return std::max({out, dq, dk, dv, dw, dbeta, dlog_gate}); }
};

inline std::ostream& operator<<(std::ostream& to, const PathErrors& e) {
  return to << "out " << e.out << " dq " << e.dq << " dk " << e.dk << " dv " << e.dv << " dw "
            << e.dw << " dbeta " << e.dbeta << " dlog_gate " << e.dlog_gate;
}

// Forward and backward against the definition.
inline PathErrors path_errors_of(const PathProblem& problem, int threads = 1) {
  ThreadTeam team(threads, true);
  PathCase c(problem);
  c.forward(team);
  c.backward(team);
  const auto out = path_reference_forward(c.reference());
  const auto grad = path_reference_backward(c.reference(), c.dout.values());
  // What sees one key only has no gradient: its error is measured by that of its value.
  const double floor =
      0.1 * std::sqrt(std::inner_product(grad.v.begin(), grad.v.end(), grad.v.begin(), 0.0));
  return {relative_error(c.out.values(), out),
          relative_error(c.dq.values(), grad.q, floor),
          relative_error(c.dk.values(), grad.k, floor),
          relative_error(c.dv.values(), grad.v),
          relative_error(c.dw.values(), grad.w, floor),
          relative_error(c.dbeta.values(), grad.beta, floor),
          problem.gate ? relative_error(c.dlog_gate.values(), grad.log_gate, floor) : 0};
}

}  // namespace cairn::attention_test
