// The emulator's half of launch/launch.cuh.
#pragma once

#include <tuple>
#include <utility>

#include "emu/tensor_map.h"
#include "launch/launch.cuh"

namespace cuconv {
namespace emu {

// Runs `call(arguments)` once for every thread of the grid.
void run_grid(const char* name, const LaunchShape& shape, void (*call)(const void*), const void* arguments);

}  // namespace emu

template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape, Stream, Args&&... args) {
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> params;
  };
  const Call call{kernel, {static_cast<Params>(std::forward<Args>(args))...}};
  emu::run_grid(
      name, shape,
      [](const void* opaque) {
        const Call& each = *static_cast<const Call*>(opaque);
        std::apply(each.kernel, each.params);
      },
      &call);
}

}  // namespace cuconv
