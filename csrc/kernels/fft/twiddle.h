// Roots of unity exp(-2 pi i j / length), correctly rounded from a wider type. They travel as an argument of
// the kernel, and each block copies them to shared memory.
//
// Up to 128 they are looked up. Those of longer lines are products of a fine and a coarse root, so that the
// table of 8192 has 192 entries; the product costs about three units of rounding more (docs/fft.md).
#pragma once

#include <cmath>

#include "device/complex.cuh"

namespace cuconv {

constexpr int kLogFineRoots = 7;
constexpr int kFineRoots = 1 << kLogFineRoots;
constexpr int kMostLogLength = 13;
constexpr int kCoarseRoots = 1 << (kMostLogLength - kLogFineRoots);

template <typename Real>
struct FftRoots {
  complex_t<Real> fine[kFineRoots];
  complex_t<Real> coarse[kCoarseRoots];
};

// exp(-2 pi i j / n), 0 <= j < n: of an angle in the first octant, so that the symmetries are exact.
template <typename Wide>
void unit_root(long j, long n, Wide& re, Wide& im) {
  const Wide kTurn = 6.283185307179586476925286766559L;
  const long octant = 8 * j / n;
  const long quarter = (octant + 1) / 2;  // the nearest multiple of a quarter turn
  const long rest = 4 * j - quarter * n;  // in (-n/2, n/2], of 4n a turn
  const Wide angle = kTurn * static_cast<Wide>(rest) / static_cast<Wide>(4 * n);
  const Wide c = std::cos(angle), s = std::sin(angle);
  switch (quarter % 4) {
    case 0: re = c, im = -s; break;
    case 1: re = -s, im = -c; break;
    case 2: re = -c, im = s; break;
    default: re = s, im = c; break;
  }
}

template <typename Real, typename Wide>
FftRoots<Real> fft_roots(int log_length) {
  FftRoots<Real> roots = {};
  const long length = 1L << log_length;
  const auto root = [&](long j) {
    Wide re, im;
    unit_root<Wide>(j, length, re, im);
    return complex_t<Real>{static_cast<Real>(re), static_cast<Real>(im)};
  };
  for (long j = 0; j < kFineRoots && j < length; ++j) roots.fine[j] = root(j);
  for (long j = 0; j * kFineRoots < length; ++j) roots.coarse[j] = root(j * kFineRoots);
  return roots;
}

}  // namespace cuconv
