// Element-wise functions, softmax and the bias gradient for Python. Strides are in elements.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <string>
#include <vector>

#include "bind/arguments.h"
#include "bind/register.h"
#include "launch/activation.h"

namespace py = pybind11;

namespace cuconv {
namespace {

using Address = std::uintptr_t;
using List = std::vector<std::int64_t>;

// One shape, and a list of strides for each operand.
ElementwiseProblem read_problem(const List& shape, const std::vector<List>& strides) {
  if (shape.size() > kMaxAxes || strides.size() > kMaxOperands) {
    throw ArgumentError("at most " + std::to_string(kMaxAxes) + " axes and " + std::to_string(kMaxOperands) +
                        " operands, got " + std::to_string(shape.size()) + " and " +
                        std::to_string(strides.size()));
  }
  ElementwiseProblem p = {};
  p.rank = static_cast<int>(shape.size());
  p.count = 1;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    p.size[axis] = shape[axis];
    p.count *= shape[axis];
  }
  for (std::size_t operand = 0; operand < strides.size(); ++operand) {
    if (strides[operand].size() != shape.size())
      throw ArgumentError("an operand's strides do not fit the shape");
    for (std::size_t axis = 0; axis < shape.size(); ++axis) p.stride[operand][axis] = strides[operand][axis];
  }
  return p;
}

}  // namespace

void register_activation(py::module_& m) {
  m.def("relu", [](const std::string& dtype, const List& shape, const std::vector<List>& strides, Address x,
                   Address y, Address stream) {
    relu(read_problem(shape, strides), parse_dtype(dtype), pointer<void>(x), pointer<void>(y), stream);
  });
  m.def("sigmoid", [](const std::string& dtype, const List& shape, const std::vector<List>& strides,
                      Address x, Address y, Address stream) {
    sigmoid(read_problem(shape, strides), parse_dtype(dtype), pointer<void>(x), pointer<void>(y), stream);
  });
  m.def("relu_grad", [](const std::string& dtype, const List& shape, const std::vector<List>& strides,
                        Address gy, Address y, Address gx, Address stream) {
    relu_grad(read_problem(shape, strides), parse_dtype(dtype), pointer<void>(gy), pointer<void>(y),
              pointer<void>(gx), stream);
  });
  m.def("softmax",
        [](const std::string& dtype, const List& shape, const std::vector<List>& strides, std::int64_t length,
           std::int64_t x_stride, std::int64_t y_stride, Address x, Address y, Address stream) {
          softmax({read_problem(shape, strides), length, x_stride, y_stride}, parse_dtype(dtype),
                  pointer<void>(x), pointer<void>(y), stream);
        });
  m.def("bias_grad", [](const std::string& dtype, const Integers<5>& size, const Integers<5>& stride,
                        std::int64_t gb_stride, Address gy, Address gb, Address stream) {
    BiasGradProblem p = {};
    copy_to(size, p.size);
    copy_to(stride, p.stride);
    p.gb_stride = gb_stride;
    bias_grad(p, parse_dtype(dtype), pointer<void>(gy), pointer<void>(gb), stream);
  });
}

}  // namespace cuconv
