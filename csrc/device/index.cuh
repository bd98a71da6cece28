// Windows along one axis: tap t of output o reads position o*stride - pad + t*dilation. And the digits of an
// index: which row, column, image a flat count means.
#pragma once

#include <cstdint>

#include "device/platform.cuh"

namespace cuconv {

// The taps [first, last) that read positions of the input proper; none where first >= last.
struct Taps {
  std::int64_t start;  // position of tap 0, negative in the padding
  std::int64_t first;
  std::int64_t last;
};

// How many of `count` taps lie before `limit`. Written without `+ dilation`, which could overflow.
CUCONV_HOST_DEVICE std::int64_t taps_before(std::int64_t limit, std::int64_t start, std::int64_t count,
                                            std::int64_t dilation) {
  if (limit <= start) return 0;
  const std::int64_t fit = (limit - start - 1) / dilation + 1;
  return fit < count ? fit : count;
}

CUCONV_HOST_DEVICE Taps taps_inside(std::int64_t start, std::int64_t size, std::int64_t count,
                                    std::int64_t dilation) {
  return {start, taps_before(0, start, count, dilation), taps_before(size, start, count, dilation)};
}

// Takes the last coordinate off a flat index: `index` becomes what the axes before it count.
template <typename Int>
CUCONV_HOST_DEVICE Int take_last(Int& index, Int size) {
  const Int rest = index / size;
  const Int last = index - rest * size;
  index = rest;
  return last;
}

// Division by a number known when the kernel is launched, as a multiplication: exact for 0 <= index < 2^31.
// (T. Granlund and P. Montgomery, Division by Invariant Integers using Multiplication, PLDI 1994,
// figure 4.1.)
struct FastDivisor {
  std::uint32_t divisor;
  std::uint32_t multiplier;
  std::uint32_t shift;

  CUCONV_HOST_DEVICE std::uint32_t divide(std::uint32_t index) const {
    const auto high = static_cast<std::uint32_t>(std::uint64_t{multiplier} * index >> 32);
    return (high + index) >> shift;
  }
};

// The same as take_last above, for 0 <= index < 2^31.
CUCONV_HOST_DEVICE std::int32_t take_last(std::int32_t& index, const FastDivisor& size) {
  const auto rest = static_cast<std::int32_t>(size.divide(static_cast<std::uint32_t>(index)));
  const std::int32_t last = index - rest * static_cast<std::int32_t>(size.divisor);
  index = rest;
  return last;
}

// For 1 <= divisor < 2^31.
inline FastDivisor fast_divisor(std::int64_t divisor) {
  std::uint32_t shift = 0;
  while (std::int64_t{1} << shift < divisor) ++shift;
  const std::uint64_t rest = (std::uint64_t{1} << shift) - static_cast<std::uint64_t>(divisor);
  const auto multiplier = static_cast<std::uint32_t>((rest << 32) / static_cast<std::uint64_t>(divisor) + 1);
  return {static_cast<std::uint32_t>(divisor), multiplier, shift};
}

}  // namespace cuconv
