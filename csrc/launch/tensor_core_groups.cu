#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/implicit_gemm/tensor_core_groups.cuh"
#include "launch/capability.h"
#include "launch/conv.h"
#include "launch/gather.h"
#include "launch/tensor_core_groups.h"

namespace cuconv {
namespace {

// Leaves room for two blocks on an A100 and three on an H100.
constexpr double kGroupsSharedLimit = 72 * 1024;

// Of a multiply-add, next to the peak of an A100's tensor cores: what shared memory allows (docs/gemm.md),
// and the 0.6 of it that is expected. Tensor cores of Hopper are twice as fast, and its shared memory is not.
constexpr double kApartCost = 2.25 / 0.6;   // slots of a warp with operands of their own
constexpr double kSharedCost = 1.25 / 0.6;  // slots of one group
constexpr double kOnHopper = 2;

// Blocks of a multiprocessor, one after the other; what is left of the work they do in further turns. Few
// enough that a test reaches those.
constexpr int kBlocksEach = 8;

constexpr int kResultBytes = kGroupsRows * kResultPitch * int{sizeof(float)};

// The part of a tile that sizes decide: not the batch, not the layout.
struct Shape {
  std::int64_t outs[kSpatial];
  std::int64_t images;
  std::int64_t groups;        // of a block
  std::int64_t filter_slots;  // of a group, of all its blocks
  std::int64_t planes, chunks;
};

std::int64_t rows_of(const Shape& s) { return s.images * volume(s.outs); }

std::int64_t slots_a_group(const Shape& s) { return std::min<std::int64_t>(s.filter_slots, kSlots); }

std::int64_t halo_of(const ConvProblem& p, const Shape& s, int axis) {
  const std::int64_t between_outs = s.outs[axis] > 1 ? (s.outs[axis] - 1) * p.stride[axis] : 0;
  const std::int64_t between_taps = p.filter[axis] > 1 ? (p.filter[axis] - 1) * p.dilation[axis] : 0;
  return between_outs + between_taps + 1;
}

// In bytes, and in floating point: what does not fit may be any number.
struct Shared {
  double operands, tables;
  double bytes() const { return std::max(operands, double(kResultBytes)) + tables; }
};

std::int64_t slots_of(const Shape& s) { return ceil_div(s.groups * slots_a_group(s), 2) * 2; }

Shared shared_of(const ConvProblem& p, const Shape& s) {
  const double halo = double(halo_of(p, s, 0)) * double(halo_of(p, s, 1)) * double(halo_of(p, s, 2));
  const double positions = double(s.images) * halo + 1;  // the pitch is odd
  const double chunks = double(s.chunks) + 1;            // and chunks are even
  return {double(s.groups) * double(s.planes) * positions * kRowBytes +
              double(slots_of(s)) * chunks * kFilterBytes,
          double(sizeof(GroupsTables)) + chunks * sizeof(int)};
}

Shape shape_of(const ConvProblem& p) {
  const auto evenly = [](std::int64_t size, std::int64_t most) {
    size = std::max<std::int64_t>(size, 1);
    return ceil_div(size, ceil_div(size, most));
  };
  Shape s = {};
  s.planes = ceil_div(p.c, kChunk);
  s.chunks = s.planes * volume(p.filter);
  s.filter_slots = std::max<std::int64_t>(ceil_div(p.k, kChunk), 1);
  s.groups = std::clamp<std::int64_t>(kSlots / std::max(s.planes, s.filter_slots), 1,
                                      std::max<std::int64_t>(p.groups, 1));
  // A square of outputs where there are rows to share.
  s.outs[2] = evenly(p.out[2], p.out[0] * p.out[1] > 1 ? 16 : kGroupsRows);
  s.outs[1] = evenly(p.out[1], kGroupsRows / s.outs[2]);
  s.outs[0] = evenly(p.out[0], kGroupsRows / (s.outs[1] * s.outs[2]));
  const bool whole_planes = std::equal(std::begin(s.outs), std::end(s.outs), std::begin(p.out));
  s.images = whole_planes ? kGroupsRows / volume(s.outs) : 1;  // whatever the batch: it must not decide
  while (shared_of(p, s).bytes() > kGroupsSharedLimit && (s.groups > 1 || rows_of(s) > 1)) {
    std::int64_t& longest = *std::max_element(std::begin(s.outs), std::end(s.outs));
    std::int64_t& less = s.groups > 1 ? s.groups : s.images > 1 ? s.images : longest;
    less = (less + 1) / 2;
  }
  return s;
}

// How many elements are moved at a time: neighbours along one axis, of which every step along others keeps
// the alignment.
int width_of(const void* address, const std::int64_t (&stride)[6], const std::int64_t (&size)[6],
             int channel_axis) {
  for (const int width : {kChunk, kChunk / 2}) {
    bool fits = stride[channel_axis] == 1 && size[channel_axis] % width == 0 &&
                reinterpret_cast<std::uintptr_t>(address) % (2 * std::uintptr_t(width)) == 0;
    for (int axis = 0; axis < 6; ++axis) {
      if (axis != channel_axis && size[axis] > 1) fits = fits && stride[axis] % width == 0;
    }
    if (fits) return width;
  }
  return 1;
}

template <typename T>
void run_as(const ConvProblem& p, const ConvArguments& args) {
  const Shape s = shape_of(p);
  GroupTiles t = {};
  for (int axis = 0; axis < kSpatial; ++axis) {
    t.tiles[axis] = ceil_div(p.out[axis], s.outs[axis]);
    t.outs[axis] = static_cast<int>(s.outs[axis]);
    t.halo[axis] = static_cast<int>(halo_of(p, s, axis));
    t.out_step[axis] = s.outs[axis] > 1 ? static_cast<int>(p.stride[axis]) : 0;
    t.tap_step[axis] = p.filter[axis] > 1 ? static_cast<int>(p.dilation[axis]) : 0;
    t.outs_by[axis] = fast_divisor(t.outs[axis]);
    t.halo_by[axis] = fast_divisor(t.halo[axis]);
    t.taps_by[axis] = fast_divisor(std::max<std::int64_t>(p.filter[axis], 1));
  }
  t.group_tiles = ceil_div(p.groups, s.groups);
  t.slot_tiles = ceil_div(s.filter_slots, slots_a_group(s));
  t.images = std::min(s.images, p.n);
  t.blocks = ceil_div(p.n, t.images) * volume(t.tiles) * t.group_tiles * t.slot_tiles;
  t.groups = static_cast<int>(s.groups);
  t.rows = static_cast<int>(t.images * volume(s.outs));
  t.positions = static_cast<int>(t.images) * t.halo[0] * t.halo[1] * t.halo[2];
  t.planes = static_cast<int>(s.planes);
  t.plane_pitch = t.positions | 1;
  t.chunks = static_cast<int>(s.chunks);
  t.chunk_pairs = static_cast<int>(ceil_div(s.chunks, 2));
  t.planes_by = fast_divisor(std::max(t.planes, 1));
  t.block_planes_by = fast_divisor(std::max(t.groups * t.planes, 1));
  t.positions_by = fast_divisor(t.positions);
  t.slots_by = fast_divisor(slots_a_group(s));
  t.filter_chunks_by = fast_divisor(std::max(2 * t.chunk_pairs, 1));
  t.slots_a_group = static_cast<int>(slots_a_group(s));
  t.slots = static_cast<int>(slots_of(s));

  const std::int64_t x_size[] = {p.n, p.groups, p.c, p.in[0], p.in[1], p.in[2]};
  const std::int64_t w_size[] = {p.groups, p.k, p.c, p.filter[0], p.filter[1], p.filter[2]};
  const std::int64_t y_size[] = {p.n, p.groups, p.k, p.out[0], p.out[1], p.out[2]};
  t.x_width = width_of(args.a, p.x_stride, x_size, 2);
  t.y_width = width_of(args.out, p.y_stride, y_size, 2);
  const int by_channels = width_of(args.b, p.w_stride, w_size, 2);
  const int by_filters = width_of(args.b, p.w_stride, w_size, 1);
  t.w_by_filters = by_filters > by_channels;
  t.w_width = std::max(by_channels, by_filters);
  t.x_by_positions = p.x_stride[5] == 1 && t.x_width == 1;
  t.y_by_outputs = p.y_stride[5] == 1 && t.y_width == 1;

  t.filters_at = t.groups * t.planes * t.plane_pitch * kRowBytes;
  const int filter_bytes = t.slots * 2 * t.chunk_pairs * kFilterBytes;
  t.tables_at = std::max(t.filters_at + filter_bytes, kResultBytes);
  const std::size_t bytes = t.tables_at + sizeof(GroupsTables) + 2 * t.chunk_pairs * sizeof(int);
  launch("implicit_gemm_tensor_core_groups", implicit_gemm_tensor_core_groups_kernel<T>,
         {{std::min<std::int64_t>(t.blocks, kBlocksEach * multiprocessors())}, {kGroupsThreads}, bytes},
         args.stream, p, t, static_cast<const T*>(args.a), static_cast<const T*>(args.b),
         epilogue_of<T>(args), static_cast<T*>(args.out));
}

}  // namespace

Suitability TensorCoreGroups::suits(const ConvProblem& p, const ConvRequest& request) {
  constexpr int kLeastCapability = 80;
  if (const int capability = compute_capability(); capability < kLeastCapability) {
    return {"it needs compute capability " + std::to_string(kLeastCapability) + ", this device has " +
                std::to_string(capability),
            0, 0};
  }
  if (request.dtype != DType::kFloat16 && request.dtype != DType::kBfloat16) {
    return {std::string("it takes float16 and bfloat16, not ") + name_of(request.dtype), 0, 0};
  }
  if (const std::string why = refuse_indices(Direction::kForward, p); !why.empty()) return {why, 0, 0};
  if (double(p.filter[0]) * double(p.filter[1]) * double(p.filter[2]) > double(kMostIndices)) {
    return {"it counts taps to 2^30 at the most", 0, 0};
  }
  const Shape s = shape_of(p);
  if (const double bytes = shared_of(p, s).bytes(); bytes > kGroupsSharedLimit) {
    return {"a group's filters and the part of x under them take " + std::to_string(bytes / 1024) +
                " KiB of shared memory, the limit is " + std::to_string(int(kGroupsSharedLimit / 1024)) +
                " KiB",
            0, 0};
  }
  double rows = kGroupsRows / double(s.images);  // of one image
  for (int axis = 0; axis < kSpatial; ++axis) rows *= double(ceil_div(p.out[axis], s.outs[axis]));
  const double cost = s.filter_slots % 2 == 0 ? kSharedCost : kApartCost;
  const double products =
      double(p.groups) * double(s.filter_slots) * kChunk * rows * double(ceil_div(s.chunks, 2)) * 2 * kChunk;
  return {"", 0, {products * cost * (compute_capability() >= 90 ? kOnHopper : 1), Unit::kTensorCores}};
}

void TensorCoreGroups::run(const ConvProblem& p, const ConvArguments& args) {
  if (outputs_of(p) == 0) return;
  if (args.request.dtype == DType::kFloat16) {
    run_as<half_t>(p, args);
  } else {
    run_as<bfloat16_t>(p, args);
  }
}

}  // namespace cuconv
