#include <type_traits>

#include "launch/capability.h"
#include "launch/mainloops.h"

namespace cuconv {

// Instantiated in tensor_core_*.cu.
template <typename T, typename Tile, typename Arch, Precision kPrecision>
void launch_tensor_core(GemmCall call);

namespace {

template <typename Arch>
constexpr bool kIsSm75 = std::is_same_v<Arch, Sm75>;

}  // namespace

template <typename Tile, typename Arch>
std::string TensorCore<Tile, Arch>::refuse(const ConvRequest& request) {
  const int least = kIsSm75<Arch> ? 75 : 80;
  if (const int capability = compute_capability(); capability < least) {
    return "it needs compute capability " + std::to_string(least) + ", this device has " +
           std::to_string(capability);
  }
  if (request.dtype == DType::kFloat16) return "";
  if (kIsSm75<Arch>) return "it takes float16 alone";
  if (request.dtype == DType::kBfloat16) return "";
  if (request.dtype == DType::kFloat32) {
    if (request.precision != Precision::kIeee) return "";
    return "its float32 is tf32, and precision=\"ieee\" asks for exact products";
  }
  return std::string("tensor cores have no ") + name_of(request.dtype);
}

template <typename Tile, typename Arch>
TileShape TensorCore<Tile, Arch>::shape(const ConvRequest& request) {
  // On Hopper the instructions of one warp reach some 60% of what its own reach (launch/sm90.h).
  const double cost = compute_capability() >= 90 ? Tile::kCost / 0.6 : Tile::kCost;
  return {Tile::kBlockM, Tile::kBlockN, 64 / size_of(request.dtype), cost, Unit::kTensorCores};
}

template <typename Tile, typename Arch>
void TensorCore<Tile, Arch>::launch(const ConvRequest& request, GemmCall call) {
  if constexpr (kIsSm75<Arch>) {
    launch_tensor_core<half_t, Tile, Arch, Precision::kIeee>(call);
  } else if (request.dtype == DType::kFloat16) {
    launch_tensor_core<half_t, Tile, Arch, Precision::kIeee>(call);
  } else if (request.dtype == DType::kBfloat16) {
    launch_tensor_core<bfloat16_t, Tile, Arch, Precision::kIeee>(call);
  } else if (request.precision == Precision::kTf32) {
    launch_tensor_core<float, Tile, Arch, Precision::kTf32>(call);
  } else {
    launch_tensor_core<float, Tile, Arch, Precision::kTf32x3>(call);
  }
}

template struct TensorCore<TensorCoreTile128x128>;
template struct TensorCore<TensorCoreTile64x64>;
template struct TensorCore<Sm75Tile64x64, Sm75>;

}  // namespace cuconv
