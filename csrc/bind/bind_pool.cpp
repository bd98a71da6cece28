#include "bind/register.h"

namespace cuconv {

void register_pool(pybind11::module_&) {}

}  // namespace cuconv
