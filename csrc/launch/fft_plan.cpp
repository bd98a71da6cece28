#include "launch/fft_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "launch/capability.h"
#include "launch/conv.h"

namespace cuconv {
namespace {

// Outputs of stride 1 are computed and skipped: not more of them for each that is kept.
constexpr double kMostSkipped = 16;
// Of spectra, without a limit of the caller's own; more only where the least chunk takes more.
constexpr std::int64_t kDefaultBytes = std::int64_t{256} << 20;
constexpr std::int64_t kAlignment = 256;
// What a block may have on Turing, and on every later GPU; and what it takes where a tile needs less.
constexpr std::size_t kSharedLimitTuring = 64 * 1024;
constexpr std::size_t kSharedLimit = 96 * 1024;
constexpr std::size_t kSharedWanted = 40 * 1024;
constexpr int kMostLogTiles = 4;
constexpr int kLogSides[] = {3, 4, 5, 6, 7};                              // of planes
constexpr int kLogLines[] = {5, 6, 7, 8, 9, 10, 11, 12, kMostLogLength};  // of lines
constexpr double kMostGrid = double(std::int64_t{1} << 30);
// Of groups times frequencies in one product, so that its blocks fit a grid.
constexpr std::int64_t kMostFrequencies = std::int64_t{1} << 18;
// Of a launch.
constexpr std::int64_t kMostPlanes = std::int64_t{1} << 30;
constexpr double kBatch = 8;

std::int64_t rounded_up(std::int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

bool has_complex_numbers(DType dtype) { return dtype == DType::kComplex64 || dtype == DType::kComplex128; }

// Of a number of a spectrum.
int complex_bytes(DType dtype) {
  return has_complex_numbers(dtype) ? size_of(dtype) : 2 * accumulator_bytes(dtype);
}

bool is_flat(const ConvProblem& p, int axis) {
  return p.filter[axis] == 1 && p.in[axis] == 1 && p.out[axis] == 1;
}

// What stride 1 would give along an axis, or as many positions as the result has.
double unit_results(Direction direction, const ConvProblem& p, int axis) {
  if (direction == Direction::kInputGrad) return double(p.in[axis]);
  return p.out[axis] == 0 ? 0 : (double(p.out[axis]) - 1) * double(p.stride[axis]) + 1;
}

double reach_of(const ConvProblem& p, int axis) {
  return double(p.dilation[axis]) * (double(p.filter[axis]) - 1) + 1;
}

std::string refuse_sizes(Direction direction, const ConvProblem& p) {
  if (p.filter[1] == 1 && p.filter[2] == 1)
    return "it transforms along H and W, and this kernel has one tap there";
  double skipped = 1;
  for (int axis = 1; axis < kSpatial; ++axis) {
    if (p.out[axis] > 1) skipped *= double(p.stride[axis]);
    const double grid = unit_results(direction, p, axis) + double(p.stride[axis]) * double(p.out[axis]) +
                        reach_of(p, axis) + std::abs(double(p.pad[axis])) + double(p.in[axis]);
    if (grid > kMostGrid / 2) return "its windows reach over more than 2^29 positions along one axis";
  }
  if (skipped > kMostSkipped) {
    return "it computes at stride 1 and takes strides of up to 16 in all, not " +
           std::to_string(std::int64_t(skipped));
  }
  const double depth = std::max(double(p.in[0]), double(p.out[0]));
  if (double(p.c) * double(p.k) * double(p.filter[0]) > kMostGrid || double(p.c) * depth > kMostGrid ||
      double(p.k) * depth > kMostGrid || double(p.groups) > kMostGrid) {
    return "it counts filters by channels, and channels by depths, to 2^30 at the most";
  }
  return "";
}

// A tile of 2^log_side numbers a side, or two stretches of 2^log_side; as many tiles a block as the shared
// memory wanted holds.
FftShape shape_of(DType dtype, bool lines, int log_side) {
  FftShape shape = {};
  shape.lines = lines;
  shape.log_width = log_side;
  shape.log_height = lines ? 1 : log_side;
  shape.pitch = skewed(1 << log_side) | 1;
  const int rows = (1 << shape.log_height) / (has_complex_numbers(dtype) ? 1 : 2);
  for (shape.log_tiles = kMostLogTiles;; --shape.log_tiles) {
    // Lanes of neighbouring tiles want other banks.
    const int apart = 16 >> shape.log_tiles;
    shape.tile_step = ceil_div(rows * shape.pitch - apart, 16) * 16 + apart;
    if (shape.log_tiles == 0 || fft_shared_bytes(shape, complex_bytes(dtype)) <= kSharedWanted) return shape;
  }
}

// Everything of a plan that follows from its shape.
void lay_tiles(Direction direction, const ConvProblem& p, DType dtype, FftPlan& plan) {
  const FftShape& shape = plan.shape;
  plan.sheets = 1;
  for (int i = 0; i < 2; ++i) {
    const int axis = plan.axis[i];
    const bool across = shape.lines && i == 0;
    const int length = across ? 1 : 1 << (i == 0 ? shape.log_height : shape.log_width);
    plan.reach[i] = static_cast<int>(reach_of(p, axis));
    plan.results[i] = length - plan.reach[i] + 1;
    const auto units = static_cast<std::int64_t>(unit_results(direction, p, axis));
    plan.tiles[i] = static_cast<int>(ceil_div(units, plan.results[i]));
    plan.sheets *= shape.lines ? ceil_div(plan.tiles[i], i + 1) : plan.tiles[i];
  }
  const std::int64_t width = std::int64_t{1} << shape.log_width;
  plan.frequencies = (has_complex_numbers(dtype) ? width : width / 2 + 1) << shape.log_height;
  const bool flat = p.filter[0] == 1 && p.in[0] == 1 && p.out[0] == 1 && p.pad[0] == 0;
  const bool single =
      (direction == Direction::kForward && p.c == 1) || (direction == Direction::kInputGrad && p.k == 1);
  plan.fused = flat && single;
}

// Of one image. The filters' transform is shared by kBatch images of nobody in particular.
FftWork work_of(const ConvProblem& p, DType dtype, const FftPlan& plan) {
  // Of the transforms shared memory decides: by docs/fft.md each operation takes as long as two
  // multiply-adds.
  constexpr double kOperationCost = 2;
  const int log_elements = plan.shape.log_height + plan.shape.log_width;
  const double operations = (has_complex_numbers(dtype) ? 5.0 : 2.5) * log_elements * (1 << log_elements);
  const double sheets = double(p.groups) * double(plan.sheets);
  const double x = sheets * double(p.c) * double(p.in[0]), y = sheets * double(p.k) * double(p.out[0]);
  const double w = double(p.groups) * double(p.c) * double(p.k) * double(p.filter[0]);
  FftWork work = {};
  work.product = double(plan.frequencies) * double(plan.sheets) * double(p.out[0]) * w;
  work.transforms = kOperationCost * operations * ((plan.fused ? 2 * std::max(x, y) : x + y) + w / kBatch);
  const double spectra = (plan.fused ? 0 : x + y) + w / kBatch;
  work.bytes = 2 * spectra * double(plan.frequencies) * complex_bytes(dtype);
  return work;
}

// To choose among tiles: in real multiply-adds, of which a GPU does ten for each byte that its memory moves.
double cost_of(const FftWork& work) { return 4 * work.product + std::max(work.transforms, 10 * work.bytes); }

// Bytes of spectra for each group, in floating point: sizes may be huge.
struct SpectraBytes {
  double x, y, w;  // x and y of a sheet

  double sheet() const { return x + y; }
};

// What a chunk takes in all. Sums that go on through chunks of sheets take w twice.
double chunk_bytes(const SpectraBytes& each, double groups, double sheets, int parts) {
  const auto rounded = [](double bytes) { return std::ceil(bytes / kAlignment) * kAlignment; };
  return rounded(each.x * sheets * groups) + rounded(each.y * sheets * groups) +
         rounded(each.w * groups) * parts;
}

// As many sheets of one group at a time as fit into the workspace, then groups.
std::string cut_chunks(Direction direction, const ConvProblem& p, const ConvRequest& request, FftPlan& plan) {
  const std::int64_t sheets = std::max<std::int64_t>(p.n * plan.sheets, 1);
  // A product over all frequencies has to fit a grid; the fused kernel has none.
  const std::int64_t countable = plan.fused ? p.groups : kMostFrequencies / plan.frequencies;
  const std::int64_t groups = std::clamp<std::int64_t>(countable, 1, std::max<std::int64_t>(p.groups, 1));
  const double spectrum = double(plan.frequencies) * complex_bytes(request.dtype);
  SpectraBytes each = {spectrum * double(p.in[0]) * double(p.c), spectrum * double(p.out[0]) * double(p.k),
                       spectrum * double(p.k) * double(p.filter[0]) * double(p.c)};
  if (plan.fused) each.x = each.y = 0;
  const int parts_of_several = direction == Direction::kWeightGrad ? 2 : 1;
  const double one = chunk_bytes(each, 1, 1, sheets > 1 ? parts_of_several : 1);
  const double least = std::min(one, chunk_bytes(each, 1, double(sheets), 1));
  const auto limit = double(request.workspace_limit);
  if (least > limit) {
    return "its least chunk of spectra takes " + std::to_string(std::int64_t(std::min(least, 9e18))) +
           " bytes of workspace, the limit is " + std::to_string(request.workspace_limit);
  }
  const double budget = std::min(limit, std::max(double(kDefaultBytes), least));
  const auto fit = [&](double bytes, double bytes_each, std::int64_t most) {
    const double count = std::floor((bytes - 4 * kAlignment) / bytes_each);
    return count >= double(most) ? most : std::max<std::int64_t>(static_cast<std::int64_t>(count), 1);
  };
  plan.sheet_chunk = sheets;
  if (chunk_bytes(each, 1, double(sheets), 1) > budget)
    plan.sheet_chunk = fit(budget - parts_of_several * each.w, each.sheet(), sheets);
  const int parts = plan.sheet_chunk < sheets ? parts_of_several : 1;
  plan.group_chunk = groups;
  if (chunk_bytes(each, double(groups), double(plan.sheet_chunk), parts) > budget)
    plan.group_chunk = fit(budget, each.w * parts + each.sheet() * double(plan.sheet_chunk), groups);
  if (plan.fused) {  // no spectra of sheets, but a grid has an end
    const std::int64_t planes = plan.group_chunk * std::max(p.c, p.k);
    plan.sheet_chunk = std::clamp<std::int64_t>(kMostPlanes / planes, 1, sheets);
  }
  const double numbers = double(plan.group_chunk) * double(plan.sheet_chunk);
  plan.x_bytes = rounded_up(static_cast<std::int64_t>(each.x * numbers));
  plan.y_bytes = rounded_up(static_cast<std::int64_t>(each.y * numbers));
  plan.w_bytes = rounded_up(static_cast<std::int64_t>(each.w * double(plan.group_chunk)));
  plan.total_bytes = plan.x_bytes + plan.y_bytes + parts * plan.w_bytes;
  return "";
}

}  // namespace

std::string plan_fft(Direction direction, const ConvProblem& p, const ConvRequest& request, FftPlan& plan) {
  if (const std::string why = refuse_sizes(direction, p); !why.empty()) return why;
  const bool rows = is_flat(p, 1);
  const bool lines = rows || is_flat(p, 2);
  const double reach = std::max(reach_of(p, 1), reach_of(p, 2));
  double best = 0;
  int longest = 0;
  bool found = false;
  const auto consider = [&](int log_side) {
    FftPlan trial = {};
    trial.axis[0] = lines && !rows ? 2 : 1;
    trial.axis[1] = 3 - trial.axis[0];
    trial.shape = shape_of(request.dtype, lines, log_side);
    const std::size_t shared = fft_shared_bytes(trial.shape, complex_bytes(request.dtype));
    if (shared > kSharedLimit || (shared > kSharedLimitTuring && compute_capability() < 80)) return;
    longest = 1 << log_side;
    if (reach > longest) return;
    lay_tiles(direction, p, request.dtype, trial);
    trial.work = work_of(p, request.dtype, trial);
    const double cost = cost_of(trial.work);
    if (found && cost >= best) return;
    plan = trial;
    best = cost;
    found = true;
  };
  if (lines) {
    for (const int log_side : kLogLines) consider(log_side);
  } else {
    for (const int log_side : kLogSides) consider(log_side);
  }
  if (!found) {
    return "its tiles have " + std::to_string(longest) +
           " elements along an axis at the most, the kernel reaches over " +
           std::to_string(std::int64_t(reach));
  }
  return cut_chunks(direction, p, request, plan);
}

Work fft_work(DType dtype, const FftPlan& plan, const Work& product) {
  Work work = {};
  work.multiply_adds = plan.work.transforms + 4 * (plan.fused ? plan.work.product : product.multiply_adds);
  if (has_complex_numbers(dtype)) work.multiply_adds /= 4;  // counted in the problem's numbers
  work.bytes = plan.work.bytes;
  work.launches = plan.fused ? 2 : 3 + product.launches;
  return work;
}

// ---- roots of unity ----

namespace {

template <typename Real>
using RootTables = std::array<FftRoots<Real>, kMostLogLength + 1>;

template <typename Real, typename Wide>
RootTables<Real> root_tables() {
  RootTables<Real> tables;
  for (int log_length = 0; log_length <= kMostLogLength; ++log_length)
    tables[log_length] = fft_roots<Real, Wide>(log_length);
  return tables;
}

const RootTables<float> kFloatRoots = root_tables<float, double>();
const RootTables<double> kDoubleRoots = root_tables<double, long double>();

}  // namespace

template <>
const FftRoots<float>& kept_fft_roots(int log_length) {
  return kFloatRoots[log_length];
}

template <>
const FftRoots<double>& kept_fft_roots(int log_length) {
  return kDoubleRoots[log_length];
}

// ---- tensors as tiles ----

namespace {

FftPlanes planes_of(const FftPlan& plan, const std::int64_t (&stride)[6], std::int64_t depth,
                    std::int64_t channels) {
  FftPlanes planes = {};
  planes.depth = depth;
  planes.channels = channels;
  planes.outer_step = stride[0];
  planes.group_step = stride[1];
  planes.channel_step = stride[2];
  planes.depth_step = stride[3];
  for (int i = 0; i < 2; ++i) {
    planes.tiles[i] = plan.tiles[i];
    planes.step[i] = stride[3 + plan.axis[i]];
  }
  return planes;
}

// Of elements so far apart, if there is a second one.
FastDivisor step_of(std::int64_t apart, std::int64_t elements) {
  return fast_divisor(elements > 1 ? apart : 1);
}

}  // namespace

FftPlanes fft_x_planes(Direction direction, const ConvProblem& p, const FftPlan& plan) {
  FftPlanes planes = planes_of(plan, p.x_stride, p.in[0], p.c);
  for (int i = 0; i < 2; ++i) {
    const int axis = plan.axis[i], before = plan.reach[i] - 1;
    FftAxisView& view = planes.view[i];
    view.extent = static_cast<int>(p.in[axis]);
    view.step = fast_divisor(1);
    view.tile_step = plan.results[i];
    view.high = before + plan.results[i];
    if (direction == Direction::kInputGrad) {  // results lie behind the kernel's reach
      view.low = view.origin = before;
    } else {
      view.origin = static_cast<int>(p.pad[axis]);
    }
  }
  return planes;
}

FftPlanes fft_y_planes(Direction direction, const ConvProblem& p, const FftPlan& plan) {
  FftPlanes planes = planes_of(plan, p.y_stride, p.out[0], p.k);
  for (int i = 0; i < 2; ++i) {
    const int axis = plan.axis[i], before = plan.reach[i] - 1;
    FftAxisView& view = planes.view[i];
    view.extent = static_cast<int>(p.out[axis]);
    view.step = step_of(p.stride[axis], p.out[axis]);
    view.tile_step = plan.results[i];
    view.high = plan.results[i];
    if (direction == Direction::kInputGrad) {
      view.origin = before - static_cast<int>(p.pad[axis]);
      view.high += before;
    }
  }
  return planes;
}

FftPlanes fft_w_planes(const ConvProblem& p, const FftPlan& plan) {
  const std::int64_t stride[] = {p.w_stride[1], p.w_stride[0], p.w_stride[2],
                                 p.w_stride[3], p.w_stride[4], p.w_stride[5]};
  FftPlanes planes = planes_of(plan, stride, p.filter[0], p.c);
  for (int i = 0; i < 2; ++i) {
    const int axis = plan.axis[i];
    planes.tiles[i] = 1;
    FftAxisView& view = planes.view[i];
    view.extent = static_cast<int>(p.filter[axis]);
    view.step = step_of(p.dilation[axis], p.filter[axis]);
    view.high = plan.reach[i];
  }
  planes.count = p.k * p.filter[0] * p.c;
  return planes;
}

ConvProblem fft_product(Direction direction, const ConvProblem& p, const FftPlan& plan, std::int64_t groups,
                        std::int64_t sheets) {
  ConvProblem q = {};
  q.n = sheets;
  q.groups = groups * plan.frequencies;
  q.c = p.c;
  q.k = p.k;
  for (int axis = 1; axis < kSpatial; ++axis) {
    q.in[axis] = q.filter[axis] = q.out[axis] = q.stride[axis] = q.dilation[axis] = 1;
  }
  q.in[0] = p.in[0];
  q.filter[0] = p.filter[0];
  q.out[0] = p.out[0];
  q.stride[0] = p.stride[0];
  q.pad[0] = p.pad[0];
  q.dilation[0] = p.dilation[0];
  // Of a sheet, or of a filter.
  const std::int64_t x = p.in[0] * p.c, y = p.out[0] * p.k, w = p.filter[0] * p.c;
  using Steps = std::int64_t[6];
  const Steps of_x = {x, sheets * x, 1, p.c, 0, 0};
  const Steps of_y = {y, sheets * y, 1, p.k, 0, 0};
  const Steps of_w = {p.k * w, w, 1, p.c, 0, 0};
  if (direction != Direction::kWeightGrad) {
    std::copy(std::begin(of_x), std::end(of_x), q.x_stride);
    std::copy(std::begin(of_y), std::end(of_y), q.y_stride);
    std::copy(std::begin(of_w), std::end(of_w), q.w_stride);
    return q;
  }
  q.n = p.c;
  q.c = sheets;
  std::swap(q.filter[0], q.out[0]);
  std::swap(q.stride[0], q.dilation[0]);
  const auto permute = [](const Steps& from, const int (&order)[3], Steps& to) {
    std::copy(std::begin(from), std::end(from), to);
    for (int i = 0; i < 3; ++i) to[i] = from[order[i]];
  };
  permute(of_x, {2, 1, 0}, q.x_stride);  // channels and sheets change places
  permute(of_y, {1, 2, 0}, q.w_stride);
  permute(of_w, {2, 0, 1}, q.y_stride);
  return q;
}

}  // namespace cuconv
