// The extension module: cuconv._C for GPUs, cuconv._C_emulated_<flavour> for the CPU, from the same sources.
#include <pybind11/pybind11.h>

#include "launch/driver.h"
#if defined(CUCONV_EMULATED)
#include "bind/emulation.h"
#endif

namespace py = pybind11;

PYBIND11_MODULE(CUCONV_MODULE_NAME, m) {
  m.def("build_info", [] {
    py::dict info;
    info["version"] = CUCONV_VERSION;
    info["architectures"] = CUCONV_ARCHITECTURES;  // "" in emulation
    return info;
  });
  m.def("driver_version", &cuconv::driver_version);
#if defined(CUCONV_EMULATED)
  cuconv::register_emulation(m);
#endif
}
