// Copies of boxes of a tensor from global to shared memory by one thread (TMA), sm_90 and up.
//
//   tma_load_tile_5d      a box of a tiled map; at[0] is the innermost coordinate
//   tma_load_im2col_3d    a column of pixels of an im2col map (4d, 5d): as many channels from channel at[0]
//   on,
//                         of as many pixels as the map says. at[1] ... are the first pixel's position in the
//                         bounding box (width first) and image; the next pixels follow by the map's steps,
//                         within the bounding box, over its lines, planes and images. Each is read `offset`
//                         further on.
//
// What lies outside of the tensor arrives as zeros. All bytes of a box count towards the mbarrier, whose
// phase they belong to. The target is a multiple of 128 bytes; swizzled by 128 bytes, its pattern repeats
// after 1024. Source: PTX ISA, "Tensors" and "Data Movement and Conversion Instructions:
// cp.async.bulk.tensor".
#pragma once

#include <cstdint>

#include "device/mbarrier_sm90.cuh"
#include "device/platform.cuh"
#include "device/tensor_map.h"

namespace cuconv {

#if defined(__CUDACC__)

CUCONV_DEVICE void tma_prefetch(const TensorMap* map) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void tma_load_tile_5d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[5]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7];" ::"r"(shared_address(shared)),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(shared_address(bar))
      : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void tma_load_im2col_3d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[3],
                                      const std::uint16_t (&offset)[1]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5], {%6};" ::"r"(shared_address(shared)),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(shared_address(bar)), "h"(offset[0])
      : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void tma_load_im2col_4d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[4],
                                      const std::uint16_t (&offset)[2]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(shared_address(shared)),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(shared_address(bar)), "h"(offset[0]),
      "h"(offset[1])
      : "memory");
#else
  __trap();
#endif
}

CUCONV_DEVICE void tma_load_im2col_5d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[5],
                                      const std::uint16_t (&offset)[3]) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5, %6}], [%7], {%8, %9, %10};" ::"r"(shared_address(shared)),
      "l"(map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]), "r"(shared_address(bar)),
      "h"(offset[0]), "h"(offset[1]), "h"(offset[2])
      : "memory");
#else
  __trap();
#endif
}

#else

CUCONV_DEVICE void tma_prefetch(const TensorMap*) {}

CUCONV_DEVICE void tma_load_tile_5d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[5]) {
  emu::tma_load_tile(shared, map, bar, at, 5);
}

CUCONV_DEVICE void tma_load_im2col_3d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[3],
                                      const std::uint16_t (&offset)[1]) {
  emu::tma_load_im2col(shared, map, bar, at, offset, 3);
}

CUCONV_DEVICE void tma_load_im2col_4d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[4],
                                      const std::uint16_t (&offset)[2]) {
  emu::tma_load_im2col(shared, map, bar, at, offset, 4);
}

CUCONV_DEVICE void tma_load_im2col_5d(void* shared, const TensorMap* map, Mbarrier* bar, const int (&at)[5],
                                      const std::uint16_t (&offset)[3]) {
  emu::tma_load_im2col(shared, map, bar, at, offset, 5);
}

#endif

}  // namespace cuconv
