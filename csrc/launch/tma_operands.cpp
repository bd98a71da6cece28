#include "launch/tma_operands.h"

#include "launch/tensor_map.h"

namespace cuconv {
namespace {

constexpr double kMostTmaStride = 1.0 * (std::int64_t{1} << 40);

// The last position of the bounding box, relative to the tensor's last. In doubles, which hold what matters.
double upper_corner(const ConvProblem& p, int axis) {
  return (double(p.out[axis]) - 1) * double(p.stride[axis]) - double(p.pad[axis]) + 1 - double(p.in[axis]);
}

}  // namespace

int map_axes(const ConvProblem& p) {
  const auto single = [&](int axis) {
    return p.in[axis] == 1 && p.out[axis] == 1 && p.filter[axis] == 1 && p.pad[axis] == 0;
  };
  if (!single(0)) return 3;
  return single(1) ? 1 : 2;
}

std::string refuse_axis(const ConvProblem& p, int axis, int axes) {
  constexpr const char* kNames[] = {"depth", "height", "width"};
  constexpr double kReach[] = {1 << 15, 1 << 7, 1 << 4};   // of corners, by the number of axes
  constexpr double kOffset[] = {1 << 16, 1 << 8, 1 << 5};  // of taps
  const double reach = kReach[axes - 1], offset = kOffset[axes - 1];
  const std::string along = std::string(" along the ") + kNames[axis];
  if (p.stride[axis] > 8 && p.out[axis] > 1)
    return "TMA steps by 8 at the most, not " + std::to_string(p.stride[axis]) + along;
  if ((double(p.filter[axis]) - 1) * double(p.dilation[axis]) >= offset) {
    return "its taps reach over " + std::to_string(int(offset)) + " positions or more" + along +
           ", further than TMA does in " + std::to_string(axes) + "-D";
  }
  for (const double corner : {-double(p.pad[axis]), upper_corner(p, axis)}) {
    if (corner < -reach || corner >= reach) {
      return "its padding, or what no window reads, is more than TMA's " + std::to_string(int(reach)) +
             " positions in " + std::to_string(axes) + "-D" + along;
    }
  }
  return "";
}

std::string refuse_channels(std::int64_t channels, DType dtype) {
  return "TMA reads strides of multiples of " + std::to_string(kTmaAlignment) + " bytes, not " +
         std::to_string(channels) + " channels of " + name_of(dtype);
}

bool aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % kTmaAlignment == 0; }

bool tma_stride(std::int64_t size, std::int64_t stride, DType dtype) {
  if (size <= 1) return true;
  return stride > 0 && double(stride) * size_of(dtype) < kMostTmaStride &&
         stride * size_of(dtype) % kTmaAlignment == 0;
}

TensorMap map_of_pixels(const ConvProblem& p, int axes, const void* x, DType dtype, int rows, bool tf32) {
  MappedTensor tensor{dtype, x, axes + 2, {p.groups * p.c}, {1}};
  PixelBox box{{}, {}, {}, kLineElements(dtype), rows};
  for (int i = 0; i < axes; ++i) {
    const int axis = kSpatial - 1 - i;
    tensor.size[1 + i] = p.in[axis];
    tensor.stride[1 + i] = p.x_stride[3 + axis];
    box.lower[i] = static_cast<int>(-p.pad[axis]);
    box.upper[i] = static_cast<int>(upper_corner(p, axis));
    box.step[i] = static_cast<int>(p.out[axis] > 1 ? p.stride[axis] : 1);
  }
  tensor.size[axes + 1] = p.n;
  tensor.stride[axes + 1] = p.x_stride[0];
  return make_im2col_map(tensor, box, tf32);
}

}  // namespace cuconv
