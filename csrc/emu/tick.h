// Emulated time.
#pragma once

#include <cstdint>

#include "emu/device_api.h"

namespace cuconv::emu {

// A moment of emulated time. It moves on whenever something is put in order: at a launch, at the start of a
// block, at a barrier, at a warp operation, at an arrival at an mbarrier.
using Tick = std::uint64_t;
extern CUCONV_EMU_THREAD_LOCAL Tick now;
inline Tick next_tick() { return ++now; }
inline Tick current_tick() { return now; }

}  // namespace cuconv::emu
