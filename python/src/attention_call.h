// What all calls of cairn._cairn.attention share: borrowed arrays, checked and seen as views, and
// the threads that work on them. Included by attention*.cpp only.
#pragma once

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <memory>
#include <mutex>
#include <vector>

#include "bindings.h"
#include "cairn/attention/checks.h"
#include "cairn/attention/mechanism.h"
#include "cairn/base/cpu.h"
#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/tensor/shape.h"

namespace cairn::python {

namespace nb = nanobind;
using namespace nb::literals;

using Input = nb::ndarray<nb::ro, nb::device::cpu>;
using Output = nb::ndarray<nb::device::cpu>;
using Offsets = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

[[noreturn]] inline void refuse(const char* doing, const char* argument,
                                const std::string& expected, const std::string& found) {
  throw Error({.kind = ErrorKind::usage,
               .doing = doing,
               .subject = argument,
               .expected = expected,
               .found = found});
}

template <class Array>
std::string shape_text(const Array& array) {
  Shape shape;
  for (size_t i = 0; i < array.ndim(); ++i) shape.push_back(array.shape(i));
  return to_string(shape);
}

template <class Array>
bool is_f64(const Array& array) {
  return array.dtype() == nb::dtype<double>();
}

// Element type of the fast path; f64 is told apart before.
template <class Array>
DType type_of(const char* doing, const char* argument, const Array& array) {
  if (array.dtype() == nb::dtype<float>()) return DType::f32;
  const nb::dlpack::dtype bfloat{static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat), 16, 1};
  if (array.dtype() == bfloat) return DType::bf16;
  refuse(doing, argument, "float32, bfloat16 or float64", "another type");
}

template <class Array>
void check_axes(const char* doing, const char* argument, const Array& array, size_t axes,
                const char* expected) {
  if (array.ndim() != axes) refuse(doing, argument, expected, "shape " + shape_text(array));
  const bool rows = array.shape(axes - 1) <= 1 || array.stride(axes - 1) == 1;
  for (size_t i = 0; i < axes; ++i)
    if (!rows || array.stride(i) < 0)
      refuse(doing, argument, "strides of 0 or more, the last axis contiguous",
             "shape " + shape_text(array) + " with other strides");
}

template <class Array>
AnyView3 heads_of(const char* doing, const char* argument, const Array& array) {
  check_axes(doing, argument, array, 3, "[tokens, heads, dim]");
  AnyView3 view;
  view.data = const_cast<void*>(static_cast<const void*>(array.data()));
  view.dtype = type_of(doing, argument, array);
  view.tokens = array.shape(0);
  view.heads = array.shape(1);
  view.dim = array.shape(2);
  view.token_stride = static_cast<size_t>(array.stride(0));
  view.head_stride = static_cast<size_t>(array.stride(1));
  return view;
}

template <class Array>
View2<float> matrix_of(const char* doing, const char* argument, const Array& array) {
  check_axes(doing, argument, array, 2, "[tokens, heads]");
  if (array.dtype() != nb::dtype<float>()) refuse(doing, argument, "float32", "another type");
  return {const_cast<float*>(static_cast<const float*>(array.data())), array.shape(0),
          array.shape(1), static_cast<size_t>(array.stride(0))};
}

// A contiguous copy of an array of doubles.
inline std::vector<double> values_of(const char* doing, const char* argument, const Input& array) {
  if (!is_f64(array)) refuse(doing, argument, "float64, the type of q", "another type");
  std::vector<double> values(array.size());
  std::vector<size_t> at(array.ndim());
  for (double& value : values) {
    int64_t place = 0;
    for (size_t i = 0; i < at.size(); ++i) place += static_cast<int64_t>(at[i]) * array.stride(i);
    value = static_cast<const double*>(array.data())[place];
    for (size_t i = at.size(); i-- > 0 && ++at[i] == array.shape(i);) at[i] = 0;
  }
  return values;
}

// Into a contiguous array that the Python side allocated.
inline void store(const char* doing, const char* argument, const std::vector<double>& values,
                  const Output& array) {
  if (!is_f64(array) || array.size() != values.size())
    refuse(doing, argument, "float64 of the shape of its input", "shape " + shape_text(array));
  std::copy(values.begin(), values.end(), static_cast<double*>(array.data()));
}

// The threads of all calls; one call at a time, with the interpreter lock released and the caller's
// floating-point environment (denormals) kept.
class Team {
 public:
  static Team& get() {
    static Team& team = *new Team;  // never joined: Python may end while threads wait
    return team;
  }
  void resize(int threads) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    const Environment keep;
    team_ = std::make_unique<ThreadTeam>(threads);
  }
  int size() {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    return need().size();
  }
  template <class Work>
  void run(Work work) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    const Environment keep;
    flush_denormals_in_this_thread();
    work(need());
  }

 private:
  struct Environment {
    Environment() { std::fegetenv(&before); }
    ~Environment() { std::fesetenv(&before); }
    std::fenv_t before;
  };
  ThreadTeam& need() {
    const Environment keep;
    if (!team_) team_ = std::make_unique<ThreadTeam>();
    return *team_;
  }
  std::mutex mutex_;
  std::unique_ptr<ThreadTeam> team_;
};

// What the calls have in common: borrowed arrays, and where sequences begin.
class Call {
 protected:
  Call(const char* doing, Input q, Input k, Input v, Output out, Offsets offsets, double scale)
      : doing_(doing),
        q_(std::move(q)),
        k_(std::move(k)),
        v_(std::move(v)),
        out_(std::move(out)),
        offsets_(std::move(offsets)) {
    for (const auto& [name, array] : {std::pair("q", &q_), {"k", &k_}, {"v", &v_}})
      check_axes(doing, name, *array, 3, "[tokens, heads, dim]");
    exact_ = is_f64(q_);
    geometry_ = {.hidden_size = 1,
                 .heads = q_.shape(1),
                 .kv_heads = k_.shape(1),
                 .head_dim = q_.shape(2),
                 .value_dim = v_.shape(2),
                 .scale = static_cast<float>(scale)};
    check_geometry(doing, geometry_);
    const size_t tokens = q_.shape(0);
    if (tokens > INT32_MAX) refuse(doing, "q", "fewer than 2^31 tokens", std::to_string(tokens));
    check_shape(doing, "k", {tokens, geometry_.kv_heads, geometry_.head_dim},
                {k_.shape(0), k_.shape(1), k_.shape(2)});
    check_shape(doing, "v", {tokens, geometry_.kv_heads, geometry_.value_dim},
                {v_.shape(0), v_.shape(1), v_.shape(2)});
    check_offsets(doing, layout_offsets(), tokens);
    positions_.resize(tokens);
    for (size_t s = 0; s + 1 < offsets_.size(); ++s)
      for (int32_t t = offsets_.data()[s]; t < offsets_.data()[s + 1]; ++t)
        positions_[t] = t - offsets_.data()[s];
  }

  TokenLayout layout() const { return {layout_offsets(), {positions_.data(), positions_.size()}}; }
  size_t tokens() const { return positions_.size(); }
  size_t longest() const {
    return positions_.empty() ? 0 : *std::max_element(positions_.begin(), positions_.end()) + 1;
  }
  AttentionInputs inputs() const {
    AttentionInputs in;
    in.q = view("q", q_);
    in.k = view("k", k_);
    in.v = view("v", v_);
    return in;
  }
  template <class Array>
  AnyView3 view(const char* argument, const Array& array) const {
    return heads_of(doing_, argument, array);
  }
  AttentionMechanism::Reference reference() const {
    return {
        {}, values_of(doing_, "q", q_), values_of(doing_, "k", k_), values_of(doing_, "v", v_), {}};
  }
  AttentionGradients gradients(const Output& dq, const Output& dk, const Output& dv) const {
    AttentionGradients result;
    result.dq = view("dq", dq);
    result.dk = view("dk", dk);
    result.dv = view("dv", dv);
    return result;
  }
  void store_gradients(const AttentionMechanism::Reference& grad, const Output& dq,
                       const Output& dk, const Output& dv) const {
    store(doing_, "dq", grad.q, dq);
    store(doing_, "dk", grad.k, dk);
    store(doing_, "dv", grad.v, dv);
  }
  // Room for a call and for its backward pass.
  void reserve(const AttentionMemory& memory) {
    saved_ = AlignedBuffer(memory.saved);
    workspace_bytes_ = memory.workspace;
  }
  std::span<std::byte> saved() { return {saved_.data(), saved_.size()}; }

  const char* doing_;
  Input q_, k_, v_;
  Output out_;
  Offsets offsets_;
  AttentionGeometry geometry_;
  bool exact_ = false;
  AlignedBuffer saved_;
  size_t workspace_bytes_ = 0;

 private:
  View1<const int32_t> layout_offsets() const { return {offsets_.data(), offsets_.size()}; }
  std::vector<int32_t> positions_;
};

struct Workspace {
  explicit Workspace(size_t bytes) : buffer(bytes) {}
  std::span<std::byte> span() { return {buffer.data(), buffer.size()}; }
  AlignedBuffer buffer;
};

}  // namespace cairn::python
