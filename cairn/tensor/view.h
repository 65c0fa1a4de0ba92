// Non-owning strided views. The last dimension is contiguous. A view borrows memory and never frees
// it; a view of const elements converts from one of mutable elements. Indices are not checked:
// entry points check shapes once (tensor/shape.h), inner loops do not.
#pragma once

#include <cstddef>
#include <type_traits>

#include "cairn/tensor/dtype.h"

namespace cairn {

template <class T>
struct View1 {
  T* data = nullptr;
  size_t size = 0;

  View1() = default;
  View1(T* d, size_t n) : data(d), size(n) {}
  template <class U>
  requires(std::is_same_v<const U, T>) View1(View1<U> other)
      : data(other.data), size(other.size) {}  // NOLINT: widening to const

  bool empty() const { return size == 0; }
  T& operator[](size_t i) const { return data[i]; }
  T* begin() const { return data; }
  T* end() const { return data + size; }
  View1 slice(size_t begin, size_t count) const { return {data + begin, count}; }
};

template <class T>
struct View2 {  // [rows, cols]
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;  // elements from one row to the next

  View2() = default;
  View2(T* d, size_t r, size_t c) : View2(d, r, c, c) {}
  View2(T* d, size_t r, size_t c, size_t s) : data(d), rows(r), cols(c), stride(s) {}
  template <class U>
  requires(std::is_same_v<const U, T>) View2(View2<U> o)
      : data(o.data), rows(o.rows), cols(o.cols), stride(o.stride) {}  // NOLINT

  bool empty() const { return rows == 0 || cols == 0; }
  bool contiguous() const { return stride == cols; }
  View1<T> operator[](size_t row) const { return {data + row * stride, cols}; }
  View2 rows_slice(size_t begin, size_t count) const {
    return {data + begin * stride, count, cols, stride};
  }
  View2 cols_slice(size_t begin, size_t count) const { return {data + begin, rows, count, stride}; }
};

template <class T>
struct View3 {  // [tokens, heads, dim] in most places
  T* data = nullptr;
  size_t tokens = 0;
  size_t heads = 0;
  size_t dim = 0;
  size_t token_stride = 0;
  size_t head_stride = 0;

  View3() = default;
  View3(T* d, size_t t, size_t h, size_t n) : View3(d, t, h, n, h * n, n) {}
  View3(T* d, size_t t, size_t h, size_t n, size_t ts, size_t hs)
      : data(d), tokens(t), heads(h), dim(n), token_stride(ts), head_stride(hs) {}
  template <class U>
  requires(std::is_same_v<const U, T>) View3(View3<U> o)  // NOLINT: widening to const
      : View3(o.data, o.tokens, o.heads, o.dim, o.token_stride, o.head_stride) {}

  T* at(size_t token, size_t head) const {
    return data + token * token_stride + head * head_stride;
  }
  View2<T> head(size_t h) const { return {data + h * head_stride, tokens, dim, token_stride}; }
  View3 tokens_slice(size_t begin, size_t count) const {
    return {data + begin * token_stride, count, heads, dim, token_stride, head_stride};
  }
};

// A View3 or View2 whose element type is known only at run time: the currency of interfaces that
// serve f32 and bf16 alike. `as<T>` is unchecked; look at dtype first.
struct AnyView3 {
  void* data = nullptr;
  DType dtype = DType::f32;
  size_t tokens = 0;
  size_t heads = 0;
  size_t dim = 0;
  size_t token_stride = 0;  // in elements
  size_t head_stride = 0;

  AnyView3() = default;
  template <class T>
  AnyView3(View3<T> v)  // NOLINT: erases the type
      : data(const_cast<std::remove_const_t<T>*>(v.data)),
        dtype(dtype_of<std::remove_const_t<T>>),
        tokens(v.tokens),
        heads(v.heads),
        dim(v.dim),
        token_stride(v.token_stride),
        head_stride(v.head_stride) {}
  template <class T>
  View3<T> as() const {
    return {static_cast<T*>(data), tokens, heads, dim, token_stride, head_stride};
  }
};

struct AnyView2 {
  void* data = nullptr;
  DType dtype = DType::f32;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;  // in elements

  AnyView2() = default;
  AnyView2(void* d, DType t, size_t r, size_t c, size_t s)
      : data(d), dtype(t), rows(r), cols(c), stride(s) {}
  template <class T>
  AnyView2(View2<T> v)  // NOLINT: erases the type
      : data(const_cast<std::remove_const_t<T>*>(v.data)),
        dtype(dtype_of<std::remove_const_t<T>>),
        rows(v.rows),
        cols(v.cols),
        stride(v.stride) {}
  template <class T>
  View2<T> as() const {
    return {static_cast<T*>(data), rows, cols, stride};
  }
};

// [rows, heads * dim] seen as [rows, heads, dim].
template <class T>
View3<T> split_heads(View2<T> view, size_t heads) {
  const size_t dim = view.cols / heads;
  return {view.data, view.rows, heads, dim, view.stride, dim};
}

}  // namespace cairn
