#include "cairn/kernels/matmul.h"

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "cairn/base/error.h"
#include "cairn/base/memory.h"
#include "cairn/kernels/dispatch.h"

// oneDNN's threads are OpenMP's. Training uses none of them: each thread of our team limits itself
// to one, here, where the only library that knows OpenMP is called.
extern "C" void omp_set_num_threads(int);

namespace cairn {
namespace {

using Memory = dnnl::memory;

const dnnl::engine& engine() {
  static const dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

// The setting is the calling thread's own.
void set_library_threads(int threads) {
  thread_local int current = 0;
  if (current == threads) return;
  omp_set_num_threads(threads);
  current = threads;
}

Memory::data_type onednn_type(DType dtype) {
  return dtype == DType::bf16 ? Memory::data_type::bf16 : Memory::data_type::f32;
}

Memory::dim dim(size_t value) {
  return static_cast<Memory::dim>(value);
}

// Strides of a [rows, cols] matrix that is stored as is or transposed.
Memory::desc strided(size_t rows, size_t cols, DType dtype, bool transposed, size_t stride) {
  if (stride == 0) stride = transposed ? rows : cols;
  const Memory::dims strides =
      transposed ? Memory::dims{1, dim(stride)} : Memory::dims{dim(stride), 1};
  return Memory::desc({dim(rows), dim(cols)}, onednn_type(dtype), strides);
}

Memory::desc b_as_stored(const MatmulForm& form) {
  return strided(form.k, form.n, form.operands, form.transpose_b, form.ldb);
}

dnnl::matmul::primitive_desc describe(const MatmulForm& form, size_t m, const Memory::desc& b) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (form.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  const dnnl::matmul::desc description(
      strided(m, form.k, form.operands, form.transpose_a, form.lda), b,
      strided(m, form.n, form.result, false, form.ldc));
  return dnnl::matmul::primitive_desc(description, attributes, engine());
}

std::string form_text(const MatmulForm& form, size_t m) {
  return "[" + std::to_string(m) + ", " + std::to_string(form.k) + "] x [" +
         std::to_string(form.k) + ", " + std::to_string(form.n) + "] in " +
         std::string(dtype_name(form.operands));
}

// A compiled product for one m, with what each thread needs to call it.
struct Plan {
  struct Lane {
    dnnl::stream stream{engine()};
    std::array<Memory, 4> memories;  // a, b, c, scratchpad: handles are set before each call
    AlignedBuffer scratch;
    std::array<dnnl_exec_arg_t, 4> arguments;
  };

  Plan(const dnnl::matmul::primitive_desc& description, int threads) : product(description) {
    lanes.reserve(threads);
    for (int i = 0; i < threads; ++i) {
      Lane& lane = lanes.emplace_back();
      lane.scratch = AlignedBuffer(description.scratchpad_desc().get_size());
      lane.memories = {Memory(description.src_desc(), engine(), nullptr),
                       Memory(description.weights_desc(), engine(), nullptr),
                       Memory(description.dst_desc(), engine(), nullptr),
                       Memory(description.scratchpad_desc(), engine(), lane.scratch.data())};
      constexpr std::array<int, 4> kNames = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                             DNNL_ARG_SCRATCHPAD};
      for (size_t k = 0; k < kNames.size(); ++k)
        lane.arguments[k] = {kNames[k], lane.memories[k].get()};
    }
  }

  dnnl::matmul product;
  std::vector<Lane> lanes;
};

// The copy of B into its packed layout, compiled once.
struct Packing {
  struct Lane {
    dnnl::stream stream{engine()};
    std::array<Memory, 3> memories;  // from, to, scratchpad
    AlignedBuffer scratch;
    std::array<dnnl_exec_arg_t, 3> arguments;
  };

  Packing(const MatmulForm& form, const Memory::desc& packed, int threads) {
    const Memory::desc plain = strided(form.k, form.n, DType::f32, form.transpose_b, 0);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc description(engine(), plain, engine(), packed, attributes);
    copy = dnnl::reorder(description);
    lanes.reserve(threads);
    for (int i = 0; i < threads; ++i) {
      Lane& lane = lanes.emplace_back();
      lane.scratch = AlignedBuffer(description.scratchpad_desc().get_size());
      lane.memories = {Memory(plain, engine(), nullptr), Memory(packed, engine(), nullptr),
                       Memory(description.scratchpad_desc(), engine(), lane.scratch.data())};
      constexpr std::array<int, 3> kNames = {DNNL_ARG_FROM, DNNL_ARG_TO, DNNL_ARG_SCRATCHPAD};
      for (size_t k = 0; k < kNames.size(); ++k)
        lane.arguments[k] = {kNames[k], lane.memories[k].get()};
    }
  }

  dnnl::reorder copy;
  std::vector<Lane> lanes;
};

}  // namespace

struct Matmul::Implementation {
  MatmulForm form;
  int threads = 1;
  int library_threads = 1;
  Memory::desc b;  // the layout in which run() expects B
  std::unique_ptr<Plan> usual;
  std::unique_ptr<Packing> packing;  // of forms with a packed B
  size_t usual_rows = 0;
  std::shared_mutex mutex;
  std::map<size_t, std::unique_ptr<Plan>> others;

  std::unique_ptr<Plan> make_plan(size_t m, const Memory::desc& layout) {
    try {
      const auto description = describe(form, m, layout);
      b = description.weights_desc();
      return std::make_unique<Plan>(description, threads);
    } catch (const dnnl::error& error) {
      throw Error({.doing = "compiling the matrix product " + form_text(form, m),
                   .found = error.what(),
                   .hint = "this processor may lack the instructions for that type"});
    }
  }

  Plan& plan(size_t m) {
    if (m == usual_rows) return *usual;
    {
      const std::shared_lock lock(mutex);
      if (const auto found = others.find(m); found != others.end()) return *found->second;
    }
    const std::unique_lock lock(mutex);
    auto& slot = others[m];
    if (!slot) slot = make_plan(m, b);
    return *slot;
  }
};

Matmul::Matmul(const MatmulForm& form, int threads, size_t usual_rows, int library_threads)
    : implementation_(std::make_unique<Implementation>()) {
  apply_isa_limit();
  set_library_threads(library_threads);
  Implementation& self = *implementation_;
  self.form = form;
  self.threads = threads;
  self.library_threads = library_threads;
  // A transposed A is stored with rows of lda elements: no product has more rows than that.
  if (form.transpose_a && form.lda != 0) usual_rows = std::min(usual_rows, form.lda);
  self.usual_rows = usual_rows;
  const Memory::desc any({dim(form.k), dim(form.n)}, onednn_type(form.operands),
                         Memory::format_tag::any);
  self.usual = self.make_plan(usual_rows, form.packed_b ? any : b_as_stored(form));
  if (form.packed_b) self.packing = std::make_unique<Packing>(form, self.b, threads);
}

Matmul::~Matmul() = default;
Matmul::Matmul(Matmul&&) noexcept = default;
Matmul& Matmul::operator=(Matmul&&) noexcept = default;

void Matmul::run(size_t m, const void* a, const void* b, void* c, int thread) const {
  set_library_threads(implementation_->library_threads);
  Plan& plan = implementation_->plan(m);
  Plan::Lane& lane = plan.lanes[static_cast<size_t>(thread)];
  lane.memories[0].set_data_handle(const_cast<void*>(a));
  lane.memories[1].set_data_handle(const_cast<void*>(b));
  lane.memories[2].set_data_handle(c);
  const dnnl_status_t status =
      dnnl_primitive_execute(plan.product.get(), lane.stream.get(),
                             static_cast<int>(lane.arguments.size()), lane.arguments.data());
  if (status != dnnl_success)
    throw Error({.doing = "computing the matrix product " + form_text(implementation_->form, m),
                 .found = "oneDNN status " + std::to_string(static_cast<int>(status))});
}

size_t Matmul::packed_bytes() const {
  return align_up(implementation_->b.get_size(), kAlignment);
}

void Matmul::pack(const float* b, void* packed, int thread) const {
  set_library_threads(implementation_->library_threads);
  const Packing& packing = *implementation_->packing;
  const Packing::Lane& lane = packing.lanes[static_cast<size_t>(thread)];
  lane.memories[0].set_data_handle(const_cast<float*>(b));
  lane.memories[1].set_data_handle(packed);
  const dnnl_status_t status =
      dnnl_primitive_execute(packing.copy.get(), lane.stream.get(),
                             static_cast<int>(lane.arguments.size()), lane.arguments.data());
  if (status != dnnl_success)
    throw Error({.doing = "packing the weights of " + form_text(implementation_->form, 0),
                 .found = "oneDNN status " + std::to_string(static_cast<int>(status))});
}

}  // namespace cairn
