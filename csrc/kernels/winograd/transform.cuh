// The three transforms of Winograd's algorithm as kernels of their own: of filters, which both forms need,
// and of inputs and products around a batched matrix product, which make the staged form.
//
//   u[point, group, c, k] = (G w[group, k, c] G^T)[point]             one thread a filter
//   v[point, group, c, tile] = (B^T x[tile, group, c] B)[point]       one thread a tile of a channel
//   y[tile, group, k] = act(bias[k] + A^T m[point, group, k, tile] A) the same
//
// All of u, v and m are accumulators, so nothing is rounded on the way that a plain sum would keep. Filters
// and tiles are counted up to multiples of four, with zeros in the places of those that do not exist: the
// product then moves vectors. Whether channels or tiles are innermost in v and m is the launcher's choice, by
// what are neighbours in x and y.
//
// Floor: bytes. x and y once, and (m + 2)^2 / m^2 times as many accumulators written and read: 4 times with
// m = 2, 2.25 times with m = 4. Additions and multiplications, 32 or 168 for a tile's inputs and 24 or 120
// for its outputs, hide behind them.
#pragma once

#include "device/grid.cuh"
#include "kernels/epilogue.cuh"
#include "kernels/winograd/tiles.cuh"

namespace cuconv {

constexpr int kTransformThreads = 128;
// A multiprocessor's, or some instances take all the registers there are to load a whole tile at once.
template <typename T>
constexpr int kTransformBlocks = sizeof(accumulator_t<T>) == 4 ? 4 : 3;

// A thread's pair of a channel (of any group) and a tile, from a flat index.
struct ChannelTile {
  std::int64_t channel;
  std::int32_t tile;
};

// `channels_innermost`: neighbouring threads have neighbouring channels, else neighbouring tiles.
CUCONV_DEVICE ChannelTile channel_tile(std::int64_t index, std::int64_t channels, std::int32_t tiles,
                                       bool channels_innermost) {
  if (channels_innermost) {
    const std::int64_t channel = take_last(index, channels);
    return {channel, static_cast<std::int32_t>(index)};
  }
  const auto tile = static_cast<std::int32_t>(take_last(index, std::int64_t{tiles}));
  return {index, tile};
}

// ---- filters ----

template <typename T, int kOutputs>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kTransformThreads, kTransformBlocks<T>)
    winograd_filter_kernel(ConvProblem p, std::int64_t padded_k, const T* w, accumulator_t<T>* u) {
  using Line = WinogradLine<kOutputs>;
  using Acc = accumulator_t<T>;
  constexpr int kPoints = Line::kPoints;
  const std::int64_t filters = p.groups * p.c * padded_k;
  for (std::int64_t i = first_item(); i < filters; i += item_step()) {
    std::int64_t group = i;
    const std::int64_t k = take_last(group, padded_k);
    const std::int64_t c = take_last(group, p.c);
    const T* taps = w + group * p.w_stride[0] + k * p.w_stride[1] + c * p.w_stride[2];
    Acc half_done[kPoints][3];
    CUCONV_UNROLL
    for (int r = 0; r < 3; ++r) {
      Acc g[3], line[kPoints];
      CUCONV_UNROLL
      for (int s = 0; s < 3; ++s) {
        g[s] = k < p.k ? widen(taps[r * p.w_stride[4] + s * p.w_stride[5]]) : Acc{};
      }
      Line::filter(g, line);
      CUCONV_UNROLL
      for (int j = 0; j < kPoints; ++j) half_done[j][r] = line[j];
    }
    CUCONV_UNROLL
    for (int j = 0; j < kPoints; ++j) {
      Acc column[kPoints];
      Line::filter(half_done[j], column);
      CUCONV_UNROLL
      for (int r = 0; r < kPoints; ++r) u[(r * kPoints + j) * filters + i] = column[r];
    }
  }
}

// ---- inputs ----

// Tiles first, ..., first + tiles - 1; those past the last are zeros.
template <typename T, int kOutputs>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kTransformThreads, kTransformBlocks<T>)
    winograd_input_kernel(ConvProblem p, TileGrid grid, std::int32_t first, std::int32_t tiles,
                          FrequencySteps steps, bool channels_innermost, const T* x, accumulator_t<T>* v) {
  using Line = WinogradLine<kOutputs>;
  using Acc = accumulator_t<T>;
  constexpr int kPoints = Line::kPoints;
  const std::int64_t items = p.groups * p.c * tiles;
  for (std::int64_t i = first_item(); i < items; i += item_step()) {
    const ChannelTile at = channel_tile(i, p.groups * p.c, tiles, channels_innermost);
    const WinogradTile tile = winograd_tile<kOutputs>(p, grid, first + at.tile);
    std::int64_t group = at.channel;
    const std::int64_t c = take_last(group, p.c);
    const T* channel = x + group * p.x_stride[1] + c * p.x_stride[2];
    Acc half_done[kPoints][kPoints];
    CUCONV_UNROLL
    for (int r = 0; r < kPoints; ++r) {
      Acc d[kPoints], line[kPoints];
      load_line(p, channel, tile, r, d);
      Line::input(d, line);
      CUCONV_UNROLL
      for (int j = 0; j < kPoints; ++j) half_done[j][r] = line[j];
    }
    Acc* target = v + group * steps.group + c * steps.channel + at.tile * steps.tile;
    CUCONV_UNROLL
    for (int j = 0; j < kPoints; ++j) {
      Acc column[kPoints];
      Line::input(half_done[j], column);
      CUCONV_UNROLL
      for (int r = 0; r < kPoints; ++r) target[(r * kPoints + j) * steps.point] = column[r];
    }
  }
}

// ---- products ----

template <typename T, int kOutputs>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kTransformThreads, kTransformBlocks<T>)
    winograd_output_kernel(ConvProblem p, TileGrid grid, std::int32_t first, std::int32_t tiles,
                           FrequencySteps steps, bool channels_innermost, const accumulator_t<T>* m,
                           Epilogue<T> epilogue, T* y) {
  using Line = WinogradLine<kOutputs>;
  using Acc = accumulator_t<T>;
  constexpr int kPoints = Line::kPoints;
  const std::int64_t items = p.groups * p.k * tiles;
  for (std::int64_t i = first_item(); i < items; i += item_step()) {
    const ChannelTile at = channel_tile(i, p.groups * p.k, tiles, channels_innermost);
    const WinogradTile tile = winograd_tile<kOutputs>(p, grid, first + at.tile);
    std::int64_t group = at.channel;
    const std::int64_t k = take_last(group, p.k);
    const Acc* source = m + group * steps.group + k * steps.channel + at.tile * steps.tile;
    Acc half_done[kOutputs][kPoints];
    CUCONV_UNROLL
    for (int r = 0; r < kPoints; ++r) {
      Acc products[kPoints], line[kOutputs];
      CUCONV_UNROLL
      for (int j = 0; j < kPoints; ++j) products[j] = source[(r * kPoints + j) * steps.point];
      Line::output(products, line);
      CUCONV_UNROLL
      for (int j = 0; j < kOutputs; ++j) half_done[j][r] = line[j];
    }
    T* target = y + group * p.y_stride[1] + k * p.y_stride[2] + tile.y;
    CUCONV_UNROLL
    for (int j = 0; j < kOutputs; ++j) {
      Acc column[kOutputs];
      Line::output(half_done[j], column);
      CUCONV_UNROLL
      for (int i = 0; i < kOutputs; ++i) {
        if (i < tile.height && j < tile.width) {
          target[i * p.y_stride[4] + j * p.y_stride[5]] = epilogue(column[i], at.channel);
        }
      }
    }
  }
}

}  // namespace cuconv
