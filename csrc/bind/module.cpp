// The extension module: cuconv._C for GPUs, cuconv._C_emulated_<flavour> for the CPU, from the same sources.
#include <pybind11/pybind11.h>

#include <exception>

#include "bind/register.h"
#include "launch/check.h"
#include "launch/driver.h"
#if defined(CUCONV_EMULATED)
#include "bind/emulation.h"
#endif

namespace py = pybind11;

namespace {

// A failed launch becomes cuconv.CudaError; ArgumentError is a std::invalid_argument and so a ValueError.
void translate(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const cuconv::LaunchError& e) {
    py::set_error(py::module_::import("cuconv.errors").attr("CudaError"), e.what());
  }
}

}  // namespace

PYBIND11_MODULE(CUCONV_MODULE_NAME, m) {
  py::register_local_exception_translator(&translate);
  m.def("build_info", [] {
    py::dict info;
    info["version"] = CUCONV_VERSION;
    info["architectures"] = CUCONV_ARCHITECTURES;  // "" in emulation
    return info;
  });
  m.def("driver_version", &cuconv::driver_version);
  cuconv::register_conv(m);
  cuconv::register_pool(m);
  cuconv::register_activation(m);
#if defined(CUCONV_EMULATED)
  cuconv::register_emulation(m);
#endif
}
