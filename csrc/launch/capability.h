// What the device at hand, and the code compiled for it, can do.
#pragma once

namespace cuconv {

// The compute capability that kernels may rely on, as 10 * major + minor: the current device's, or that of
// the code compiled for it, where that is older. In emulation an H100's.
int compute_capability();

// Whether kernels for sm_90a can run, which is not so on later devices nor from code for plain sm_90.
bool has_wgmma();

// Of the current device; few in emulation, so that persistent blocks take several turns.
int multiprocessors();

}  // namespace cuconv
