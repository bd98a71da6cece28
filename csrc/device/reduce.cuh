// Reductions over a block in a fixed order: the same bits on every run.
#pragma once

#include "device/numeric.cuh"
#include "device/platform.cuh"

namespace cuconv {

constexpr int kWarpSize = 32;
constexpr unsigned kFullMask = 0xffffffffu;

template <typename T>
CUCONV_DEVICE T shuffle_down(T value, int offset) {
  return __shfl_down_sync(kFullMask, value, offset);
}
template <typename Real>
CUCONV_DEVICE complex_t<Real> shuffle_down(complex_t<Real> value, int offset) {
  return {shuffle_down(value.re, offset), shuffle_down(value.im, offset)};
}

// `value` of all the block's threads combined, in thread 0 (other threads get parts of it). The block's size
// is a multiple of the warp's; `partial` is shared memory for one accumulator a warp. Ends with a barrier, so
// `partial` may be used again at once.
template <typename Acc, typename Combine>
CUCONV_DEVICE Acc block_reduce(Acc value, Acc* partial, Combine combine) {
  const int lane = threadIdx.x % kWarpSize;
  const int warp = threadIdx.x / kWarpSize;
  const int warps = blockDim.x / kWarpSize;
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2)
    value = combine(value, shuffle_down(value, offset));
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < warps; ++i) value = combine(value, partial[i]);
  }
  __syncthreads();
  return value;
}

template <typename Acc>
CUCONV_DEVICE Acc block_sum(Acc value, Acc* partial) {
  return block_reduce(value, partial, [](Acc a, Acc b) { return add(a, b); });
}

}  // namespace cuconv
