// From run-time values to compile-time ones: the kernels' template arguments.
#pragma once

#include <type_traits>
#include <utility>

#include "config.h"
#include "device/numeric.cuh"
#include "launch/check.h"

namespace cuconv {

template <typename T>
struct type_tag {
  using type = T;
};

// Calls f(type_tag<T>{}) with the element type; `typename decltype(tag)::type` names it inside.
template <typename F>
decltype(auto) dispatch_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat16: return std::forward<F>(f)(type_tag<half_t>{});
    case DType::kBfloat16: return std::forward<F>(f)(type_tag<bfloat16_t>{});
    case DType::kFloat32: return std::forward<F>(f)(type_tag<float>{});
    case DType::kFloat64: return std::forward<F>(f)(type_tag<double>{});
    case DType::kComplex64: return std::forward<F>(f)(type_tag<complex_t<float>>{});
    case DType::kComplex128: return std::forward<F>(f)(type_tag<complex_t<double>>{});
  }
  throw ArgumentError("unknown dtype");
}

// The same over the real types alone, for maxima and activations.
template <typename F>
decltype(auto) dispatch_real_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat16: return std::forward<F>(f)(type_tag<half_t>{});
    case DType::kBfloat16: return std::forward<F>(f)(type_tag<bfloat16_t>{});
    case DType::kFloat32: return std::forward<F>(f)(type_tag<float>{});
    case DType::kFloat64: return std::forward<F>(f)(type_tag<double>{});
    default: break;
  }
  throw ArgumentError(std::string(name_of(dtype)) + " has no order: this operation takes real dtypes");
}

// Calls f(std::true_type{}) or f(std::false_type{}).
template <typename F>
decltype(auto) dispatch_bool(bool value, F&& f) {
  return value ? std::forward<F>(f)(std::true_type{}) : std::forward<F>(f)(std::false_type{});
}

}  // namespace cuconv
