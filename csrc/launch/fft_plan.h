// How a convolution is cut into tiles of Fourier transforms and into chunks that fit the workspace.
//
//   forward      spectra of y = sum over channels and depth taps of those of x times those of w, conjugated
//   input grad   spectra of gx = sum over filters and depth taps of those of gy times those of w
//   weight grad  spectra of gw = sum over images, tiles and depths of those of x times those of gy,
//   conjugated
//
// All along H and W at stride 1 and without dilation: gaps between elements are zeros. A line of an image
// with one row or one column is the second of the two axes, `axis`. The depth axis is not transformed: its
// taps are more terms of the sum, so that what is between the transforms is a convolution along the depth, of
// complex numbers, for each frequency, with sheets (tiles) as images. Any kernel that does convolutions does
// it.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/fft/tile.h"
#include "kernels/fft/twiddle.h"
#include "launch/registry.h"
#include "problem.h"

namespace cuconv {

// What one image takes.
struct FftWork {
  double product;     // complex multiply-adds
  double transforms;  // real ones, weighed as Work's are
  double bytes;       // of spectra, written and read
};

struct FftPlan {
  FftShape shape;
  int axis[2];          // of the problem's: the tile's rows and columns run along these
  int reach[2];         // of the kernel, with its gaps
  int results[2];       // valid results of a tile
  int tiles[2];         // of an image
  std::int64_t sheets;  // of an image
  std::int64_t frequencies;
  bool fused;  // one channel a group, in one piece
  // At a time:
  std::int64_t group_chunk, sheet_chunk;
  std::int64_t x_bytes, y_bytes, w_bytes, total_bytes;  // of spectra; w twice where sums go on through chunks
  FftWork work;
};

// Why it cannot, or "" and the plan.
std::string plan_fft(Direction direction, const ConvProblem& p, const ConvRequest& request, FftPlan& plan);

// Of a line of 2^log_length. Made when the module is loaded: a table takes the host 5 us, of float64 18 (on
// one core, Zen 3), longer than the launch that wants it.
template <typename Real>
const FftRoots<Real>& kept_fft_roots(int log_length);

// With that of the product between the transforms.
Work fft_work(DType dtype, const FftPlan& plan, const Work& product);

// The tensors as tiles: x, y and w of the problem (x and y being those of their gradients, too).
FftPlanes fft_x_planes(Direction direction, const ConvProblem& p, const FftPlan& plan);
FftPlanes fft_y_planes(Direction direction, const ConvProblem& p, const FftPlan& plan);
FftPlanes fft_w_planes(const ConvProblem& p, const FftPlan& plan);

// The convolution between the transforms, of so many groups and sheets: the input gradient of one for an
// input gradient, else a forward one. A weight gradient's has channels for images, sheets for channels, and
// outputs for taps.
ConvProblem fft_product(Direction direction, const ConvProblem& p, const FftPlan& plan, std::int64_t groups,
                        std::int64_t sheets);

}  // namespace cuconv
