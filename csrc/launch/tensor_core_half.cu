#include "launch/tensor_core.cuh"
#include "tuning/tensor_core_tiles.h"

namespace cuconv {

template void launch_tensor_core<half_t, TensorCoreTile128x128, Sm80, Precision::kIeee>(GemmCall);
template void launch_tensor_core<half_t, TensorCoreTile64x64, Sm80, Precision::kIeee>(GemmCall);

}  // namespace cuconv
