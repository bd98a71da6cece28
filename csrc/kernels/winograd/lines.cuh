// Winograd's minimal filtering F(m, 3) along one axis: m outputs of a filter of 3 taps from m + 2 inputs,
//
//   y = A^T [ (G g) * (B^T d) ]      * element by element: m + 2 products instead of 3 m
//
// after Toom and Cook: filter and inputs are polynomials, evaluated at m + 1 points and at infinity. The
// points are 0, 1, -1 for m = 2, and 0, 2/3, -2/3, 3/2, -3/2 for m = 4, which lose a quarter of what the
// usual 0, 1, -1, 2, -2 do; they are those of the CPU's Winograd, so that one error bound holds for both
// (docs/bounds.md). In two dimensions each transform is done along the rows, then along the columns.
//
// Points of opposite sign share their even and their odd part, which halves the multiplications. Each product
// is part of a fused multiply-add, so that a GPU and the emulation give the same bits.
//
// `Real` is any type that has +, -, / and multiply_add: tests put exact fractions through these functions.
//
// Sources: A. Lavin and S. Gray, Fast algorithms for convolutional neural networks, 2015, arXiv:1509.09308;
// on points and errors B. Barabasz, A. Anderson, K. M. Soodhalter and D. Gregg, 2018, arXiv:1803.10986.
#pragma once

#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

template <typename Real>
CUCONV_DEVICE Real ratio(int numerator, int denominator) {
  return static_cast<Real>(numerator) / static_cast<Real>(denominator);
}

template <int kOutputs>
struct WinogradLine;

template <>
struct WinogradLine<2> {
  static constexpr int kOutputs = 2;
  static constexpr int kPoints = 4;

  template <typename Real>
  CUCONV_DEVICE static void filter(const Real (&g)[3], Real (&u)[kPoints]) {
    const Real half = ratio<Real>(1, 2);
    const Real even = half * (g[0] + g[2]);
    u[0] = -g[0];
    u[1] = multiply_add(half, g[1], even);
    u[2] = multiply_add(-half, g[1], even);
    u[3] = g[2];
  }

  template <typename Real>
  CUCONV_DEVICE static void input(const Real (&d)[kPoints], Real (&v)[kPoints]) {
    v[0] = d[2] - d[0];
    v[1] = d[2] + d[1];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }

  template <typename Real>
  CUCONV_DEVICE static void output(const Real (&m)[kPoints], Real (&y)[kOutputs]) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
};

template <>
struct WinogradLine<4> {
  static constexpr int kOutputs = 4;
  static constexpr int kPoints = 6;

  template <typename Real>
  CUCONV_DEVICE static void filter(const Real (&g)[3], Real (&u)[kPoints]) {
    const Real small = multiply_add(ratio<Real>(-81, 130), g[0], ratio<Real>(-18, 65) * g[2]);
    const Real large = multiply_add(ratio<Real>(8, 65), g[0], ratio<Real>(18, 65) * g[2]);
    u[0] = g[0];
    u[1] = multiply_add(ratio<Real>(-27, 65), g[1], small);
    u[2] = multiply_add(ratio<Real>(27, 65), g[1], small);
    u[3] = multiply_add(ratio<Real>(12, 65), g[1], large);
    u[4] = multiply_add(ratio<Real>(-12, 65), g[1], large);
    u[5] = g[2];
  }

  template <typename Real>
  CUCONV_DEVICE static void input(const Real (&d)[kPoints], Real (&v)[kPoints]) {
    const Real small_even = multiply_add(ratio<Real>(-9, 4), d[2], d[4]);
    const Real small_odd = multiply_add(ratio<Real>(2, 3), d[3], ratio<Real>(-3, 2) * d[1]);
    const Real large_even = multiply_add(ratio<Real>(-4, 9), d[2], d[4]);
    const Real large_odd = multiply_add(ratio<Real>(3, 2), d[3], ratio<Real>(-2, 3) * d[1]);
    v[0] = multiply_add(ratio<Real>(-97, 36), d[2], d[0] + d[4]);
    v[1] = small_even + small_odd;
    v[2] = small_even - small_odd;
    v[3] = large_even + large_odd;
    v[4] = large_even - large_odd;
    v[5] = multiply_add(ratio<Real>(-97, 36), d[3], d[1] + d[5]);
  }

  template <typename Real>
  CUCONV_DEVICE static void output(const Real (&m)[kPoints], Real (&y)[kOutputs]) {
    const Real small_even = m[1] + m[2];
    const Real small_odd = m[1] - m[2];
    const Real large_even = m[3] + m[4];
    const Real large_odd = m[3] - m[4];
    y[0] = m[0] + (small_even + large_even);
    y[1] = multiply_add(ratio<Real>(2, 3), small_odd, ratio<Real>(3, 2) * large_odd);
    y[2] = multiply_add(ratio<Real>(4, 9), small_even, ratio<Real>(9, 4) * large_even);
    y[3] = multiply_add(ratio<Real>(8, 27), small_odd, multiply_add(ratio<Real>(27, 8), large_odd, m[5]));
  }
};

}  // namespace cuconv
