#include <algorithm>

#include "kernels/winograd/transform.cuh"
#include "launch/dispatch.h"
#include "launch/gather.h"
#include "launch/grid.h"
#include "launch/winograd_common.h"

namespace cuconv {

std::string refuse_winograd(const ConvProblem& p, DType dtype) {
  if (dtype == DType::kComplex64 || dtype == DType::kComplex128) {
    return std::string("winograd takes real numbers, not ") + name_of(dtype);
  }
  if (p.filter[0] != 1 || p.filter[1] != 3 || p.filter[2] != 3) {
    return "winograd takes filters of 3x3 (1x3x3 of three axes), not " + std::to_string(p.filter[0]) + "x" +
           std::to_string(p.filter[1]) + "x" + std::to_string(p.filter[2]);
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    if (p.stride[axis] != 1) return "winograd takes stride 1, not " + std::to_string(p.stride[axis]);
    if (p.filter[axis] > 1 && p.dilation[axis] != 1) {
      return "winograd takes dilation 1, not " + std::to_string(p.dilation[axis]);
    }
  }
  if (const std::string why = refuse_indices(Direction::kForward, p); !why.empty()) return why;
  // So that bytes of workspace are 63-bit numbers, whatever is asked.
  constexpr double kMostFilters = 1e14;
  if (double(p.groups) * double(p.c) * double(p.k) > kMostFilters) {
    return "its transformed filters would be more than 1e15 numbers";
  }
  return "";
}

std::int64_t tiles_of_image(const ConvProblem& p, int outputs) {
  return p.out[0] * ceil_div(p.out[1], outputs) * ceil_div(p.out[2], outputs);
}

std::int64_t tileable_images(const ConvProblem& p, int outputs) {
  return std::max<std::int64_t>(kMostIndices / std::max<std::int64_t>(tiles_of_image(p, outputs), 1), 1);
}

TileGrid tile_grid(const ConvProblem& p, int outputs) {
  return {fast_divisor(ceil_div(p.out[2], outputs)), fast_divisor(ceil_div(p.out[1], outputs)),
          fast_divisor(p.out[0]), static_cast<std::int32_t>(p.n * tiles_of_image(p, outputs))};
}

std::int64_t transformed_filters(const ConvProblem& p, int outputs) {
  return frequencies(outputs) * p.groups * p.c * rounded_up_to_vectors(p.k);
}

template <int kOutputs>
void launch_filter_transform(const ConvProblem& p, const ConvArguments& args, void* filters) {
  const std::int64_t items = p.groups * p.c * rounded_up_to_vectors(p.k);
  if (items == 0) return;
  dispatch_real_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (kOutputs == 2 || sizeof(T) >= 4)
      launch("winograd_filters", winograd_filter_kernel<T, kOutputs>,
             {{blocks_for(items, kTransformThreads)}, {kTransformThreads}, 0}, args.stream, p,
             rounded_up_to_vectors(p.k), static_cast<const T*>(args.b),
             static_cast<accumulator_t<T>*>(filters));
  });
}

template void launch_filter_transform<2>(const ConvProblem&, const ConvArguments&, void*);
template void launch_filter_transform<4>(const ConvProblem&, const ConvArguments&, void*);

}  // namespace cuconv
