// One-dimensional transforms of many lines in shared memory, in place:
//
//   forward   Y[f] = sum over j of x[j] exp(-2 pi i j f / n), left at position bit_reversed(f)
//   inverse   from there back to x, times n
//
// A pass takes three or two bits off the length: a thread loads 8 numbers (or 4) that lie n/8 (n/4) apart,
// transforms them in registers, multiplies by roots of unity and puts them back where they were, so that no
// second buffer and no reordering is needed. The inverse runs the same passes backwards. One barrier a pass.
//
// Floor: 5/2 n log2(n) real additions and multiplications a complex line; shared memory is read and written
// once a pass, 64 numbers have two. Lanes run across lines where there are 16 of them: lines lie an odd
// number of complex numbers apart, so that they meet no bank twice. Within a line every 16th number is
// followed by a gap, which keeps the last passes of few long lines in different banks.
//
// Source: J. Cooley and J. Tukey, An algorithm for the machine calculation of complex Fourier series, 1965
// (decimation in frequency forwards, in time backwards, after W. Gentleman and G. Sande, 1966).
#pragma once

#include "device/bits.cuh"
#include "device/numeric.cuh"
#include "device/platform.cuh"
#include "device/vec.cuh"
#include "kernels/fft/tile.h"
#include "kernels/fft/twiddle.h"

namespace cuconv {

template <typename Real>
CUCONV_DEVICE complex_t<Real> conjugate(complex_t<Real> a) {
  return {a.re, -a.im};
}
template <typename Real>
CUCONV_DEVICE complex_t<Real> subtract(complex_t<Real> a, complex_t<Real> b) {
  return {a.re - b.re, a.im - b.im};
}
template <typename Real>
CUCONV_DEVICE complex_t<Real> times(complex_t<Real> a, complex_t<Real> b) {
  return multiply_add(a, b, complex_t<Real>{});
}
// Both parts by one instruction. For memory of our own: a caller's numbers may be aligned to their parts
// alone.
template <typename Real>
CUCONV_DEVICE complex_t<Real> fetch(const complex_t<Real>& from) {
  const Vec<Real, 2> parts = load_vec<2>(&from.re);
  return {parts.at[0], parts.at[1]};
}
template <typename Real>
CUCONV_DEVICE void keep(complex_t<Real>& to, complex_t<Real> value) {
  store_vec(&to.re, Vec<Real, 2>{value.re, value.im});
}
// -i a, or i a.
template <bool kInverse, typename Real>
CUCONV_DEVICE complex_t<Real> quarter_turn(complex_t<Real> a) {
  if constexpr (kInverse) return {-a.im, a.re};
  return {a.im, -a.re};
}

// ---- 2, 4, 8 points in registers, bit-reversed ----

template <typename Real>
CUCONV_DEVICE void add_and_subtract(complex_t<Real>& a, complex_t<Real>& b) {
  const complex_t<Real> difference = subtract(a, b);
  a = add(a, b);
  b = difference;
}

template <bool kInverse, int kCount, typename Real>
CUCONV_DEVICE void turn_odd_half(complex_t<Real> (&v)[kCount], int first, int half) {
  constexpr Real kRootHalf = static_cast<Real>(0.70710678118654752440L);
  if (half == 2) v[first + 3] = quarter_turn<kInverse>(v[first + 3]);
  if (half == 4) {
    const complex_t<Real> eighth = {kRootHalf, kInverse ? kRootHalf : -kRootHalf};
    v[first + 5] = times(v[first + 5], eighth);
    v[first + 6] = quarter_turn<kInverse>(v[first + 6]);
    v[first + 7] = quarter_turn<kInverse>(times(v[first + 7], eighth));
  }
}

template <int kCount, typename Real>
CUCONV_DEVICE void transform_registers(complex_t<Real> (&v)[kCount]) {
  CUCONV_UNROLL
  for (int half = kCount / 2; half > 0; half /= 2) {
    CUCONV_UNROLL
    for (int first = 0; first < kCount; first += 2 * half) {
      CUCONV_UNROLL
      for (int i = 0; i < half; ++i) add_and_subtract(v[first + i], v[first + half + i]);
      turn_odd_half<false>(v, first, half);
    }
  }
}

template <int kCount, typename Real>
CUCONV_DEVICE void transform_registers_back(complex_t<Real> (&v)[kCount]) {
  CUCONV_UNROLL
  for (int half = 1; half < kCount; half *= 2) {
    CUCONV_UNROLL
    for (int first = 0; first < kCount; first += 2 * half) {
      turn_odd_half<true>(v, first, half);
      CUCONV_UNROLL
      for (int i = 0; i < half; ++i) add_and_subtract(v[first + i], v[first + half + i]);
    }
  }
}

template <int kBits>
CUCONV_DEVICE constexpr int bits_reversed(int value) {
  int reversed = 0;
  for (int bit = 0; bit < kBits; ++bit) reversed |= (value >> bit & 1) << (kBits - 1 - bit);
  return reversed;
}

// ---- lines in shared memory ----

// Where element i of a line lies: base + (i >> shift) * step + (i & mask) * extra.
struct FftLine {
  int base, shift, step, mask, extra;
  CUCONV_DEVICE int operator()(int i) const { return base + (i >> shift) * step + (i & mask) * extra; }
};

template <typename Real>
struct FftTable {
  const complex_t<Real>* roots;  // fine, then coarse
  int log_length;

  CUCONV_DEVICE complex_t<Real> root(int index) const {
    if (index < kFineRoots) return fetch(roots[index]);
    return times(fetch(roots[kFineRoots + (index >> kLogFineRoots)]), fetch(roots[index & (kFineRoots - 1)]));
  }
};

// All lines along one axis; line_of(i) is the place of line i.
template <int kBits, bool kInverse, typename Real, typename LineOf>
CUCONV_DEVICE void fft_pass(complex_t<Real>* data, int log_length, int log_lines, int log_n,
                            const FftTable<Real>& table, LineOf line_of) {
  constexpr int kCount = 1 << kBits;
  const int log_apart = log_n - kBits;
  const int log_parts = log_length - kBits;  // of one line
  const bool across_lines = log_lines >= 4;
  for (int item = threadIdx.x; item < 1 << (log_lines + log_parts); item += blockDim.x) {
    const int line = across_lines ? item & ((1 << log_lines) - 1) : item >> log_parts;
    const int part = across_lines ? item >> log_lines : item & ((1 << log_parts) - 1);
    const int k = part & ((1 << log_apart) - 1);
    const int first = (part >> log_apart << log_n) + k;
    const FftLine at = line_of(line);
    complex_t<Real> v[kCount];
    CUCONV_UNROLL
    for (int i = 0; i < kCount; ++i) v[i] = fetch(data[at(first + (i << log_apart))]);
    if constexpr (!kInverse) transform_registers(v);
    if (k > 0) {
      CUCONV_UNROLL
      for (int i = 1; i < kCount; ++i) {
        const complex_t<Real> root = table.root(k * bits_reversed<kBits>(i) << (table.log_length - log_n));
        v[i] = times(v[i], kInverse ? conjugate(root) : root);
      }
    }
    if constexpr (kInverse) transform_registers_back(v);
    CUCONV_UNROLL
    for (int i = 0; i < kCount; ++i) keep(data[at(first + (i << log_apart))], v[i]);
  }
  __syncthreads();  // the pass is complete
}

// Lines of two numbers: the same forwards and back.
template <typename Real, typename LineOf>
CUCONV_DEVICE void fft_pairs(complex_t<Real>* data, int log_lines, LineOf line_of) {
  for (int line = threadIdx.x; line < 1 << log_lines; line += blockDim.x) {
    const FftLine at = line_of(line);
    complex_t<Real> a = fetch(data[at(0)]), b = fetch(data[at(1)]);
    add_and_subtract(a, b);
    keep(data[at(0)], a);
    keep(data[at(1)], b);
  }
  __syncthreads();  // the pass is complete
}

// Bits that the pass over lines of 2^log_n > 2 takes off: as few passes as there can be.
CUCONV_DEVICE constexpr int pass_bits(int log_n) { return log_n == 2 || log_n == 4 ? 2 : 3; }

// Needs a barrier before it, and ends with one.
template <bool kInverse, typename Real, typename LineOf>
CUCONV_DEVICE void fft_lines(complex_t<Real>* data, int log_length, int log_lines,
                             const FftTable<Real>& table, LineOf line_of) {
  if (log_length == 1) return fft_pairs(data, log_lines, line_of);
  int done = 0;  // bits
  while (done < log_length) {
    int log_n = log_length - (kInverse ? 0 : done);
    if constexpr (kInverse) {
      while (log_n - pass_bits(log_n) > done) log_n -= pass_bits(log_n);
    }
    const int bits = pass_bits(log_n);
    if (bits == 3) {
      fft_pass<3, kInverse>(data, log_length, log_lines, log_n, table, line_of);
    } else {
      fft_pass<2, kInverse>(data, log_length, log_lines, log_n, table, line_of);
    }
    done += bits;
  }
}

}  // namespace cuconv
