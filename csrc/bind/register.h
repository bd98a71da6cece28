// What each file of bindings adds to the extension module.
#pragma once

#include <pybind11/pybind11.h>

namespace cuconv {

void register_conv(pybind11::module_& module);
void register_pool(pybind11::module_& module);
void register_activation(pybind11::module_& module);

}  // namespace cuconv
