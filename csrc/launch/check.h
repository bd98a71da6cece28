// Errors that cross into Python. Nothing in this library exits or asserts.
#pragma once

#include <stdexcept>
#include <string>

namespace cuconv {

// A CUDA call or a kernel launch failed (becomes cuconv.CudaError).
struct LaunchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A fault of ours or of a direct caller of the extension module: sizes that contradict each other.
// The Python layer has validated everything by then (becomes ValueError).
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace cuconv
