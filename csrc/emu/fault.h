// A bug that the emulator found in a kernel (becomes EmulationError in Python).
#pragma once

#include <stdexcept>
#include <string>

namespace cuconv::emu {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace cuconv::emu
