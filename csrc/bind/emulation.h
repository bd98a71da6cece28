// Python's door to the emulator, in the modules that have one.
#pragma once

#include <pybind11/pybind11.h>

namespace cuconv {

// Adds the submodule `emulation`.
void register_emulation(pybind11::module_& module);

}  // namespace cuconv
