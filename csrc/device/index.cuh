// Windows along one axis: tap t of output o reads position o*stride - pad + t*dilation.
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

}  // namespace cuconv
