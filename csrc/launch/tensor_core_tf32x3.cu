#include "launch/tensor_core.cuh"
#include "tuning/tensor_core_tiles.h"

namespace cuconv {

template void launch_tensor_core<float, TensorCoreTile128x128, Sm80, Precision::kTf32x3>(GemmCall);
template void launch_tensor_core<float, TensorCoreTile64x64, Sm80, Precision::kTf32x3>(GemmCall);

}  // namespace cuconv
