// Element types and the arithmetic kernels do on them.
//
// A kernel loads elements of type T, computes in accumulator_t<T> and rounds once when it stores:
//   float16, bfloat16 -> float;  every other type -> itself.
// Products are fused multiply-adds on both sides (GPU and emulation), so both give the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "device/complex.cuh"
#include "device/platform.cuh"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
#include <bit>
#endif

namespace cuconv {

struct half_t {
  std::uint16_t bits;
};
struct bfloat16_t {
  std::uint16_t bits;
};

template <typename T>
struct accumulator {
  using type = T;
};
template <>
struct accumulator<half_t> {
  using type = float;
};
template <>
struct accumulator<bfloat16_t> {
  using type = float;
};
template <typename T>
using accumulator_t = typename accumulator<T>::type;

template <typename T>
struct is_complex {
  static constexpr bool value = false;
};
template <typename Real>
struct is_complex<complex_t<Real>> {
  static constexpr bool value = true;
};
template <typename T>
inline constexpr bool is_complex_v = is_complex<T>::value;

// ---- loads and stores: element <-> accumulator ----

template <typename T>
CUCONV_DEVICE T widen(T value) {
  return value;
}

#if defined(__CUDACC__)

CUCONV_DEVICE float bits_to_float(std::uint32_t bits) { return __uint_as_float(bits); }
CUCONV_DEVICE float widen(half_t value) { return __half2float(__ushort_as_half(value.bits)); }
CUCONV_DEVICE float widen(bfloat16_t value) { return __bfloat162float(__ushort_as_bfloat16(value.bits)); }

#else

CUCONV_DEVICE float bits_to_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }
CUCONV_DEVICE float widen(half_t value) { return static_cast<float>(std::bit_cast<_Float16>(value.bits)); }
CUCONV_DEVICE float widen(bfloat16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

#endif

template <typename T>
struct Narrow {
  CUCONV_DEVICE static T from(T value) { return value; }
};

#if defined(__CUDACC__)

template <>
struct Narrow<half_t> {
  CUCONV_DEVICE static half_t from(float value) { return {__half_as_ushort(__float2half_rn(value))}; }
};
template <>
struct Narrow<bfloat16_t> {
  CUCONV_DEVICE static bfloat16_t from(float value) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  }
};

#else

template <>
struct Narrow<half_t> {
  CUCONV_DEVICE static half_t from(float value) {
    return {std::bit_cast<std::uint16_t>(static_cast<_Float16>(value))};
  }
};
template <>
struct Narrow<bfloat16_t> {
  CUCONV_DEVICE static bfloat16_t from(float value) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    if (value != value) return {static_cast<std::uint16_t>((bits >> 16) | 0x40)};  // keep NaN a NaN
    bits += 0x7fff + ((bits >> 16) & 1);                                           // nearest, ties to even
    return {static_cast<std::uint16_t>(bits >> 16)};
  }
};

#endif

// Rounds an accumulator to the element type it is stored as.
template <typename T>
CUCONV_DEVICE T narrow(accumulator_t<T> value) {
  return Narrow<T>::from(value);
}

// ---- arithmetic on accumulators ----

CUCONV_DEVICE float multiply_add(float a, float b, float sum) { return fmaf(a, b, sum); }
CUCONV_DEVICE double multiply_add(double a, double b, double sum) { return fma(a, b, sum); }
template <typename Real>
CUCONV_DEVICE complex_t<Real> multiply_add(complex_t<Real> a, complex_t<Real> b, complex_t<Real> sum) {
  sum.re = multiply_add(a.re, b.re, sum.re);
  sum.re = multiply_add(-a.im, b.im, sum.re);
  sum.im = multiply_add(a.re, b.im, sum.im);
  sum.im = multiply_add(a.im, b.re, sum.im);
  return sum;
}

CUCONV_DEVICE float add(float a, float b) { return a + b; }
CUCONV_DEVICE double add(double a, double b) { return a + b; }
template <typename Real>
CUCONV_DEVICE complex_t<Real> add(complex_t<Real> a, complex_t<Real> b) {
  return {a.re + b.re, a.im + b.im};
}

CUCONV_DEVICE float scale(float a, float factor) { return a * factor; }
CUCONV_DEVICE double scale(double a, double factor) { return a * factor; }
template <typename Real>
CUCONV_DEVICE complex_t<Real> scale(complex_t<Real> a, Real factor) {
  return {a.re * factor, a.im * factor};
}

// The conjugate where `yes`; real numbers are their own.
template <typename Acc>
CUCONV_DEVICE Acc conjugate_if(Acc value, bool yes) {
  if constexpr (is_complex_v<Acc>) {
    if (yes) value.im = -value.im;
  }
  return value;
}

}  // namespace cuconv
