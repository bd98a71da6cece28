#include <algorithm>
#include <string>

#include "launch/check.h"
#include "launch/launch.cuh"
#include "launch/tensor_map.h"

#if defined(__CUDACC__)
#include <cuda.h>
#include <cuda_runtime.h>
#endif

namespace cuconv {
namespace {

// The encoders' signatures with enumerations as integers, and those of their values that are used.
using EncodeTiled = int (*)(void* map, int data_type, std::uint32_t rank, void* address,
                            const std::uint64_t* dims, const std::uint64_t* byte_strides,
                            const std::uint32_t* box, const std::uint32_t* element_strides, int interleave,
                            int swizzle, int promotion, int fill);
using EncodeIm2col = int (*)(void* map, int data_type, std::uint32_t rank, void* address,
                             const std::uint64_t* dims, const std::uint64_t* byte_strides, const int* lower,
                             const int* upper, std::uint32_t channels, std::uint32_t pixels,
                             const std::uint32_t* element_strides, int interleave, int swizzle, int promotion,
                             int fill);
constexpr int kFloat16 = 6, kFloat32 = 7, kBfloat16 = 9, kTf32 = 11;
constexpr int kNotInterleaved = 0;
constexpr int kSwizzle128 = 3;
constexpr int kPromotion256 = 3;  // what a copy brings into L2 comes in stretches of 256 bytes
constexpr int kZeros = 0;

#if defined(__CUDACC__)

static_assert(kFloat16 == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 && kFloat32 == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 &&
                  kBfloat16 == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 &&
                  kTf32 == CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 &&
                  kNotInterleaved == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                  kSwizzle128 == CU_TENSOR_MAP_SWIZZLE_128B &&
                  kPromotion256 == CU_TENSOR_MAP_L2_PROMOTION_L2_256B &&
                  kZeros == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
              "enumerations cross as integers of these values");
static_assert(sizeof(CUtensorMap) == sizeof(TensorMap), "a tensor map is 128 bytes");

// Looked for at run time, because the driver's library is never linked: the module imports without one.
void* driver_function(const char* name) {
  constexpr unsigned kSince = 12000;  // the version that introduced it
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found), name);
#else
  check_cuda(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found), name);
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw LaunchError(std::string("the CUDA driver has no ") + name);
  }
  return function;
}

EncodeTiled tiled_encoder() {
  return reinterpret_cast<EncodeTiled>(driver_function("cuTensorMapEncodeTiled"));
}
EncodeIm2col im2col_encoder() {
  return reinterpret_cast<EncodeIm2col>(driver_function("cuTensorMapEncodeIm2col"));
}

#else

EncodeTiled tiled_encoder() { return emu::encode_tiled; }
EncodeIm2col im2col_encoder() { return emu::encode_im2col; }

#endif

int data_type_of(DType dtype, bool tf32) {
  switch (dtype) {
    case DType::kFloat16: return kFloat16;
    case DType::kBfloat16: return kBfloat16;
    case DType::kFloat32: return tf32 ? kTf32 : kFloat32;
    default: throw ArgumentError("no tensor map of " + std::string(name_of(dtype)));
  }
}

struct Geometry {
  std::uint64_t size[kMostMapDims] = {};
  std::uint64_t byte_stride[kMostMapDims] = {};  // of dimension 1 and up
};

// A dimension of size 1 may have any stride. It gets one past all that is inside of it, as the encoders'
// documentation has strides.
Geometry geometry_of(const MappedTensor& t) {
  constexpr std::uint64_t kUnit = 16, kMost = (std::uint64_t{1} << 40) - kUnit;
  Geometry g;
  std::uint64_t reach = 0;  // of the dimensions so far
  for (int i = 0; i < t.rank; ++i) {
    g.size[i] = static_cast<std::uint64_t>(t.size[i]);
    const std::uint64_t bytes = static_cast<std::uint64_t>(t.stride[i]) * size_of(t.dtype);
    const std::uint64_t stride = i > 0 && t.size[i] == 1 ? std::min(reach, kMost) : bytes;
    if (i > 0) g.byte_stride[i - 1] = stride;
    reach = std::max(reach, (stride * g.size[i] + kUnit - 1) / kUnit * kUnit);
  }
  return g;
}

void check_encoded(int result, const char* function) {
  if (result == 0) return;
  throw LaunchError(std::string(function) + " refused a tensor map: CUDA driver error " +
                    std::to_string(result));
}

}  // namespace

TensorMap make_tile_map(const MappedTensor& t, const int (&box)[kMostMapDims], bool tf32) {
  const Geometry g = geometry_of(t);
  std::uint32_t extent[kMostMapDims], step[kMostMapDims];
  for (int i = 0; i < kMostMapDims; ++i) {
    extent[i] = static_cast<std::uint32_t>(box[i]);
    step[i] = 1;
  }
  TensorMap map;
  check_encoded(
      tiled_encoder()(&map, data_type_of(t.dtype, tf32), t.rank, const_cast<void*>(t.address), g.size,
                      g.byte_stride, extent, step, kNotInterleaved, kSwizzle128, kPromotion256, kZeros),
      "cuTensorMapEncodeTiled");
  return map;
}

TensorMap make_im2col_map(const MappedTensor& t, const PixelBox& box, bool tf32) {
  const Geometry g = geometry_of(t);
  std::uint32_t step[kMostMapDims] = {1, 1, 1, 1, 1};
  for (int i = 0; i + 2 < t.rank; ++i) step[1 + i] = static_cast<std::uint32_t>(box.step[i]);
  TensorMap map;
  check_encoded(im2col_encoder()(&map, data_type_of(t.dtype, tf32), t.rank, const_cast<void*>(t.address),
                                 g.size, g.byte_stride, box.lower, box.upper, box.channels, box.pixels, step,
                                 kNotInterleaved, kSwizzle128, kPromotion256, kZeros),
                "cuTensorMapEncodeIm2col");
  return map;
}

}  // namespace cuconv
