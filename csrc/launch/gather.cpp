#include "launch/gather.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "launch/conv.h"

namespace cuconv {
namespace {

enum class Order { kChannelsInnermost, kChannelsOutermost };

// ---- views ----

// The weight gradient as a forward convolution: images are summed over as channels are, channels of x are
// independent as images are, and outputs and taps change places.
ConvProblem weight_grad_view(const ConvProblem& p) {
  ConvProblem v = p;
  v.n = p.c;
  v.c = p.n;
  for (int axis = 0; axis < kSpatial; ++axis) {
    v.filter[axis] = p.out[axis];
    v.out[axis] = p.filter[axis];
    std::swap(v.stride[axis], v.dilation[axis]);
  }
  std::swap(v.x_stride[0], v.x_stride[2]);
  const std::int64_t w[] = {p.y_stride[1], p.y_stride[2], p.y_stride[0],
                            p.y_stride[3], p.y_stride[4], p.y_stride[5]};
  const std::int64_t y[] = {p.w_stride[2], p.w_stride[0], p.w_stride[1],
                            p.w_stride[3], p.w_stride[4], p.w_stride[5]};
  std::copy(std::begin(w), std::end(w), std::begin(v.w_stride));
  std::copy(std::begin(y), std::end(y), std::begin(v.y_stride));
  return v;
}

// ---- digits ----

// Digits of size 1 carry nothing: behind the others, so that the innermost is one that somebody steps along.
template <typename Any>
void ones_last(Any (&digit)[kDigits]) {
  std::stable_sort(std::begin(digit), std::end(digit),
                   [](const Any& a, const Any& b) { return (a.size.divisor > 1) > (b.size.divisor > 1); });
}

bool moves(const Digit& d) { return d.position_step[0] || d.position_step[1] || d.position_step[2]; }

// Where no product can meet the padding, positions need not be followed.
void forget_positions_inside(GatherProblem& g) {
  for (int axis = 0; axis < kSpatial; ++axis) {
    std::int64_t last = g.start[axis];
    for (const auto* digits : {g.row, g.term}) {
      for (int i = 0; i < kDigits; ++i) {
        last += std::int64_t{digits[i].position_step[axis]} * (digits[i].size.divisor - 1);
      }
    }
    if (g.start[axis] < 0 || last >= g.extent[axis]) continue;
    for (int i = 0; i < kDigits; ++i) g.row[i].position_step[axis] = g.term[i].position_step[axis] = 0;
    g.start[axis] = 0;
    g.extent[axis] = 1;
  }
}

// Neighbouring digits that are steps of one walk become one.
void merge_digits(Digit (&digit)[kDigits]) {
  for (int i = 0; i + 1 < kDigits;) {
    const Digit &a = digit[i], &b = digit[i + 1];
    const std::int64_t size = a.size.divisor;
    if (b.size.divisor > 1 && !moves(a) && !moves(b) && b.x_step == size * a.x_step &&
        b.other_step == size * a.other_step) {
      digit[i].size = fast_divisor(size * b.size.divisor);
      std::move(digit + i + 2, digit + kDigits, digit + i + 1);
      digit[kDigits - 1] = {fast_divisor(1), {}, 0, 0};
    } else {
      ++i;
    }
  }
}

// Rows may be walked in any order: neighbours in x first, if there is an axis of them without padding.
void neighbours_innermost(Digit (&row)[kDigits]) {
  for (int i = 1; i < kDigits; ++i) {
    if (row[i].size.divisor > 1 && row[i].x_step == 1 && !moves(row[i]) && row[0].x_step != 1) {
      std::rotate(row, row + i, row + i + 1);
    }
  }
}

GatherProblem gather_of(const ConvProblem& p, Order order, bool follow_positions = false) {
  GatherProblem g = {};
  g.groups = p.groups;
  g.row_end = static_cast<std::int32_t>(p.n * volume(p.out));
  g.filters = static_cast<std::int32_t>(p.k);
  g.term_end = static_cast<std::int32_t>(p.c * volume(p.filter));
  g.splits = 1;
  g.terms_a_split = std::max(g.term_end, 1);
  for (int i = 0; i < kSpatial; ++i) {
    const int axis = kSpatial - 1 - i;
    Digit& row = g.row[i];
    row.size = fast_divisor(std::max<std::int64_t>(p.out[axis], 1));
    row.position_step[axis] = p.out[axis] > 1 ? static_cast<std::int32_t>(p.stride[axis]) : 0;
    row.x_step = p.stride[axis] * p.x_stride[3 + axis];
    row.other_step = p.y_stride[3 + axis];
    Digit& tap = g.term[order == Order::kChannelsInnermost ? i + 1 : i];
    tap.size = fast_divisor(std::max<std::int64_t>(p.filter[axis], 1));
    tap.position_step[axis] = p.filter[axis] > 1 ? static_cast<std::int32_t>(p.dilation[axis]) : 0;
    tap.x_step = p.dilation[axis] * p.x_stride[3 + axis];
    tap.other_step = p.w_stride[3 + axis];
    g.start[axis] = static_cast<std::int32_t>(-p.pad[axis]);
    g.extent[axis] = static_cast<std::int32_t>(p.in[axis]);
    g.x_start -= p.pad[axis] * p.x_stride[3 + axis];
  }
  g.row[3] = {fast_divisor(std::max<std::int64_t>(p.n, 1)), {}, p.x_stride[0], p.y_stride[0]};
  g.term[order == Order::kChannelsInnermost ? 0 : 3] = {
      fast_divisor(std::max<std::int64_t>(p.c, 1)), {}, p.x_stride[2], p.w_stride[2]};
  g.filter[0] = {fast_divisor(std::max<std::int64_t>(p.k, 1)), p.w_stride[1]};
  for (int i = 1; i < kDigits; ++i) g.filter[i] = {fast_divisor(1), 0};
  g.x_group = p.x_stride[1];
  g.w_group = p.w_stride[0];
  g.y_group = p.y_stride[1];
  g.y_filter = p.y_stride[2];
  if (!follow_positions) forget_positions_inside(g);
  ones_last(g.row);
  ones_last(g.term);
  merge_digits(g.row);
  merge_digits(g.term);
  return g;
}

// ---- access ----

bool aligned(const void* address, std::int64_t offset, int element_bytes, int width) {
  const auto place = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(address));
  return (place + offset * element_bytes) % (std::int64_t{width} * element_bytes) == 0;
}

// Whether every step of an index, but those of its first `except` digits, keeps vectors aligned.
template <typename Any, typename StepOf>
bool steps_aligned(const Any (&digit)[kDigits], int except, int width, StepOf step_of) {
  return std::all_of(digit + except, digit + kDigits,
                     [&](const Any& d) { return d.size.divisor <= 1 || step_of(d) % width == 0; });
}

Load load_of_x(const GatherProblem& g, const void* x, int element_bytes, int width) {
  const auto step = [](const Digit& d) { return d.x_step; };
  const auto neighbours = [&](const Digit& d) {
    return d.x_step == 1 && d.size.divisor % width == 0 && !moves(d);
  };
  if (width == 1 || !aligned(x, g.x_start, element_bytes, width) ||
      (g.groups > 1 && g.x_group % width != 0)) {
    return Load::kGather;
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    if (g.window[axis] > 1 && g.window_step[axis] % width != 0) return Load::kGather;
  }
  if (neighbours(g.term[0]) && steps_aligned(g.term, 1, width, step) &&
      steps_aligned(g.row, 0, width, step)) {
    return Load::kTerms;
  }
  if (neighbours(g.row[0]) && g.row_begin % width == 0 && steps_aligned(g.row, 1, width, step) &&
      steps_aligned(g.term, 0, width, step)) {
    return Load::kRows;
  }
  return Load::kGather;
}

Load load_of_w(const GatherProblem& g, const void* w, int element_bytes, int width) {
  const auto term_step = [](const Digit& d) { return d.other_step; };
  const auto filter_step = [](const FilterDigit& d) { return d.w_step; };
  if (width == 1 || !aligned(w, 0, element_bytes, width) || (g.groups > 1 && g.w_group % width != 0)) {
    return Load::kGather;
  }
  if (g.term[0].other_step == 1 && g.term[0].size.divisor % width == 0 &&
      steps_aligned(g.term, 1, width, term_step) && steps_aligned(g.filter, 0, width, filter_step)) {
    return Load::kTerms;
  }
  if (g.filter[0].w_step == 1 && g.filter[0].size.divisor % width == 0 &&
      steps_aligned(g.filter, 1, width, filter_step) && steps_aligned(g.term, 0, width, term_step)) {
    return Load::kRows;
  }
  return Load::kGather;
}

Store store_of_y(const GatherProblem& g, const void* y, int element_bytes, int width) {
  const auto step = [](const Digit& d) { return d.other_step; };
  if (width == 1 || !aligned(y, 0, element_bytes, width) || (g.groups > 1 && g.y_group % width != 0)) {
    return Store::kScatter;
  }
  if (g.y_filter == 1 && g.filters % width == 0 && steps_aligned(g.row, 0, width, step)) {
    return Store::kFilters;
  }
  if (g.row[0].other_step == 1 && g.row[0].size.divisor % width == 0 && g.row_begin % width == 0 &&
      g.row_end % width == 0 && steps_aligned(g.row, 1, width, step) &&
      (g.filters <= 1 || g.y_filter % width == 0)) {
    return Store::kRows;
  }
  return Store::kScatter;
}

}  // namespace

std::int64_t input_grad_phases(const ConvProblem& p, int axis) {
  return std::clamp<std::int64_t>(p.in[axis], 1, p.stride[axis]);
}

// Positions i0, i0 + stride, ... of the input, of which i0 is among the first `stride`. The taps that meet
// them lie stride / g apart (g = gcd(stride, dilation)), the outputs they meet dilation / g apart, backwards:
// a forward convolution of stride 1 over gy, by every (stride / g)th tap, last tap first.
PhaseView input_grad_phase(const ConvProblem& p, std::int64_t index) {
  PhaseView view{p};
  ConvProblem& v = view.problem;
  std::swap(v.c, v.k);
  std::swap(v.w_stride[1], v.w_stride[2]);
  std::copy(std::begin(p.y_stride), std::end(p.y_stride), std::begin(v.x_stride));
  std::copy(std::begin(p.x_stride), std::end(p.x_stride), std::begin(v.y_stride));
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    const std::int64_t stride = p.stride[axis], dilation = p.dilation[axis];
    const std::int64_t first = take_last(index, input_grad_phases(p, axis));
    const std::int64_t common = std::gcd(stride, dilation);
    const std::int64_t tap_step = stride / common, out_step = dilation / common;
    const std::int64_t padded = first + p.pad[axis];
    std::int64_t tap = 0;
    while (tap < std::min(tap_step, p.filter[axis]) && (padded - tap * dilation) % stride != 0) ++tap;
    const bool met = tap < std::min(tap_step, p.filter[axis]);
    const std::int64_t taps = met ? (p.filter[axis] - 1 - tap) / tap_step + 1 : 0;
    const std::int64_t last = tap + (taps - 1) * tap_step;  // the view's first tap
    v.in[axis] = p.out[axis];
    v.out[axis] = p.in[axis] > first ? (p.in[axis] - 1 - first) / stride + 1 : 0;
    v.filter[axis] = taps;
    v.stride[axis] = 1;
    v.dilation[axis] = out_step;
    v.pad[axis] = met ? -((padded - last * dilation) / stride) : 0;
    v.w_stride[3 + axis] = -tap_step * p.w_stride[3 + axis];
    v.y_stride[3 + axis] = stride * p.x_stride[3 + axis];
    if (met) view.w_offset += last * p.w_stride[3 + axis];
    view.tap[axis] = last;
    view.tap_step[axis] = tap_step;
    view.y_offset += first * p.x_stride[3 + axis];
  }
  return view;
}

std::string refuse_indices(Direction direction, const ConvProblem& p) {
  const double outputs = double(p.out[0]) * double(p.out[1]) * double(p.out[2]);
  const double inputs = double(p.in[0]) * double(p.in[1]) * double(p.in[2]);
  const double taps = double(p.filter[0]) * double(p.filter[1]) * double(p.filter[2]);
  const double most = kMostIndices;
  const double rows = direction == Direction::kForward     ? outputs
                      : direction == Direction::kInputGrad ? inputs
                                                           : double(p.c) * taps;
  const double terms = direction == Direction::kForward     ? double(p.c) * taps
                       : direction == Direction::kInputGrad ? double(p.k) * taps
                                                            : double(p.n) * outputs;
  const double n = double(p.n), groups = double(p.groups);
  if (rows > most || terms > most || double(p.k) > most || double(p.c) > most || groups > most) {
    return direction == Direction::kWeightGrad ? "it counts the outputs of all images to 2^30 at the most"
                                               : "it counts rows and terms of an image to 2^30 at the most";
  }
  if (direction == Direction::kWeightGrad && n > most) return "it counts images to 2^30 at the most";
  // So that bytes of workspace are 63-bit numbers, whatever is asked.
  constexpr double kMostElements = 1e16;
  const double filters = double(direction == Direction::kInputGrad ? p.c : p.k);
  if (groups * rows * filters > kMostElements || groups * rows * terms > kMostElements) {
    return "its columns or sums would be more than 1e16 numbers";
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    const double reach = double(p.stride[axis]) * double(p.out[axis]) +
                         double(p.dilation[axis]) * double(p.filter[axis]) + std::abs(double(p.pad[axis])) +
                         double(p.in[axis]);
    if (reach > most / 2) return "its windows reach over more than 2^29 positions along one axis";
  }
  return "";
}

std::int64_t product_count(Direction direction, const ConvProblem& p) {
  if (direction != Direction::kInputGrad) return 1;
  return input_grad_phases(p, 0) * input_grad_phases(p, 1) * input_grad_phases(p, 2);
}

std::string refuse_products(Direction direction, const ConvProblem& p) {
  constexpr double kMostProducts = 64;
  if (direction != Direction::kInputGrad) return "";
  double products = 1;  // more than 63 bits, perhaps
  for (int axis = 0; axis < kSpatial; ++axis) products *= double(input_grad_phases(p, axis));
  if (products <= kMostProducts) return "";
  return "a product for each of " + std::to_string(std::llround(std::min(products, 9e18))) +
         " residues of the stride, and it takes " + std::to_string(int(kMostProducts)) + " at the most";
}

Product product_of(Direction direction, const ConvProblem& p, std::int64_t index) {
  Product product{};
  if (direction == Direction::kInputGrad) {
    const PhaseView view = input_grad_phase(p, index);
    product = {gather_of(view.problem, Order::kChannelsInnermost), 0, view.w_offset, view.y_offset};
  } else if (direction == Direction::kForward) {
    product.gather = gather_of(p, Order::kChannelsInnermost);
  } else {
    product.gather = gather_of(weight_grad_view(p), Order::kChannelsOutermost);
  }
  neighbours_innermost(product.gather.row);
  return product;
}

Product pooled_product_of(const ConvProblem& p, const std::int64_t (&window)[kSpatial]) {
  Product product{gather_of(p, Order::kChannelsInnermost, true), 0, 0, 0};
  for (int axis = 0; axis < kSpatial; ++axis) {
    product.gather.window[axis] = static_cast<std::int32_t>(window[axis]);
    product.gather.window_step[axis] = p.x_stride[3 + axis];
  }
  return product;
}

GatherProblem lowered(const GatherProblem& g) {
  GatherProblem plain = g;
  const std::int64_t rows = g.row_end - g.row_begin;
  std::int64_t step = 1;
  for (Digit& row : plain.row) {
    row.x_step = step;
    step *= row.size.divisor;
  }
  step = rows;
  for (Digit& term : plain.term) {
    term.x_step = step;
    step *= term.size.divisor;
  }
  for (int axis = 0; axis < kSpatial; ++axis) {
    for (int i = 0; i < kDigits; ++i) {
      plain.row[i].position_step[axis] = plain.term[i].position_step[axis] = 0;
    }
    plain.start[axis] = 0;
    plain.extent[axis] = 1;
  }
  plain.x_start = -(g.row_begin + g.term_begin * rows);
  plain.x_group = (g.term_end - g.term_begin) * rows;
  return plain;
}

void cut_terms(GatherProblem& g, std::int64_t terms_a_piece) {
  const std::int64_t terms = g.term_end - g.term_begin;
  g.terms_a_split = static_cast<std::int32_t>(terms_a_piece);
  g.splits = static_cast<std::int32_t>(std::max<std::int64_t>(ceil_div(terms, terms_a_piece), 1));
}

Product columns_grad_of(const ConvProblem& p, std::int64_t channel, std::int64_t channels) {
  ConvProblem v = p;
  v.c = p.k;
  v.k = channels;
  for (int axis = 0; axis < kSpatial; ++axis) {
    v.in[axis] = p.out[axis];
    v.filter[axis] = v.stride[axis] = v.dilation[axis] = 1;
    v.pad[axis] = 0;
  }
  std::copy(std::begin(p.y_stride), std::end(p.y_stride), std::begin(v.x_stride));
  std::swap(v.w_stride[1], v.w_stride[2]);
  // Rows stay in the outputs' own order, in which col2im finds them again.
  Product product{gather_of(v, Order::kChannelsInnermost), 0, channel * p.w_stride[2], 0};
  GatherProblem& g = product.gather;
  g.filters = static_cast<std::int32_t>(channels * volume(p.filter));
  for (int i = 0; i < kSpatial; ++i) {
    const int axis = kSpatial - 1 - i;
    g.filter[i + 1] = {fast_divisor(p.filter[axis]), p.w_stride[3 + axis]};
  }
  ones_last(g.filter);
  return product;
}

bool needs_no_positions(const GatherProblem& g) {
  return std::none_of(std::begin(g.row), std::end(g.row), moves) &&
         std::none_of(std::begin(g.term), std::end(g.term), moves);
}

void choose_access(GatherProblem& g, const Operands& at, int element_bytes, int load_width, int store_width) {
  g.x_load = load_of_x(g, at.x, element_bytes, load_width);
  g.w_load = load_of_w(g, at.w, element_bytes, load_width);
  g.y_store = store_of_y(g, at.y, element_bytes, store_width);
}

}  // namespace cuconv
