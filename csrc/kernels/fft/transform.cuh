// Fourier transforms of the tiles of a tensor into spectra, and back:
//
//   fft_forward   spectra[group][frequency][plane] = transform of the tile that is plane `plane`
//   fft_inverse   y = act(bias + transform back of spectra), where a tile has valid results
//
// A block does a few planes that are neighbours in the spectra, so that it writes them in runs: channels of
// one tile, or neighbouring tiles where there is one channel.
//
// Floor: the tensor read once (tiles overlap by the reach of the kernel less one, mostly from cache) and the
// spectra written once: about 2 numbers for each element of a real tile. Arithmetic is 5/2 log2(elements) a
// real element; at 32 x 32 that is 25 operations for 8 bytes and bound by memory on every GPU that has 67
// TFLOP/s or less for each 4.8 TB/s.
//
// After N. Vasilache et al., Fast convolutional nets with fbfft: a GPU performance evaluation, 2014
// (transforms of small tiles next to each other, the order of frequencies never restored).
#pragma once

#include "kernels/fft/tile.cuh"

namespace cuconv {

struct FftBlock {
  std::int64_t group, first;  // plane
};

template <typename Acc>
CUCONV_DEVICE FftBlock fft_block(const FftTile<Acc>& tile, std::int64_t planes) {
  std::int64_t group = blockIdx.x;
  const std::int64_t parts = (planes + tile.tiles() - 1) / tile.tiles();
  const std::int64_t part = take_last(group, parts);
  return {group, part * tile.tiles()};
}

template <typename Acc>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kFftThreads, 2)
    fft_forward_kernel(const CUCONV_GRID_CONSTANT FftShape shape,
                       const CUCONV_GRID_CONSTANT FftRoots<typename Spectrum<Acc>::Real> roots,
                       const CUCONV_GRID_CONSTANT FftPlanes planes, std::int64_t first_group, const void* x,
                       DType dtype, bool conjugate_x, bool conjugate_spectra,
                       FftSpectra<typename Spectrum<Acc>::Real> spectra) {
  FftTile<Acc> tile(shape, roots);
  const FftBlock block = fft_block(tile, planes.count);
  tile.find_planes(planes, first_group + block.group, block.first);
  __syncthreads();  // planes and roots are known
  tile.load(planes, x, dtype, conjugate_x);
  tile.transform();
  tile.put_spectra(spectra.at + block.group * spectra.frequencies * spectra.count, spectra.count, block.first,
                   conjugate_spectra);
}

template <typename Acc>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kFftThreads, 2)
    fft_inverse_kernel(const CUCONV_GRID_CONSTANT FftShape shape,
                       const CUCONV_GRID_CONSTANT FftRoots<typename Spectrum<Acc>::Real> roots,
                       const CUCONV_GRID_CONSTANT FftPlanes planes,
                       FftSpectra<typename Spectrum<Acc>::Real> spectra, std::int64_t first_group,
                       FftResult result, DType dtype) {
  FftTile<Acc> tile(shape, roots);
  const FftBlock block = fft_block(tile, planes.count);
  tile.find_planes(planes, first_group + block.group, block.first);
  tile.get_spectra(spectra.at + block.group * spectra.frequencies * spectra.count, spectra.count,
                   block.first);
  tile.transform_back();
  tile.store(planes, first_group + block.group, result, dtype);
}

}  // namespace cuconv
