// Pooling for Python. A problem crosses as its sizes and the strides of its tensors, all in elements.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bind/arguments.h"
#include "bind/register.h"
#include "launch/pool.h"

namespace py = pybind11;

namespace cuconv {
namespace {

using Sizes = Integers<23>;  // n, c, then in, window, out, stride, pad_low, pad_high, dilation: three each
using Strides = Integers<5>;
using Address = std::uintptr_t;

PoolProblem read_problem(const Sizes& sizes, bool count_include_pad, const Strides& x_stride,
                         const Strides& y_stride) {
  PoolProblem p = {};
  p.n = sizes[0];
  p.c = sizes[1];
  std::int64_t* const triples[] = {p.in, p.window, p.out, p.stride, p.pad_low, p.pad_high, p.dilation};
  for (int i = 0; i < 7; ++i) {
    for (int axis = 0; axis < kSpatial; ++axis) triples[i][axis] = sizes[2 + i * kSpatial + axis];
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    if (p.window[axis] < 1 || p.stride[axis] < 1 || p.dilation[axis] < 1) {
      throw ArgumentError("window, stride and dilation must be at least 1");
    }
  }
  p.count_include_pad = count_include_pad;
  copy_to(x_stride, p.x_stride);
  copy_to(y_stride, p.y_stride);
  return p;
}

std::string run_max_pool(const std::string& variant, const std::string& dtype, const Sizes& sizes,
                         const Strides& x_stride, const Strides& y_stride, const Strides& index_stride,
                         Address x, Address y, Address indices, Address stream) {
  PoolProblem p = read_problem(sizes, true, x_stride, y_stride);
  copy_to(index_stride, p.index_stride);
  return pool(p,
              {PoolOperation::kMax, parse_dtype(dtype), pointer<void>(x), pointer<void>(y),
               pointer<std::int64_t>(indices), stream},
              variant);
}

std::string run_avg_pool(const std::string& variant, const std::string& dtype, const Sizes& sizes,
                         bool count_include_pad, const Strides& x_stride, const Strides& y_stride, Address x,
                         Address y, Address stream) {
  return pool(
      read_problem(sizes, count_include_pad, x_stride, y_stride),
      {PoolOperation::kAverage, parse_dtype(dtype), pointer<void>(x), pointer<void>(y), nullptr, stream},
      variant);
}

template <typename Variants>
std::vector<std::string> names_of(const Variants& variants) {
  std::vector<std::string> names;
  for (const auto& variant : variants) names.emplace_back(variant.name);
  return names;
}

PoolProblem read_indexed(const Sizes& sizes, const Strides& gx_stride, const Strides& gy_stride,
                         const Strides& index_stride) {
  PoolProblem p = read_problem(sizes, true, gx_stride, gy_stride);
  copy_to(index_stride, p.index_stride);
  return p;
}

PoolGradArguments read_indices(const std::string& dtype, bool windows_known, Address gy, Address indices,
                               Address gx, Address stream) {
  return {PoolOperation::kMax,
          windows_known,
          parse_dtype(dtype),
          pointer<void>(gy),
          pointer<std::int64_t>(indices),
          pointer<void>(gx),
          stream};
}

std::int64_t max_pool_grad_workspace(const std::string& variant, const std::string& dtype, const Sizes& sizes,
                                     bool windows_known, const Strides& gx_stride, const Strides& gy_stride,
                                     const Strides& index_stride, Address gy, Address indices, Address gx) {
  return pool_grad_workspace(read_indexed(sizes, gx_stride, gy_stride, index_stride),
                             read_indices(dtype, windows_known, gy, indices, gx, 0), variant);
}

std::string run_max_pool_grad(const std::string& variant, const std::string& dtype, const Sizes& sizes,
                              bool windows_known, const Strides& gx_stride, const Strides& gy_stride,
                              const Strides& index_stride, Address gy, Address indices, Address gx,
                              Address workspace, Address stream) {
  return pool_grad(read_indexed(sizes, gx_stride, gy_stride, index_stride),
                   read_indices(dtype, windows_known, gy, indices, gx, stream), variant,
                   pointer<void>(workspace));
}

std::string run_avg_pool_grad(const std::string& variant, const std::string& dtype, const Sizes& sizes,
                              bool count_include_pad, const Strides& gx_stride, const Strides& gy_stride,
                              Address gy, Address gx, Address stream) {
  return pool_grad(read_problem(sizes, count_include_pad, gx_stride, gy_stride),
                   {PoolOperation::kAverage, true, parse_dtype(dtype), pointer<void>(gy), nullptr,
                    pointer<void>(gx), stream},
                   variant, nullptr);
}

}  // namespace

void register_pool(py::module_& m) {
  m.def("pool_variants", [] { return names_of(pool_variants()); });
  m.def("pool_grad_variants", [] { return names_of(pool_grad_variants()); });
  m.def("max_pool", &run_max_pool);
  m.def("avg_pool", &run_avg_pool);
  m.def("avg_pool_grad", &run_avg_pool_grad);
  m.def("max_pool_grad_workspace", &max_pool_grad_workspace);
  m.def("max_pool_grad", &run_max_pool_grad);
}

}  // namespace cuconv
