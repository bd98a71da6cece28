// From a convolution in any direction to the matrix products that compute it: which digits a row, a filter
// and a term have, in which order, and how their elements may be fetched. All three directions become forward
// convolutions on other views of the same memory, so kernels know one kind of problem.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/gather/product.h"
#include "launch/registry.h"
#include "problem.h"

namespace cuconv {

constexpr std::int64_t kMostIndices = std::int64_t{1} << 30;  // room for a tile past the end in 31 bits

// A product, and where its operands begin relative to those of the convolution. In elements.
struct Product {
  GatherProblem gather;
  std::int64_t x_offset, w_offset, y_offset;
};

// Why a direction of p cannot be counted in the kernels' 31 bits; empty if it can.
std::string refuse_indices(Direction direction, const ConvProblem& p);

// The input gradient along one axis: positions of one residue modulo the stride are a convolution of their
// own.
std::int64_t input_grad_phases(const ConvProblem& p, int axis);

// One of them, over all axes' phases: a forward convolution of stride 1 over gy, with gx as its y. Offsets
// are relative to w and gx, in elements. It may have no taps: then gx is the bias.
struct PhaseView {
  ConvProblem problem;
  std::int64_t tap[kSpatial] = {};       // of the filter, which the view has first
  std::int64_t tap_step[kSpatial] = {};  // back to the one that it has next
  std::int64_t w_offset = 0;
  std::int64_t y_offset = 0;
};
PhaseView input_grad_phase(const ConvProblem& p, std::int64_t index);

// How many products compute it: one, but for an input gradient one a residue of the positions modulo the
// stride, so that no product meets the zeros between strided outputs.
std::int64_t product_count(Direction direction, const ConvProblem& p);

// Why they are too many to be launched; empty if they are not.
std::string refuse_products(Direction direction, const ConvProblem& p);

// Product `index`. Rows run in any order that suits memory. Of a forward sum the terms run over the taps
// and for each over the channels, of a weight gradient over images and for each over the outputs.
Product product_of(Direction direction, const ConvProblem& p, std::int64_t index);

// The forward convolution over maxima: p reads windows of `window` at the positions where it has its own
// single tap, so that its stride and padding are those of the pooling.
Product pooled_product_of(const ConvProblem& p, const std::int64_t (&window)[kSpatial]);

// The same product over lowered columns[group][term][row]: a plain matrix product.
GatherProblem lowered(const GatherProblem& g);

// The columns' gradient, of some channels of each group: rows are outputs, filters (tap, channel), terms the
// filters of the convolution. Row r, filter f of a group goes to columns[f * rows + r].
Product columns_grad_of(const ConvProblem& p, std::int64_t channel, std::int64_t channels);

// Whether no product meets the padding, so that positions need not be followed.
bool needs_no_positions(const GatherProblem& g);

constexpr int kStageTerms = 64;  // pieces of a sum begin at whole stages of every kernel

// Cuts the sums into pieces of so many terms.
void cut_terms(GatherProblem& g, std::int64_t terms_a_piece);

// Operands as addresses: decides, from alignment and steps, how they are fetched and stored.
struct Operands {
  const void* x;
  const void* w;
  const void* y;
};
void choose_access(GatherProblem& g, const Operands& at, int element_bytes, int load_width, int store_width);

}  // namespace cuconv
