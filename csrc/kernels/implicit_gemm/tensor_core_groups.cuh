// Grouped convolution with few channels a group, on tensor cores, for float16 and bfloat16:
//
//   y[n,g,k,o] = act(bias[g,k] + sum over t, c of x[n, g, c, o*stride - pad + t*dilation] * w[g,k,c,t])
//
// The sibling of implicit_gemm/tensor_core.cuh, whose tile has filters of one group: four or eight of them
// leave most of it empty, and each tap fetches x anew. Here a block computes a tile of outputs, 128 at the
// most, for several neighbouring groups, eight *slots* of eight filters: all that a mma has columns for.
//
// x comes to shared memory once, with the border that taps reach, in chunks of 8 channels of one group (16
// bytes; zeros where a group has fewer): [plane of chunks][position]. A row of a left operand is such a
// chunk, and ldmatrix takes the address of each row, so an output's chunk under a tap is found where it lies:
// nothing is lowered. The 16 terms of a mma are two chunks, of two taps where a group has one plane. Filters
// lie [slot][chunk of the sum][8 rows of 16 bytes]: filters by channels, or channels by filters where that is
// what 16 bytes in memory hold (input gradients on channels last), which ldmatrix turns over. In both the
// eight rows that it reads at a time are side by side: no bank conflicts. Results leave through shared
// memory, so that neighbours are stored by neighbouring threads.
//
// Zeros stand for a missing chunk, channel or filter in x, never some number times a weight of zero: what is
// not finite touches no sum that it does not belong to.
//
// Floor: x, w and y once; a mma for 16 outputs, 8 filters, 2 chunks. A warp has 4 x 2 mma: 9 ldmatrix for
// eight, 5 where two slots are of one group.
//
// A sum runs over taps, for each over its planes.
#pragma once

#include <cstddef>

#include "device/cp_async.cuh"
#include "device/index.cuh"
#include "device/mma_sm75.cuh"
#include "device/mma_sm80.cuh"
#include "device/numeric.cuh"
#include "device/vec.cuh"
#include "kernels/epilogue.cuh"
#include "problem.h"

namespace cuconv {

constexpr int kGroupsThreads = 256;
constexpr int kGroupsRows = 128;  // of a tile: outputs
constexpr int kSlots = 8;         // of a block, each of kChunk filters
constexpr int kChunk = 8;         // elements of 16 bits in 16 bytes
constexpr int kRowBytes = 16;
constexpr int kFilterBytes = (kChunk + 1) * kRowBytes;  // of a chunk of a slot, skewed by a bank group
constexpr int kResultPitch = (kSlots + 1) * kChunk;     // sums of a row, skewed as well

struct GroupTiles {
  std::int64_t blocks;            // all there are
  std::int64_t tiles[kSpatial];   // along each axis
  std::int64_t images;            // of a tile: several where planes are small
  std::int64_t group_tiles;       // of `groups`
  std::int64_t slot_tiles;        // of a group with more filters than a block has slots for
  int groups;                     // of a block
  int rows, positions;            // outputs of a tile, and what lies under them
  int outs[kSpatial];             // along each axis
  int halo[kSpatial];             //
  int out_step[kSpatial];         // positions from output to output
  int tap_step[kSpatial];         // from tap to tap
  int planes;                     // of a group
  int plane_pitch;                // in chunks: odd, so that planes begin in different banks
  int chunks, chunk_pairs;        // of a sum
  FastDivisor outs_by[kSpatial];  //
  FastDivisor halo_by[kSpatial];  //
  FastDivisor taps_by[kSpatial];  //
  FastDivisor planes_by, block_planes_by, positions_by;
  FastDivisor slots_by;               // of a group in this block
  FastDivisor filter_chunks_by;       // of a slot, 2 * chunk_pairs
  int slots_a_group, slots;           // in this block; of all its groups, made even
  int x_width, w_width, y_width;      // neighbours moved at a time: 8, 4 or 1
  bool w_by_filters;                  // neighbours in w are filters
  bool x_by_positions, y_by_outputs;  // neighbours in x and y are not channels
  int filters_at, tables_at;          // in shared memory, in bytes
};

// Eight elements to shared memory, of which `count` exist (none, or fewer than none): zeros for the others.
template <typename T>
CUCONV_DEVICE void bring_chunk(std::byte* target, const T* from, std::int64_t step, std::int64_t count,
                               int width) {
  if (width == kChunk) {
    cp_async<16>(target, from, count > 0);
  } else if (width == kChunk / 2) {
    cp_async<8>(target, from, count > 0);
    cp_async<8>(target + 8, count > 4 ? from + 4 : nullptr, count > 4);
  } else {
    Vec<T, kChunk> values{};
    CUCONV_UNROLL
    for (int i = 0; i < kChunk; ++i) {
      if (i < count) values.at[i] = from[i * step];
    }
    store_vec(reinterpret_cast<T*>(target), values);
  }
}

// What a block computes.
struct GroupsBlock {
  std::int64_t image;         // its first
  std::int64_t group, slot;   // its first group, and first slot of that
  std::int64_t at[kSpatial];  // first output
};

// Blocks side by side read neighbouring channels of the same positions.
CUCONV_DEVICE GroupsBlock groups_block(const GroupTiles& t, std::int64_t index) {
  GroupsBlock block;
  block.slot = take_last(index, t.slot_tiles) * kSlots;
  block.group = take_last(index, t.group_tiles) * t.groups;
  CUCONV_UNROLL
  for (int axis = kSpatial - 1; axis >= 0; --axis) {
    block.at[axis] = take_last(index, t.tiles[axis]) * t.outs[axis];
  }
  block.image = index * t.images;
  return block;
}

// Of a block's slots.
struct Slot {
  std::int64_t of, filter;  // group and first filter in the problem
  std::int64_t count;       // of filters, those of the slots behind as well; none past the last
};

CUCONV_DEVICE Slot slot_of(const ConvProblem& p, const GroupTiles& t, const GroupsBlock& block, int index) {
  std::int32_t group = index;
  const std::int32_t within = take_last(group, t.slots_by);
  Slot slot{block.group + group, (block.slot + within) * kChunk, 0};
  if (group < t.groups && slot.of < p.groups) slot.count = p.k - slot.filter;
  return slot;
}

template <typename T>
CUCONV_DEVICE void bring_positions(const ConvProblem& p, const GroupTiles& t, const GroupsBlock& block,
                                   const T* x, std::byte* planes) {
  std::int64_t start[kSpatial];
  CUCONV_UNROLL
  for (int axis = 0; axis < kSpatial; ++axis) start[axis] = block.at[axis] * p.stride[axis] - p.pad[axis];
  const int items = t.groups * t.planes * t.positions;
  for (int item = threadIdx.x; item < items; item += kGroupsThreads) {
    std::int32_t plane = item, position = item;
    if (t.x_by_positions) {
      position = take_last(plane, t.positions_by);
    } else {
      plane = take_last(position, t.block_planes_by);
    }
    std::byte* target = planes + (plane * t.plane_pitch + position) * kRowBytes;
    std::int32_t group = plane;
    const std::int64_t channel = take_last(group, t.planes_by) * kChunk;
    const std::int64_t w = start[2] + take_last(position, t.halo_by[2]);
    const std::int64_t h = start[1] + take_last(position, t.halo_by[1]);
    const std::int64_t d = start[0] + take_last(position, t.halo_by[0]);
    const std::int64_t image = block.image + position;
    const bool inside = image < p.n && block.group + group < p.groups && d >= 0 && d < p.in[0] && h >= 0 &&
                        h < p.in[1] && w >= 0 && w < p.in[2];
    const T* from = nullptr;
    if (inside) {
      from = x + image * p.x_stride[0] + (block.group + group) * p.x_stride[1] + channel * p.x_stride[2] +
             d * p.x_stride[3] + h * p.x_stride[4] + w * p.x_stride[5];
    }
    bring_chunk(target, from, p.x_stride[2], inside ? p.c - channel : 0, t.x_width);
  }
}

template <typename T>
CUCONV_DEVICE void bring_filters(const ConvProblem& p, const GroupTiles& t, const GroupsBlock& block,
                                 const T* w, std::byte* filters) {
  const int items = t.slots * kChunk * 2 * t.chunk_pairs;
  for (int item = threadIdx.x; item < items; item += kGroupsThreads) {
    std::int32_t rest = item;
    const std::int32_t chunk = take_last(rest, t.filter_chunks_by);
    const int row = rest % kChunk;
    const int index = rest / kChunk;
    std::byte* target = filters + (index * 2 * t.chunk_pairs + chunk) * kFilterBytes + row * kRowBytes;
    const Slot slot = slot_of(p, t, block, index);
    std::int32_t tap = chunk;
    std::int64_t channel = take_last(tap, t.planes_by) * kChunk;
    const std::int64_t filter = slot.filter + (t.w_by_filters ? 0 : row);
    channel += t.w_by_filters ? row : 0;
    const bool exists = slot.count > 0 && chunk < t.chunks && channel < p.c && filter < p.k;
    const std::int32_t s = take_last(tap, t.taps_by[2]);
    const std::int32_t r = take_last(tap, t.taps_by[1]);
    const T* from = nullptr;
    if (exists) {
      from = w + slot.of * p.w_stride[0] + filter * p.w_stride[1] + channel * p.w_stride[2] +
             tap * p.w_stride[3] + r * p.w_stride[4] + s * p.w_stride[5];
    }
    const std::int64_t count = t.w_by_filters ? p.k - filter : p.c - channel;
    bring_chunk(target, from, p.w_stride[t.w_by_filters ? 1 : 2], exists ? count : 0, t.w_width);
  }
}

// Offsets that all blocks and threads share, in bytes from where the planes begin. They come from shared
// memory for what comes from there is not worked out anew in the inner loop.
constexpr int kChunkInts = kRowBytes / int{sizeof(int)};
struct alignas(kRowBytes) GroupsTables {
  int plane[kSlots];      // of each slot's group
  int row[kGroupsRows];   // of what lies under an output, from its group's first plane; row 0 past the last
  int zeros[kChunkInts];  // a chunk
  // Behind it: of the chunks of a sum, under the first output, or kNoChunk for the one that makes them even.
  CUCONV_DEVICE int* chunks() { return reinterpret_cast<int*>(this + 1); }
};
constexpr int kNoChunk = -1;

CUCONV_DEVICE void make_tables(const GroupTiles& t, GroupsTables& tables) {
  const int thread = threadIdx.x;
  if (thread < kSlots) {
    const int group = thread / t.slots_a_group;
    tables.plane[thread] = group < t.groups ? group * t.planes * t.plane_pitch * kRowBytes : 0;
  }
  if (thread < kChunkInts) tables.zeros[thread] = 0;
  if (thread < kGroupsRows) {
    std::int32_t image = thread < t.rows ? thread : 0;
    const std::int32_t q = take_last(image, t.outs_by[2]);
    const std::int32_t p = take_last(image, t.outs_by[1]);
    const std::int32_t z = take_last(image, t.outs_by[0]);
    const int line = (image * t.halo[0] + z * t.out_step[0]) * t.halo[1] + p * t.out_step[1];
    tables.row[thread] = (line * t.halo[2] + q * t.out_step[2]) * kRowBytes;
  }
  for (int chunk = thread; chunk < 2 * t.chunk_pairs; chunk += kGroupsThreads) {
    std::int32_t tap = chunk;
    const std::int32_t plane = take_last(tap, t.planes_by);
    const std::int32_t s = take_last(tap, t.taps_by[2]);
    const std::int32_t r = take_last(tap, t.taps_by[1]);
    const int line = tap * t.tap_step[0] * t.halo[1] + r * t.tap_step[1];
    const int position = line * t.halo[2] + s * t.tap_step[2];
    tables.chunks()[chunk] = chunk < t.chunks ? (plane * t.plane_pitch + position) * kRowBytes : kNoChunk;
  }
}

// The sums of a warp: four mma down, of every other 16 rows, and one for each of two slots across.
struct GroupSums {
  static constexpr int kDown = 4;

  float sum[kDown][2][4] = {};

  CUCONV_DEVICE static int first_row(int i) { return (2 * i + threadIdx.x / 32 % 2) * 16; }
  CUCONV_DEVICE static int first_slot() { return threadIdx.x / 64 * 2; }

  // Of two slots that lie at `filters`, the second of another group where they are apart.
  template <bool kApart, typename T>
  CUCONV_DEVICE void multiply(const GroupTiles& t, GroupsTables& tables, const std::byte* planes,
                              const std::byte* filters, T type) {
    const int lane = threadIdx.x % 32;
    const std::byte* zeros = reinterpret_cast<const std::byte*>(tables.zeros);
    const int* chunk = tables.chunks() + lane / 16;
    const int second = tables.plane[first_slot() + 1] - tables.plane[first_slot()];
    planes += tables.plane[first_slot()];
    int row[kDown];  // of the lane, in each left operand
    CUCONV_UNROLL
    for (int i = 0; i < kDown; ++i) row[i] = tables.row[first_row(i) + lane % 16];
    filters += (lane / 8 % 2 + lane / 16 * 2 * t.chunk_pairs) * kFilterBytes + lane % 8 * kRowBytes;
    for (int pair = 0; pair < t.chunk_pairs; ++pair, chunk += 2, filters += 2 * kFilterBytes) {
      std::uint32_t b[4];
      if (t.w_by_filters) {
        ldmatrix_x4_trans(b, filters);
      } else {
        ldmatrix_x4(b, filters);
      }
      const bool exists = *chunk != kNoChunk;
      const std::byte* under = planes + *chunk;
      std::uint32_t a[kDown][4];
      CUCONV_UNROLL
      for (int i = 0; i < kDown; ++i) ldmatrix_x4(a[i], exists ? under + row[i] : zeros);
      CUCONV_UNROLL
      for (int i = 0; i < kDown; ++i) mma_m16n8k16(sum[i][0], a[i], {b[0], b[1]}, type);
      if constexpr (kApart) {
        CUCONV_UNROLL
        for (int i = 0; i < kDown; ++i) ldmatrix_x4(a[i], exists ? under + second + row[i] : zeros);
      }
      CUCONV_UNROLL
      for (int i = 0; i < kDown; ++i) mma_m16n8k16(sum[i][1], a[i], {b[2], b[3]}, type);
    }
  }

  // To shared memory, [row][slot][filter].
  CUCONV_DEVICE void store(float* results) const {
    const int lane = threadIdx.x % 32;
    CUCONV_UNROLL
    for (int i = 0; i < kDown; ++i) {
      CUCONV_UNROLL
      for (int half = 0; half < 2; ++half) {
        float* row = results + (first_row(i) + half * 8 + lane / 4) * kResultPitch + lane % 4 * 2;
        CUCONV_UNROLL
        for (int j = 0; j < 2; ++j) {
          store_vec(row + (first_slot() + j) * kChunk,
                    Vec<float, 2>{sum[i][j][2 * half], sum[i][j][2 * half + 1]});
        }
      }
    }
  }
};

template <typename T>
CUCONV_DEVICE void store_results(const ConvProblem& p, const GroupTiles& t, const GroupsBlock& block,
                                 const float* results, const Epilogue<T>& epilogue, T* y) {
  for (int item = threadIdx.x; item < t.rows * kSlots; item += kGroupsThreads) {
    std::int32_t image = t.y_by_outputs ? item % t.rows : item / kSlots;
    const int index = t.y_by_outputs ? item / t.rows : item % kSlots;
    const Slot slot = slot_of(p, t, block, index);
    const float* sums = results + image * kResultPitch + index * kChunk;
    const std::int64_t w = block.at[2] + take_last(image, t.outs_by[2]);
    const std::int64_t h = block.at[1] + take_last(image, t.outs_by[1]);
    const std::int64_t d = block.at[0] + take_last(image, t.outs_by[0]);
    const std::int64_t n = block.image + image;
    if (slot.count <= 0 || n >= p.n || d >= p.out[0] || h >= p.out[1] || w >= p.out[2]) continue;
    const std::int64_t offset = n * p.y_stride[0] + slot.of * p.y_stride[1] + slot.filter * p.y_stride[2] +
                                d * p.y_stride[3] + h * p.y_stride[4] + w * p.y_stride[5];
    const std::int64_t channel = slot.of * p.k + slot.filter;
    // Of missing filters something that nobody stores.
    Vec<std::uint32_t, 4> words{};
    CUCONV_UNROLL
    for (int i = 0; i < kChunk; ++i) {
      const T value = epilogue(sums[i], channel + (i < slot.count ? i : 0));
      words.at[i / 2] |= std::uint32_t{value.bits} << 16 * (i % 2);
    }
    // Words, and vectors counted from y: nvcc stores others in pieces.
    if (t.y_width == kChunk) {
      reinterpret_cast<Vec<std::uint32_t, 4>*>(y)[offset / 8] = words;
    } else if (t.y_width == kChunk / 2) {
      auto* halves = reinterpret_cast<Vec<std::uint32_t, 2>*>(y) + offset / 4;
      halves[0] = {words.at[0], words.at[1]};
      if (slot.count > 4) halves[1] = {words.at[2], words.at[3]};
    } else {
      CUCONV_UNROLL
      for (int i = 0; i < kChunk; ++i) {
        const auto bits = static_cast<std::uint16_t>(words.at[i / 2] >> 16 * (i % 2));
        if (i < slot.count) y[offset + i * p.y_stride[2]] = T{bits};
      }
    }
  }
}

template <typename T>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kGroupsThreads, 3)
    implicit_gemm_tensor_core_groups_kernel(ConvProblem p, GroupTiles t, const T* x, const T* w,
                                            Epilogue<T> epilogue, T* y) {
  std::byte* planes = dynamic_shared();
  std::byte* filters = planes + t.filters_at;
  GroupsTables& tables = *reinterpret_cast<GroupsTables*>(planes + t.tables_at);
  float* results = reinterpret_cast<float*>(planes);  // in place of the operands

  make_tables(t, tables);
  for (std::int64_t index = blockIdx.x; index < t.blocks; index += gridDim.x) {
    const GroupsBlock block = groups_block(t, index);
    bring_positions(p, t, block, x, planes);
    bring_filters(p, t, block, w, filters);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();  // the operands have come for everybody

    GroupSums sums;
    const int first = GroupSums::first_slot();
    const std::byte* of_slots = filters + first * 2 * t.chunk_pairs * kFilterBytes;
    if (first < t.slots) {
      if (tables.plane[first] != tables.plane[first + 1]) {
        sums.multiply<true>(t, tables, planes, of_slots, T{});
      } else {
        sums.multiply<false>(t, tables, planes, of_slots, T{});
      }
    }
    __syncthreads();  // nobody needs the operands any more
    sums.store(results);
    __syncthreads();  // the results are complete
    store_results(p, t, block, results, epilogue, y);
    __syncthreads();  // the next operands may take their place
  }
}

}  // namespace cuconv
