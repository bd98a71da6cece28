// Tensor maps: the driver's encoders as they are documented, into a form that
// the emulator can read again (emu/tensor_map_content.h).
//
// The functions have the signatures of cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col, enumerations as
// integers, and give 0 or CUDA_ERROR_INVALID_VALUE. Every documented limit is checked.
#pragma once

#include <cstdint>

namespace cuconv::emu {

int encode_tiled(void* map, int data_type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                 const std::uint64_t* byte_strides, const std::uint32_t* box,
                 const std::uint32_t* element_strides, int interleave, int swizzle, int promotion, int fill);
int encode_im2col(void* map, int data_type, std::uint32_t rank, void* address, const std::uint64_t* dims,
                  const std::uint64_t* byte_strides, const int* lower, const int* upper,
                  std::uint32_t channels, std::uint32_t pixels, const std::uint32_t* element_strides,
                  int interleave, int swizzle, int promotion, int fill);

// How many maps the calling thread has had encoded.
std::int64_t encoded_maps();

}  // namespace cuconv::emu
