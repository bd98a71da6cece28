// How the host schedules a grid, and the history of the one that runs.
#pragma once

#include <cstdint>

#include "emu/block.h"

namespace cuconv::emu {

// Of this host thread; each host thread has an emulated device of its own.
void set_schedule(const Schedule& schedule);

// The tick at which the launch that is running began: what happened before it, every thread may rely on.
extern CUCONV_EMU_THREAD_LOCAL Tick launched;
inline Tick launch_tick() { return launched; }

// The block of the running launch that was running at a tick (known in the race flavour).
dim3 block_at(Tick tick);

}  // namespace cuconv::emu
