// What TMA can read of the operands of a convolution: by their sizes, before a launch, and by how they lie in
// memory. And the maps of pixels that im2col copies go by.
#pragma once

#include <cstdint>
#include <string>

#include "config.h"
#include "device/tensor_map.h"
#include "problem.h"

namespace cuconv {

// What TMA asks of addresses and strides, in bytes.
constexpr int kTmaAlignment = 16;

constexpr int kTmaLineBytes = 128;
constexpr int kLineElements(DType dtype) { return kTmaLineBytes / size_of(dtype); }

// ---- by sizes ----

// Axes that the map of x needs: leading ones of a single position are left out, because maps of fewer axes
// have wider limits.
int map_axes(const ConvProblem& p);

// Why a map of x with so many axes cannot have this one; empty if it can.
std::string refuse_axis(const ConvProblem& p, int axis, int axes);

std::string refuse_channels(std::int64_t channels, DType dtype);

// ---- by addresses and strides ----

bool aligned(const void* address);
bool tma_stride(std::int64_t size, std::int64_t stride, DType dtype);

// ---- maps ----

// Of x at that address, for copies of so many rows of the lowered matrix, a line of channels each.
TensorMap map_of_pixels(const ConvProblem& p, int axes, const void* x, DType dtype, int rows, bool tf32);

}  // namespace cuconv
