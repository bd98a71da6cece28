// What a window is reduced to, element by element: its maximum, its maximum with the position, its average.
//
// A State is folded over the elements of a row of a window in their order, and those of the rows are merged
// in theirs: `merge` of two states is the state of all the elements of both, the first one's before the
// second one's. All kernels but that of whole planes go by rows, so that averages have the same bits in all
// of them: which one runs depends on where the arrays lie.
#pragma once

#include <cmath>
#include <cstdint>

#include "device/numeric.cuh"
#include "kernels/pool/max_pool.cuh"
#include "kernels/pool/window.cuh"

namespace cuconv {

// Sizes that fit 31 bits: the geometry of the kernels that divide by multiplication.
struct SmallTaps {
  std::int32_t start, first, last;
};

CUCONV_DEVICE SmallTaps small_taps(const PoolProblem& p, int axis, std::int32_t out) {
  const auto size = static_cast<std::int32_t>(p.in[axis]);
  const auto count = static_cast<std::int32_t>(p.window[axis]);
  const auto dilation = static_cast<std::int32_t>(p.dilation[axis]);
  const std::int32_t start =
      out * static_cast<std::int32_t>(p.stride[axis]) - static_cast<std::int32_t>(p.pad_low[axis]);
  std::int32_t first = start < 0 ? -start : 0;
  std::int32_t last = start < size ? size - start : 0;
  if (dilation > 1) {
    first = (first + dilation - 1) / dilation;
    last = (last + dilation - 1) / dilation;
  }
  return {start, first < count ? first : count, last < count ? last : count};
}

CUCONV_DEVICE Taps wide_taps(const SmallTaps& taps) { return {taps.start, taps.first, taps.last}; }

struct WindowTaps {
  SmallTaps d, h, w;
};

// NaN stays, whichever side it comes from.
template <typename T>
struct MaxValue {
  using Acc = accumulator_t<T>;
  struct State {
    Acc best = -INFINITY;
  };
  static constexpr bool kPositions = false;

  CUCONV_DEVICE static void take(State& state, Acc value, std::int32_t) {
    if (value > state.best || value != value) state.best = value;
  }
  CUCONV_DEVICE static void merge(State& state, const State& next) { take(state, next.best, 0); }
  CUCONV_DEVICE static T result(const PoolProblem&, const WindowTaps&, const State& state) {
    return narrow<T>(state.best);
  }
};

// With the flat position of the first maximum, or of the first NaN.
template <typename T>
struct MaxPosition {
  using Acc = accumulator_t<T>;
  struct State {
    Acc best = -INFINITY;
    std::int32_t at = -1;  // nothing but -infinity so far
  };
  static constexpr bool kPositions = true;

  CUCONV_DEVICE static void take(State& state, Acc value, std::int32_t position) {
    if (!(value <= state.best) && state.best == state.best) state = {value, position};
  }
  CUCONV_DEVICE static void merge(State& state, const State& next) { take(state, next.best, next.at); }
  CUCONV_DEVICE static T result(const PoolProblem&, const WindowTaps&, const State& state) {
    return narrow<T>(state.best);
  }
  CUCONV_DEVICE static std::int64_t position(const PoolProblem& p, const WindowTaps& taps,
                                             const State& state) {
    if (state.at >= 0) return state.at;
    return (nearest_position(p, 0, wide_taps(taps.d)) * p.in[1] + nearest_position(p, 1, wide_taps(taps.h))) *
               p.in[2] +
           nearest_position(p, 2, wide_taps(taps.w));
  }
};

CUCONV_DEVICE float divide(float value, std::int64_t by) { return value / static_cast<float>(by); }
CUCONV_DEVICE double divide(double value, std::int64_t by) { return value / static_cast<double>(by); }
template <typename Real>
CUCONV_DEVICE complex_t<Real> divide(complex_t<Real> value, std::int64_t by) {
  return {divide(value.re, by), divide(value.im, by)};
}

// divisor_of, of windows without dilation.
CUCONV_DEVICE std::int32_t small_divisor(const PoolProblem& p, int axis, const SmallTaps& taps) {
  if (!p.count_include_pad) return taps.last - taps.first;
  const auto end = static_cast<std::int32_t>(p.in[axis] + p.pad_high[axis]);
  const auto count = static_cast<std::int32_t>(p.window[axis]);
  const std::int32_t inside = end > taps.start ? end - taps.start : 0;
  return inside < count ? inside : count;
}

template <typename T>
struct Average {
  using Acc = accumulator_t<T>;
  struct State {
    Acc sum{};
  };
  static constexpr bool kPositions = false;

  CUCONV_DEVICE static void take(State& state, Acc value, std::int32_t) { state.sum = add(state.sum, value); }
  CUCONV_DEVICE static void merge(State& state, const State& next) { take(state, next.sum, 0); }
  CUCONV_DEVICE static T result(const PoolProblem& p, const WindowTaps& taps, const State& state) {
    const std::int64_t divisor =
        std::int64_t{small_divisor(p, 0, taps.d)} * small_divisor(p, 1, taps.h) * small_divisor(p, 2, taps.w);
    // A window that counts nothing has summed nothing: its average is 0, not 0/0.
    return narrow<T>(divisor > 0 ? divide(state.sum, divisor) : state.sum);
  }
};

}  // namespace cuconv
