// Which kernels a host thread launches, and the bytes that each moves, while it asks for that.
//
// A byte that a launch reads or writes several times counts once: what a cache of any size would have to
// fetch. In the race flavour alone are accesses seen; the others give zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "emu/arena.h"

namespace cuconv::emu {

struct Traffic {
  std::string kernel;
  std::int64_t read, written;  // bytes of device memory
};

void record_traffic();                    // from now on
std::vector<Traffic> recorded_traffic();  // since then, and no more

// Called for every launch, and for every access of a kernel to a region.
void note_launch(const std::string& kernel);
void note_traffic(const Region& region, std::size_t offset, std::size_t bytes, bool write);

}  // namespace cuconv::emu
