#include <algorithm>
#include <array>
#include <compare>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
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
std::string driver_error(int result) {
  const char* name = nullptr;
  reinterpret_cast<int (*)(int, const char**)>(driver_function("cuGetErrorName"))(result, &name);
  return name == nullptr ? "CUDA driver error " + std::to_string(result) : name;
}

#else

EncodeTiled tiled_encoder() { return emu::encode_tiled; }
EncodeIm2col im2col_encoder() { return emu::encode_im2col; }
std::string driver_error(int) { return "CUDA_ERROR_INVALID_VALUE"; }  // the only one that they give

#endif

int data_type_of(DType dtype, bool tf32) {
  switch (dtype) {
    case DType::kFloat16: return kFloat16;
    case DType::kBfloat16: return kBfloat16;
    case DType::kFloat32: return tf32 ? kTf32 : kFloat32;
    default: throw ArgumentError("no tensor map of " + std::string(name_of(dtype)));
  }
}

// ---- all that a map is made from ----

struct MapSource {
  const void* address;
  bool im2col;
  int data_type;
  std::uint32_t rank;
  std::array<std::uint64_t, kMostMapDims> size;
  std::array<std::uint64_t, kMostMapDims> byte_stride;  // of dimension 1 and up
  std::array<std::uint32_t, kMostMapDims> box;          // im2col: channels and pixels
  std::array<std::uint32_t, kMostMapDims> step;
  std::array<int, 3> lower, upper;  // im2col

  auto operator<=>(const MapSource&) const = default;
};

// A dimension of size 1 may have any stride. It gets one past all that is inside of it, as the encoders'
// documentation has strides.
MapSource source_of(const MappedTensor& t, bool tf32) {
  constexpr std::uint64_t kUnit = 16, kMost = (std::uint64_t{1} << 40) - kUnit;
  MapSource m = {};
  m.address = t.address;
  m.data_type = data_type_of(t.dtype, tf32);
  m.rank = static_cast<std::uint32_t>(t.rank);
  m.step = {1, 1, 1, 1, 1};
  std::uint64_t reach = 0;  // of the dimensions so far
  for (int i = 0; i < t.rank; ++i) {
    m.size[i] = static_cast<std::uint64_t>(t.size[i]);
    const std::uint64_t bytes = static_cast<std::uint64_t>(t.stride[i]) * size_of(t.dtype);
    const std::uint64_t stride = i > 0 && t.size[i] == 1 ? std::min(reach, kMost) : bytes;
    if (i > 0) m.byte_stride[i - 1] = stride;
    reach = std::max(reach, (stride * m.size[i] + kUnit - 1) / kUnit * kUnit);
  }
  return m;
}

template <typename Array>
std::string listed(const Array& values, std::size_t count) {
  std::string list;
  for (std::size_t i = 0; i < count; ++i) list += (i > 0 ? ", " : "") + std::to_string(values[i]);
  return "(" + list + ")";
}

std::string describe(const MapSource& m) {
  const std::size_t rank = m.rank, axes = rank - 2;
  std::string words = "data type " + std::to_string(m.data_type) + ", address modulo 16 " +
                      std::to_string(reinterpret_cast<std::uintptr_t>(m.address) % 16) +
                      ", sizes from the innermost on " + listed(m.size, rank) + ", strides in bytes " +
                      listed(m.byte_stride, rank - 1) + ", steps " + listed(m.step, rank) + ", box " +
                      listed(m.box, m.im2col ? 2 : rank);
  if (m.im2col) words += ", corners " + listed(m.lower, axes) + " to " + listed(m.upper, axes);
  return words;
}

TensorMap encoded(const MapSource& m) {
  TensorMap map;
  void* const address = const_cast<void*>(m.address);
  const int result =
      m.im2col
          ? im2col_encoder()(&map, m.data_type, m.rank, address, m.size.data(), m.byte_stride.data(),
                             m.lower.data(), m.upper.data(), m.box[0], m.box[1], m.step.data(),
                             kNotInterleaved, kSwizzle128, kPromotion256, kZeros)
          : tiled_encoder()(&map, m.data_type, m.rank, address, m.size.data(), m.byte_stride.data(),
                            m.box.data(), m.step.data(), kNotInterleaved, kSwizzle128, kPromotion256, kZeros);
  if (result == 0) return map;
  throw LaunchError(driver_error(result) + " by cuTensorMapEncode" + (m.im2col ? "Im2col" : "Tiled") + " (" +
                    describe(m) + ")");
}

// ---- maps that were made before ----

// A map is what it was made from and nothing else, no device and no allocation: it stays right whatever
// becomes of the memory, and any thread may use it.
constexpr std::size_t kMostMaps = 1024;
std::mutex known_maps_lock;
std::map<MapSource, TensorMap> known_maps;

TensorMap map_of(const MapSource& source) {
  {
    const std::lock_guard<std::mutex> lock(known_maps_lock);
    if (const auto known = known_maps.find(source); known != known_maps.end()) return known->second;
  }
  const TensorMap map = encoded(source);
  const std::lock_guard<std::mutex> lock(known_maps_lock);
  if (known_maps.size() >= kMostMaps) known_maps.clear();
  known_maps.emplace(source, map);
  return map;
}

}  // namespace

TensorMap make_tile_map(const MappedTensor& t, const int (&box)[kMostMapDims], bool tf32) {
  MapSource m = source_of(t, tf32);
  std::copy(std::begin(box), std::end(box), m.box.begin());
  return map_of(m);
}

TensorMap make_im2col_map(const MappedTensor& t, const PixelBox& box, bool tf32) {
  MapSource m = source_of(t, tf32);
  m.im2col = true;
  m.box[0] = static_cast<std::uint32_t>(box.channels);
  m.box[1] = static_cast<std::uint32_t>(box.pixels);
  for (int i = 0; i + 2 < t.rank; ++i) {
    m.step[1 + i] = static_cast<std::uint32_t>(box.step[i]);
    m.lower[i] = box.lower[i];
    m.upper[i] = box.upper[i];
  }
  return map_of(m);
}

}  // namespace cuconv
