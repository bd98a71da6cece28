// Gradient of maximum pooling from the positions of the maxima alone:
//
//   gx[n,c,j] = sum of gy[n,c,o] over all outputs o with indices[n,c,o] == j
//
// The windows are not known here, so gx cannot gather as in grad.cuh: it would have to look at every output.
// The outputs scatter instead, without atomics. A block takes a plane (n, c) and walks its outputs in order,
// a chunk of one output a thread at a time. Within a chunk, the first of the threads that share a position is
// its owner and adds the contributions of all of them, in order; a barrier later comes the next chunk. So
// each element's sum runs over the outputs in their order, whatever the chunk's size: the same bits as a loop
// over the outputs.
//
// Positions may repeat at will. Those outside the plane are left out: they are data, and must not make the
// kernel write where it should not.
//
// `sums` has the strides p.x_stride and is gx itself, except for float16 and bfloat16, whose sums are kept in
// a float32 workspace and rounded once by round_sums_kernel. From `p`, sizes and strides are used, no
// windows.
//
// Floor: gy and indices read once, gx written once. Beyond it: gx is zeroed first and then updated in place
// (a plane that is short stays in cache), and each output compares its position with kChunk others in shared
// memory. Blocks are as many as planes, so a single large plane leaves most of a GPU idle.
#pragma once

#include "device/grid.cuh"
#include "device/numeric.cuh"
#include "kernels/pool/window.cuh"

namespace cuconv {

constexpr int kChunk = 128;  // threads a block: the comparisons grow with it, the barriers shrink

template <typename T>
constexpr std::size_t kMaxPoolGradShared = kChunk * (sizeof(std::int64_t) + sizeof(accumulator_t<T>));

// Where a flat position of the plane lies in memory, from the plane's start.
CUCONV_DEVICE std::int64_t plane_offset(std::int64_t position, const PoolProblem& p) {
  const std::int64_t row = position / p.in[2];
  return (row / p.in[1]) * p.x_stride[2] + (row % p.in[1]) * p.x_stride[3] +
         (position % p.in[2]) * p.x_stride[4];
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kChunk)
    max_pool_grad_kernel(PoolProblem p, const T* gy, const std::int64_t* indices, accumulator_t<T>* sums) {
  using Acc = accumulator_t<T>;
  auto* positions = reinterpret_cast<std::int64_t*>(dynamic_shared());
  auto* values = reinterpret_cast<Acc*>(positions + kChunk);
  const int me = threadIdx.x;
  const std::int64_t plane_size = p.in[0] * p.in[1] * p.in[2];
  const std::int64_t outputs = p.out[0] * p.out[1] * p.out[2];

  for (std::int64_t plane = blockIdx.x; plane < p.n * p.c; plane += gridDim.x) {
    Acc* plane_sums = sums + (plane / p.c) * p.x_stride[0] + (plane % p.c) * p.x_stride[1];
    for (std::int64_t j = me; j < plane_size; j += kChunk) plane_sums[plane_offset(j, p)] = Acc{0};

    for (std::int64_t begin = 0; begin < outputs; begin += kChunk) {
      std::int64_t position = -1;
      Acc value = Acc{0};
      if (begin + me < outputs) {
        const Coordinate out = unflatten(plane * outputs + begin + me, p.c, p.out);
        position = indices[offset_of(out, p.index_stride)];
        value = widen(gy[offset_of(out, p.y_stride)]);
      }
      if (position >= plane_size) position = -1;
      positions[me] = position;
      values[me] = value;
      __syncthreads();  // the chunk is complete, and the zeros or the last chunk's sums are in memory

      bool owner = position >= 0;
      for (int other = 0; owner && other < me; ++other) owner = positions[other] != position;
      if (owner) {
        Acc* sum = plane_sums + plane_offset(position, p);
        Acc total = *sum + value;
        for (int other = me + 1; other < kChunk; ++other) {
          if (positions[other] == position) total += values[other];
        }
        *sum = total;
      }
      __syncthreads();  // everyone has read the chunk before the next one replaces it
    }
  }
}

// gx = the finished sums, which are contiguous.
template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS(kPoolThreads)
    round_sums_kernel(PoolProblem p, const accumulator_t<T>* sums, T* gx) {
  const std::int64_t count = p.n * p.c * p.in[0] * p.in[1] * p.in[2];
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    gx[offset_of(unflatten(i, p.c, p.in), p.x_stride)] = narrow<T>(sums[i]);
  }
}

}  // namespace cuconv
