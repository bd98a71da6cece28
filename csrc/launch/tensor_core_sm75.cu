#include "launch/tensor_core.cuh"
#include "tuning/tensor_core_tiles.h"

namespace cuconv {

template void launch_tensor_core<half_t, Sm75Tile64x64, Sm75, Precision::kIeee>(GemmCall);

}  // namespace cuconv
