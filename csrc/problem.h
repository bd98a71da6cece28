// The problems the kernels solve: sizes and strides, nothing else. Plain data, passed to kernels by value.
//
// Every tensor has three spatial axes: 1-D problems have in[0] = in[1] = 1, 2-D ones in[0] = 1. Layouts
// (NCHW, NHWC), flipped filters and views are nothing but other strides; all strides are in elements,
// not bytes, and may be zero or negative. Groups are an axis of their own in every tensor, so that
// swapping the roles of input and output (see `adjoint`) is a permutation of strides.
#pragma once

#include <cstdint>

namespace cuconv {

constexpr int kSpatial = 3;  // depth, height, width

struct ConvProblem {
  std::int64_t n;       // batch
  std::int64_t groups;  //
  std::int64_t c;       // input channels of one group
  std::int64_t k;       // output channels of one group
  std::int64_t in[kSpatial];
  std::int64_t filter[kSpatial];
  std::int64_t out[kSpatial];
  std::int64_t stride[kSpatial];
  std::int64_t pad[kSpatial];  // before the first element; negative crops
  std::int64_t dilation[kSpatial];
  std::int64_t x_stride[6];  // n, group, c, d, h, w
  std::int64_t w_stride[6];  // group, k, c, t, r, s
  std::int64_t y_stride[6];  // n, group, k, z, p, q
};

struct PoolProblem {
  std::int64_t n;
  std::int64_t c;
  std::int64_t in[kSpatial];
  std::int64_t window[kSpatial];
  std::int64_t out[kSpatial];
  std::int64_t stride[kSpatial];
  std::int64_t pad_low[kSpatial];
  std::int64_t pad_high[kSpatial];
  std::int64_t dilation[kSpatial];
  std::int64_t x_stride[5];  // n, c, d, h, w
  std::int64_t y_stride[5];
  std::int64_t index_stride[5];  // of the int64 positions; unused without them
  bool count_include_pad;
};

// The only output-size formula in C++: windows that fit an axis (0 where none does).
constexpr std::int64_t output_size(std::int64_t in, std::int64_t pad_low, std::int64_t pad_high,
                                   std::int64_t filter, std::int64_t stride, std::int64_t dilation) {
  const std::int64_t span = in + pad_low + pad_high - (dilation * (filter - 1) + 1);
  return span < 0 ? 0 : span / stride + 1;
}

}  // namespace cuconv
