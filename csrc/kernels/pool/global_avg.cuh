// Average of whole planes, a block for each plane or for some channels of an image:
//
//   y[n,c] = (sum over all positions i of x[n,c,i]) / positions
//
// Channels first: a block sums a plane, kWidth neighbours a thread: by one load of 16 bytes where the plane
// is aligned to that, else by elements, which the L1 cache then serves. Channels last: a block's threads
// stand in kGlobalLanes columns of kWidth channels and share the positions out among their rows. Both share
// the positions out by number and add the threads' sums in a fixed order: the same bits wherever a plane
// lies, in whatever batch, on any device. avg_pool.cuh, the simpler sibling, has a single thread for each
// average.
//
// Floor: x read once.
#pragma once

#include "device/reduce.cuh"
#include "device/vec.cuh"
#include "kernels/pool/reduction.cuh"
#include "kernels/pool/tile.cuh"

namespace cuconv {

constexpr int kGlobalLanes = 16;
constexpr int kGlobalRows = kPoolThreads / kGlobalLanes;

template <typename T>
constexpr std::size_t kGlobalPlaneShared = (kPoolThreads / kWarpSize) * sizeof(accumulator_t<T>);
template <typename T, int kWidth>
constexpr std::size_t kGlobalChannelsShared = kPoolThreads * kWidth * sizeof(accumulator_t<T>);

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads)
    global_avg_planes_kernel(PoolProblem p, const T* x, T* y) {
  using Acc = accumulator_t<T>;
  constexpr int kWidth = 16 / int{sizeof(T)};
  auto* partial = reinterpret_cast<Acc*>(dynamic_shared());
  const std::int64_t volume = p.in[0] * p.in[1] * p.in[2];

  for (std::int64_t plane = blockIdx.x; plane < p.n * p.c; plane += gridDim.x) {
    const std::int64_t n = plane / p.c, c = plane - n * p.c;
    const T* first = x + n * p.x_stride[0] + c * p.x_stride[1];
    Acc sum{};
    const bool aligned = elements_past(first) == 0;
    for (std::int64_t begin = std::int64_t{threadIdx.x} * kWidth; begin < volume;
         begin += std::int64_t{blockDim.x} * kWidth) {
      if (aligned && begin + kWidth <= volume) {
        const Vec<T, kWidth> values = load_vec<kWidth>(first + begin);
        CUCONV_UNROLL
        for (int i = 0; i < kWidth; ++i) sum = add(sum, widen(values.at[i]));
      } else {
        CUCONV_UNROLL
        for (int i = 0; i < kWidth; ++i) {
          if (begin + i < volume) sum = add(sum, widen(first[begin + i]));
        }
      }
    }
    sum = block_sum(sum, partial);
    if (threadIdx.x == 0) y[n * p.y_stride[0] + c * p.y_stride[1]] = narrow<T>(divide(sum, volume));
  }
}

// Positions lie `step` apart.
template <typename T, int kWidth>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads)
    global_avg_channels_kernel(PoolProblem p, std::int64_t step, const T* x, T* y) {
  using Acc = accumulator_t<T>;
  auto* sums = reinterpret_cast<Acc*>(dynamic_shared());  // [row][lane][kWidth]
  const int lane = threadIdx.x % kGlobalLanes;
  const int row = threadIdx.x / kGlobalLanes;
  const std::int64_t volume = p.in[0] * p.in[1] * p.in[2];
  constexpr int kChannels = kGlobalLanes * kWidth;
  const std::int64_t parts = (p.c - 1) / kChannels + 1;

  for (std::int64_t block = blockIdx.x; block < p.n * parts; block += gridDim.x) {
    const std::int64_t n = block / parts;
    const std::int64_t channel = (block - n * parts) * kChannels + lane * kWidth;
    Acc sum[kWidth] = {};
    if (channel < p.c) {
      const T* at = x + n * p.x_stride[0] + channel;
      for (std::int64_t i = row; i < volume; i += kGlobalRows) {
        const Vec<T, kWidth> values = load_vec<kWidth>(at + i * step);
        CUCONV_UNROLL
        for (int j = 0; j < kWidth; ++j) sum[j] = add(sum[j], widen(values.at[j]));
      }
    }
    CUCONV_UNROLL
    for (int j = 0; j < kWidth; ++j) sums[threadIdx.x * kWidth + j] = sum[j];
    __syncthreads();  // every row's sums are complete
    for (int i = threadIdx.x; i < kChannels; i += kPoolThreads) {
      const std::int64_t c = (block - n * parts) * kChannels + i;
      if (c >= p.c) continue;
      Acc total = sums[i];
      for (int r = 1; r < kGlobalRows; ++r) total = add(total, sums[r * kChannels + i]);
      y[n * p.y_stride[0] + c * p.y_stride[1]] = narrow<T>(divide(total, volume));
    }
    __syncthreads();  // everyone has read the sums before the next ones replace them
  }
}

}  // namespace cuconv
