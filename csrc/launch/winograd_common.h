// What both forms of Winograd's algorithm ask of a problem, and the transform of its filters.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/winograd/tiles.cuh"
#include "launch/conv.h"

namespace cuconv {

// Frequencies of F(m x m, 3x3).
constexpr std::int64_t frequencies(int outputs) { return std::int64_t{outputs + 2} * (outputs + 2); }

// Filters and tiles are counted up to these, so that products move vectors.
constexpr std::int64_t kWinogradVector = 4;
constexpr std::int64_t rounded_up_to_vectors(std::int64_t count) {
  return ceil_div(count, kWinogradVector) * kWinogradVector;
}

// Images that share tiles' blocks, filters and launches in estimates: the true batch must not decide.
constexpr int kNominalBatch = 8;

// Why the algorithm cannot do p; empty if it can.
std::string refuse_winograd(const ConvProblem& p, DType dtype);

std::int64_t tiles_of_image(const ConvProblem& p, int outputs);

// As many images as have their tiles counted in 31 bits.
std::int64_t tileable_images(const ConvProblem& p, int outputs);

TileGrid tile_grid(const ConvProblem& p, int outputs);

// Transformed filters: [point][group][c][k], k counted up to vectors.
std::int64_t transformed_filters(const ConvProblem& p, int outputs);
template <int kOutputs>
void launch_filter_transform(const ConvProblem& p, const ConvArguments& args, void* filters);

}  // namespace cuconv
