// What the CUDA driver says of itself.
#pragma once

namespace cuconv {

// The newest CUDA version the driver supports, as 1000 * major + 10 * minor; 0 where there is no driver, and
// in emulation.
int driver_version();

}  // namespace cuconv
