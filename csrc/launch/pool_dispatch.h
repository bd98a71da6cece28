// What the launchers of pooling share: the kernels' template arguments, and questions about a problem.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/pool/grad.cuh"
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

// Calls f(type_tag<T>, maxima), of which the second says whether it is.
template <typename F>
void dispatch_pool_grad(const PoolGradArguments& args, F&& f) {
  if (args.operation == PoolOperation::kAverage) {
    dispatch_dtype(args.dtype, [&](auto tag) { f(tag, std::false_type{}); });
  } else {
    dispatch_real_dtype(args.dtype, [&](auto tag) { f(tag, std::true_type{}); });
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

// Calls run(first, images) for stretches of a batch that together write kMostCounted elements at the most,
// but for a single image.
template <typename Run>
void for_each_stretch(std::int64_t batch, std::int64_t an_image, Run run) {
  const std::int64_t most = std::max<std::int64_t>(kMostCounted / an_image, 1);
  for (std::int64_t first = 0; first < batch; first += most) run(first, std::min(most, batch - first));
}

inline const void* moved(const void* tensor, std::int64_t elements, DType dtype) {
  return static_cast<const char*>(tensor) + elements * size_of(dtype);
}
inline void* moved(void* tensor, std::int64_t elements, DType dtype) {
  return static_cast<char*>(tensor) + elements * size_of(dtype);
}

// Calls run(problem, arguments) for stretches of the batch.
template <typename Run>
void for_each_stretch(const PoolProblem& p, const PoolArguments& args, Run run) {
  for_each_stretch(p.n, p.c * p.out[0] * p.out[1] * p.out[2], [&](std::int64_t first, std::int64_t images) {
    PoolProblem stretch = p;
    PoolArguments part = args;
    stretch.n = images;
    part.x = moved(args.x, first * p.x_stride[0], args.dtype);
    part.y = moved(args.y, first * p.y_stride[0], args.dtype);
    if (args.indices != nullptr) part.indices += first * p.index_stride[0];
    run(stretch, part);
  });
}
template <typename Run>
void for_each_stretch(const PoolProblem& p, const PoolGradArguments& args, Run run) {
  for_each_stretch(p.n, p.c * p.in[0] * p.in[1] * p.in[2], [&](std::int64_t first, std::int64_t images) {
    PoolProblem stretch = p;
    PoolGradArguments part = args;
    stretch.n = images;
    part.gx = moved(args.gx, first * p.x_stride[0], args.dtype);
    part.gy = moved(args.gy, first * p.y_stride[0], args.dtype);
    if (args.indices != nullptr) part.indices += first * p.index_stride[0];
    run(stretch, part);
  });
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

// Whether channels of a tensor can be moved `width` at a time, 16 bytes.
inline bool channels_of_by(std::int64_t width, std::int64_t c, const std::int64_t (&stride)[5],
                           const void* tensor) {
  if (c % width != 0 || !steps_by(c, stride[1], 1)) return false;
  for (int axis = 0; axis < 5; ++axis) {
    if (axis != 1 && stride[axis] % width != 0) return false;
  }
  return aligned_16(tensor);
}

// Whether those of x and of y can be moved by 16 bytes.
inline bool channels_by_vectors(const PoolProblem& p, std::size_t element_bytes, const void* x,
                                const void* y) {
  const auto width = static_cast<std::int64_t>(16 / element_bytes);
  return channels_of_by(width, p.c, p.x_stride, x) && channels_of_by(width, p.c, p.y_stride, y);
}

inline WindowSteps steps_of(const PoolProblem& p) {
  return {{fast_divisor(p.stride[0]), fast_divisor(p.stride[1]), fast_divisor(p.stride[2])}};
}

}  // namespace cuconv
