// Pooling by tiles in shared memory, of rows that lie in one piece (tile.cuh).
//
// The window's meaning is that of max_pool.cuh and avg_pool.cuh, the simpler siblings, which take any
// strides. Here a block brings the rows of the input that its outputs' windows hold into shared memory, each
// once: a row keeps its place modulo 16 bytes there, so that vectors stay vectors. Slices along D come one
// after the other.
//
// Floor: x read once, y (and 8 bytes a position) written once. Beyond it: the halo of a tile, (window -
// stride) of down * stride rows, mostly from the L2 cache; in 3-D every slice is read for each window that
// holds it. Positions are not computed where none are wanted. Stores are an element a thread, neighbours by
// neighbours.
#pragma once

#include "kernels/pool/reduction.cuh"
#include "kernels/pool/tile.cuh"

namespace cuconv {

template <typename T, template <typename> typename Kind>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kPoolThreads, 2)
    pool_tiled_kernel(PoolProblem p, PoolTiles t, const T* x, T* y, std::int64_t* indices) {
  using Reduction = Kind<T>;
  using State = typename Reduction::State;
  auto* shared = reinterpret_cast<T*>(dynamic_shared());
  const auto interleave = static_cast<std::int32_t>(t.interleave.divisor);
  const auto height = static_cast<std::int32_t>(p.in[1]);
  const auto width = static_cast<std::int32_t>(p.in[2]);
  const Tile tile = tile_of_block(t, p.out);

  // The part of the input that the tile's windows hold: rows [top, bottom), columns [left, right).
  const auto low = [&](int axis, std::int32_t out) {
    const SmallTaps taps = small_taps(p, axis, out);
    return taps.start < 0 ? 0 : taps.start;
  };
  const auto high = [&](int axis, std::int32_t out, std::int32_t size) {
    const std::int32_t end = out * static_cast<std::int32_t>(p.stride[axis]) -
                             static_cast<std::int32_t>(p.pad_low[axis]) +
                             static_cast<std::int32_t>(p.dilation[axis] * (p.window[axis] - 1)) + 1;
    return end < size ? end : size;
  };
  const std::int32_t top = low(1, tile.row), bottom = high(1, tile.row + tile.rows - 1, height);
  const std::int32_t left = low(2, t.column_of(tile.element));
  const std::int32_t right = high(2, t.column_of(tile.element + tile.elements - 1), width);
  const std::int32_t rows = bottom > top ? bottom - top : 0;
  const std::int32_t length = right > left ? (right - left) * interleave : 0;

  const SmallTaps d = small_taps(p, 0, tile.slice);
  const T* corner = x + tile.n * p.x_stride[0] + tile.c * p.x_stride[1] + top * p.x_stride[3] +
                    static_cast<std::int64_t>(left) * interleave;
  State state[kTileOutputs];
  for (std::int32_t slice = d.first; slice < d.last; ++slice) {
    const std::int32_t at_d = d.start + slice * static_cast<std::int32_t>(p.dilation[0]);
    const T* first = corner + at_d * p.x_stride[2];
    const auto line_of = [&](std::int32_t row) {  // of shared memory
      return shared + row * t.pitch + elements_past(first + row * p.x_stride[3]);
    };
    for_each_vector(
        first, p.x_stride[3], rows, length, t.chunks_by,
        [&](std::int32_t row, std::int32_t at, const auto& values) { store_vec(line_of(row) + at, values); });
    __syncthreads();  // the rows have come
    for_each_element(t, tile, [&](int i, std::int32_t out_row, std::int32_t out_column, std::int32_t lane) {
      const SmallTaps h = small_taps(p, 1, out_row), w = small_taps(p, 2, out_column);
      for (std::int32_t r = h.first; r < h.last; ++r) {
        const std::int32_t at_h = h.start + r * static_cast<std::int32_t>(p.dilation[1]);
        const T* line = line_of(at_h - top);
        State taken;
        for (std::int32_t s = w.first; s < w.last; ++s) {
          const std::int32_t at_w = w.start + s * static_cast<std::int32_t>(p.dilation[2]);
          Reduction::take(taken, widen(line[(at_w - left) * interleave + lane]),
                          (at_d * height + at_h) * width + at_w);
        }
        Reduction::merge(state[i], taken);
      }
    });
    __syncthreads();  // everyone has read the rows before the next slice's come
  }

  for_each_element(t, tile, [&](int i, std::int32_t row, std::int32_t column, std::int32_t lane) {
    const WindowTaps taps{d, small_taps(p, 1, row), small_taps(p, 2, column)};
    const Coordinate out{tile.n, tile.c + lane, {tile.slice, row, column}};
    y[offset_of(out, p.y_stride)] = Reduction::result(p, taps, state[i]);
    if constexpr (Reduction::kPositions) {
      indices[offset_of(out, p.index_stride)] = Reduction::position(p, taps, state[i]);
    }
  });
}

}  // namespace cuconv
