// What the launchers of pooling share: the kernels' template arguments, and questions about a problem.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/pool/reduction.cuh"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/pool_variant.h"

namespace cuconv {

template <template <typename> typename Kind>
struct kind_tag {
  template <typename T>
  using type = Kind<T>;
};

// Calls f(type_tag<T>, kind) with the element type and what windows are reduced to.
template <typename F>
void dispatch_pool(const PoolArguments& args, F&& f) {
  if (args.operation == PoolOperation::kAverage) {
    dispatch_dtype(args.dtype, [&](auto tag) { f(tag, kind_tag<Average>{}); });
  } else if (args.indices != nullptr) {
    dispatch_real_dtype(args.dtype, [&](auto tag) { f(tag, kind_tag<MaxPosition>{}); });
  } else {
    dispatch_real_dtype(args.dtype, [&](auto tag) { f(tag, kind_tag<MaxValue>{}); });
  }
}

constexpr std::int64_t kMostCounted = std::int64_t{1} << 30;

// Whether all that a kernel counts within an image fits 31 bits with room to spare. The batch has no say, for
// the variant decides in which order averages are summed.
inline bool fits_31_bits(const PoolProblem& p) {
  constexpr double kMost = kMostCounted;
  for (int axis = 0; axis < kSpatial; ++axis) {
    const double reach = double(p.window[axis]) * double(p.dilation[axis]) + double(p.in[axis]) +
                         double(p.out[axis]) * double(p.stride[axis]) + double(p.pad_low[axis]) +
                         double(p.pad_high[axis]);
    if (reach > kMost) return false;
  }
  return double(p.in[0]) * double(p.in[1]) * double(p.in[2]) * double(p.c) <= kMost &&
         double(p.out[0]) * double(p.out[1]) * double(p.out[2]) * double(p.c) <= kMost;
}

// Calls run(problem, arguments) for stretches of as many images as have so many outputs, `most` at the most
// but for a single image.
template <typename Run>
void for_each_stretch(const PoolProblem& p, const PoolArguments& args, std::int64_t most, Run run) {
  const std::int64_t images = std::max<std::int64_t>(most / (p.c * p.out[0] * p.out[1] * p.out[2]), 1);
  for (std::int64_t first = 0; first < p.n; first += images) {
    PoolProblem stretch = p;
    PoolArguments moved = args;
    stretch.n = std::min(images, p.n - first);
    moved.x = static_cast<const char*>(args.x) + first * p.x_stride[0] * size_of(args.dtype);
    moved.y = static_cast<char*>(args.y) + first * p.y_stride[0] * size_of(args.dtype);
    if (args.indices != nullptr) moved.indices = args.indices + first * p.index_stride[0];
    run(stretch, moved);
  }
}

// Whether windows leave rows of the input between them, which a kernel that loads whole stretches would load.
inline bool leaves_gaps(const PoolProblem& p, int axis) {
  return p.out[axis] > 1 && p.stride[axis] > (p.window[axis] - 1) * p.dilation[axis] + 1;
}

// Of an axis that nobody steps along, any step will do.
inline bool steps_by(std::int64_t size, std::int64_t stride, std::int64_t wanted) {
  return size <= 1 || stride == wanted;
}

inline bool aligned_16(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

// Whether channels of x and of y can be moved by 16 bytes.
inline bool channels_by_vectors(const PoolProblem& p, std::size_t element_bytes, const void* x,
                                const void* y) {
  const auto width = static_cast<std::int64_t>(16 / element_bytes);
  if (p.c % width != 0 || !steps_by(p.c, p.x_stride[1], 1) || !steps_by(p.c, p.y_stride[1], 1)) return false;
  for (int axis = 0; axis < 5; ++axis) {
    if (axis != 1 && (p.x_stride[axis] % width != 0 || p.y_stride[axis] % width != 0)) return false;
  }
  return aligned_16(x) && aligned_16(y);
}

}  // namespace cuconv
