// One way to launch any of the selftest kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace cuconv::selftest {

struct Launch {
  std::array<std::int64_t, 3> grid;
  std::array<std::int64_t, 3> block;
  std::size_t shared_bytes;
  std::uintptr_t x;
  std::uintptr_t y;
  std::uintptr_t through;
  std::int64_t argument;
  std::int64_t stride;
};

void launch_selftest(const std::string& name, const Launch& launch);

}  // namespace cuconv::selftest
