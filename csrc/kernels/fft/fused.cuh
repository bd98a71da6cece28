// Convolution with one channel a group (depthwise) by Fourier transforms, a tile in one piece:
//
//   y = act(bias + transform back of (transform of a tile of x) * (spectrum of the filter))
//
// Nothing but the filters' spectra is kept in memory: x is read and y written once, where transform.cuh and a
// product between write and read the spectra of both. Several filters a channel transform its tile anew for
// each, from cache.
//
// Floor: x read and y written once, and the filter's spectrum once for the tiles of a block. Arithmetic: 5
// log2(elements) for each element of a real tile, 50 operations at 32 x 32 for about 8 bytes: bound by shared
// memory, through which a tile goes eight times (read and written).
#pragma once

#include "kernels/fft/transform.cuh"

namespace cuconv {

template <typename Acc>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kFftThreads, 2)
    fft_fused_kernel(const CUCONV_GRID_CONSTANT FftShape shape,
                     const CUCONV_GRID_CONSTANT FftRoots<typename Spectrum<Acc>::Real> roots,
                     const CUCONV_GRID_CONSTANT FftPlanes inputs,
                     const CUCONV_GRID_CONSTANT FftPlanes outputs, std::int64_t first_group, const void* x,
                     DType dtype, FftSpectra<typename Spectrum<Acc>::Real> filters, FftResult result) {
  FftTile<Acc> tile(shape, roots);
  const FftBlock block = fft_block(tile, outputs.count);
  tile.find_planes(inputs, first_group + block.group, block.first, filters.count);
  __syncthreads();  // planes and roots are known
  tile.load(inputs, x, dtype, false);
  tile.find_planes(outputs, first_group + block.group, block.first);
  tile.transform();
  tile.multiply(filters.at + block.group * filters.frequencies * filters.count, filters.count);
  tile.transform_back();
  tile.store(outputs, first_group + block.group, result, dtype);
}

}  // namespace cuconv
