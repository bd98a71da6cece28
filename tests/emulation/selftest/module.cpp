// _C_emulated_selftest_<flavour>: the emulator's controls and `launch(name, ...)` for kernels with bugs on
// purpose.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bind/emulation.h"
#include "launch/check.h"
#include "selftest.h"

namespace py = pybind11;
using cuconv::selftest::ImageMap;
using cuconv::selftest::Launch;

PYBIND11_MODULE(CUCONV_MODULE_NAME, m) {
  cuconv::register_emulation(m);
  py::register_local_exception<cuconv::LaunchError>(m, "LaunchError", PyExc_RuntimeError);
  m.def(
      "launch",
      [](const std::string& name, std::array<std::int64_t, 3> grid, std::array<std::int64_t, 3> block,
         std::size_t shared_bytes, std::uintptr_t x, std::uintptr_t y, std::uintptr_t through,
         std::int64_t argument, std::int64_t stride) {
        cuconv::selftest::launch_selftest(name, {grid, block, shared_bytes, x, y, through, argument, stride});
      },
      py::arg("name"), py::kw_only(), py::arg("grid"), py::arg("block"), py::arg("shared_bytes") = 0,
      py::arg("x") = 0, py::arg("y") = 0, py::arg("through") = 0, py::arg("argument") = 0,
      py::arg("stride") = 1);
  py::class_<ImageMap>(m, "ImageMap", py::module_local())
      .def(py::init([](int data_type, int rank, std::uintptr_t x, std::vector<std::uint64_t> dims,
                       std::vector<std::uint64_t> strides, std::vector<int> lower, std::vector<int> upper,
                       std::uint32_t channels, std::uint32_t pixels, std::vector<std::uint32_t> steps,
                       int interleave, int swizzle, int fill) {
             return ImageMap{data_type, rank,   x,     dims,       strides, lower, upper,
                             channels,  pixels, steps, interleave, swizzle, fill};
           }),
           py::kw_only(), py::arg("data_type"), py::arg("rank"), py::arg("x"), py::arg("dims"),
           py::arg("strides"), py::arg("lower"), py::arg("upper"), py::arg("channels"), py::arg("pixels"),
           py::arg("steps"), py::arg("interleave") = 0, py::arg("swizzle") = 3, py::arg("fill") = 0);
  m.def("encode_image", [](const ImageMap& image) {
    cuconv::TensorMap map;
    return cuconv::selftest::encode_image(image, map);
  });
  m.def("copy_image", &cuconv::selftest::launch_image_copy);
}
