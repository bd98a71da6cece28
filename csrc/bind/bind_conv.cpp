// Convolution for Python. A problem crosses as its sizes and the strides of its three tensors, all in
// elements.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind/arguments.h"
#include "bind/register.h"
#include "launch/capability.h"
#include "launch/grouped.h"
#include "launch/registry.h"

namespace py = pybind11;

namespace cuconv {
namespace {

using Sizes = Integers<22>;  // n, groups, c, k, then in, filter, out, stride, pad, dilation: three each
using Strides = Integers<6>;
using Address = std::uintptr_t;

ConvProblem read_sizes(const Sizes& sizes) {
  ConvProblem p = {};
  p.n = sizes[0];
  p.groups = sizes[1];
  p.c = sizes[2];
  p.k = sizes[3];
  std::int64_t* const triples[] = {p.in, p.filter, p.out, p.stride, p.pad, p.dilation};
  for (int i = 0; i < 6; ++i) {
    for (int axis = 0; axis < kSpatial; ++axis) triples[i][axis] = sizes[4 + i * kSpatial + axis];
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    if (p.filter[axis] < 1 || p.stride[axis] < 1 || p.dilation[axis] < 1) {
      throw ArgumentError("filter, stride and dilation must be at least 1");
    }
  }
  return p;
}

Direction parse_direction(const std::string& name) {
  if (name == "forward") return Direction::kForward;
  if (name == "input_grad") return Direction::kInputGrad;
  if (name == "weight_grad") return Direction::kWeightGrad;
  throw ArgumentError("no direction is called '" + name + "'");
}

const char* name_of(Direction direction) {
  switch (direction) {
    case Direction::kForward: return "forward";
    case Direction::kInputGrad: return "input_grad";
    case Direction::kWeightGrad: return "weight_grad";
  }
  return "";
}

// (name, algorithm, direction) of every variant, in the registry's order.
py::list variants() {
  py::list result;
  for (const ConvVariant& v : conv_variants()) {
    result.append(py::make_tuple(v.name, cuconv::name_of(v.algorithm), name_of(v.direction)));
  }
  return result;
}

// (refusal, workspace bytes, (multiply-adds, unit, bytes, launches))
py::tuple suits(const std::string& direction, const std::string& variant, const std::string& dtype,
                const std::string& precision, std::int64_t workspace_limit, const Sizes& sizes,
                bool channels_last) {
  const ConvVariant& v = find_variant(parse_direction(direction), variant);
  const Suitability answer = v.suits(
      read_sizes(sizes), {parse_dtype(dtype), parse_precision(precision), workspace_limit, channels_last});
  const Work& work = answer.work;
  const char* unit = work.unit == Unit::kCudaCores ? "cuda_cores" : "tensor_cores";
  return py::make_tuple(answer.refusal, answer.workspace_bytes,
                        py::make_tuple(work.multiply_adds, unit, work.bytes, work.launches));
}

// A convolution of which all but the addresses is known. Its calls read no words and fill no problem.
class BoundConv {
 public:
  BoundConv(const std::string& direction, const std::string& variant, const std::string& dtype,
            const std::string& precision, std::int64_t workspace_limit, const Sizes& sizes,
            const Strides& x_stride, const Strides& w_stride, const Strides& y_stride, bool conjugate,
            const std::string& activation, std::int64_t bias_stride)
      : problem_(read_sizes(sizes)), variant_(find_variant(parse_direction(direction), variant)) {
    copy_to(x_stride, problem_.x_stride);
    copy_to(w_stride, problem_.w_stride);
    copy_to(y_stride, problem_.y_stride);
    arguments_ = {};
    arguments_.request = {parse_dtype(dtype), parse_precision(precision), workspace_limit};
    arguments_.conjugate = conjugate;
    arguments_.activation = parse_activation(activation);
    arguments_.bias_stride = bias_stride;
  }

  void run(Address a, Address b, Address bias, Address out, Address workspace, Address stream) const {
    ConvArguments arguments = arguments_;
    arguments.a = pointer<void>(a);
    arguments.b = pointer<void>(b);
    arguments.bias = pointer<void>(bias);
    arguments.out = pointer<void>(out);
    arguments.workspace = pointer<void>(workspace);
    arguments.stream = stream;
    variant_.run(problem_, arguments);
  }

 private:
  ConvProblem problem_;
  const ConvVariant& variant_;
  ConvArguments arguments_;
};

// Of one convolution of several: sizes, and the window over x whose maxima it reads (1, 1, 1 if none).
using GroupedSizes = std::pair<Sizes, Integers<3>>;
// x, w and y strides, activation; addresses of x, w, bias, y, and the bias's stride.
using GroupedArrays =
    std::tuple<Strides, Strides, Strides, std::string, Address, Address, Address, Address, std::int64_t>;

GroupedConv read_grouped(const GroupedSizes& sizes) {
  GroupedConv conv = {};
  conv.problem = read_sizes(sizes.first);
  copy_to(sizes.second, conv.window);
  return conv;
}

std::string grouped_refusal(const std::string& dtype, const std::vector<GroupedSizes>& sizes) {
  std::vector<GroupedConv> convs;
  for (const GroupedSizes& each : sizes) convs.push_back(read_grouped(each));
  return refuse_grouped(convs, parse_dtype(dtype));
}

void grouped_run(const std::string& dtype,
                 const std::vector<std::pair<GroupedSizes, GroupedArrays>>& problems, Address stream) {
  std::vector<GroupedConv> convs;
  for (const auto& [sizes, arrays] : problems) {
    GroupedConv conv = read_grouped(sizes);
    const auto& [x_stride, w_stride, y_stride, activation, x, w, bias, y, bias_stride] = arrays;
    copy_to(x_stride, conv.problem.x_stride);
    copy_to(w_stride, conv.problem.w_stride);
    copy_to(y_stride, conv.problem.y_stride);
    conv.activation = parse_activation(activation);
    conv.x = pointer<void>(x);
    conv.w = pointer<void>(w);
    conv.bias = pointer<void>(bias);
    conv.bias_stride = bias_stride;
    conv.y = pointer<void>(y);
    convs.push_back(conv);
  }
  const std::string why = refuse_grouped(convs, parse_dtype(dtype));
  if (!why.empty()) throw ArgumentError(why);
  run_grouped(convs, parse_dtype(dtype), stream);
}

}  // namespace

void register_conv(py::module_& m) {
  m.def("compute_capability", &compute_capability);
  m.def("conv_variants", &variants);
  m.def("conv_grouped_refusal", &grouped_refusal);
  m.def("conv_grouped_run", &grouped_run);
  m.def("conv_suits", &suits, py::arg("direction"), py::arg("variant"), py::arg("dtype"),
        py::arg("precision"), py::arg("workspace_limit"), py::arg("sizes"), py::arg("channels_last") = true);
  py::class_<BoundConv>(m, "BoundConv")
      .def(py::init<const std::string&, const std::string&, const std::string&, const std::string&,
                    std::int64_t, const Sizes&, const Strides&, const Strides&, const Strides&, bool,
                    const std::string&, std::int64_t>(),
           py::arg("direction"), py::arg("variant"), py::arg("dtype"), py::arg("precision"),
           py::arg("workspace_limit"), py::arg("sizes"), py::arg("x_stride"), py::arg("w_stride"),
           py::arg("y_stride"), py::arg("conjugate"), py::arg("activation"), py::arg("bias_stride"))
      .def("run", &BoundConv::run);
}

}  // namespace cuconv
