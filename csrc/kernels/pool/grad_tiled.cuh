// Gradients of pooling by tiles in shared memory, of rows that lie in one piece (tile.cuh, grad.cuh).
//
// A block writes a tile of gx. It brings the outputs whose windows meet the tile into shared memory, each
// once: what they give back as accumulators (of averages divided already), of maxima their positions, too.
// Each element of gx then adds what the windows over it have for it. Slices along D come one after the other.
//
// Floor: gy, and of maxima 8 bytes an index, read once; gx written once. Beyond it: the halo of a tile,
// (window - stride) / stride rows and columns of outputs, from the L2 cache. Stores are an element a thread,
// neighbours by neighbours.
#pragma once

#include "kernels/pool/grad.cuh"
#include "kernels/pool/tile.cuh"

namespace cuconv {

template <typename T, bool kMaxima>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kPoolThreads, 2)
    pool_grad_tiled_kernel(PoolProblem p, PoolTiles t, WindowSteps steps, FastDivisor index_chunks_by,
                           std::int32_t most_rows, const T* gy, const std::int64_t* indices, T* gx) {
  using Acc = accumulator_t<T>;
  auto* values = reinterpret_cast<Acc*>(dynamic_shared());                          // [row][element]
  auto* positions = reinterpret_cast<std::int32_t*>(values + most_rows * t.pitch);  // the same
  auto* of_rows = reinterpret_cast<SmallWindows*>(positions + (kMaxima ? most_rows * t.pitch : 0));
  auto* of_columns = of_rows + t.down;
  const auto interleave = static_cast<std::int32_t>(t.interleave.divisor);
  const auto height = static_cast<std::int32_t>(p.in[1]);
  const auto width = static_cast<std::int32_t>(p.in[2]);
  const Tile tile = tile_of_block(t, p.in);

  // The outputs whose windows meet the tile: rows [top, bottom), columns [left, right).
  const auto windows = [&](int axis, std::int32_t at) { return small_windows(p, steps, axis, at); };
  const std::int32_t first_column = t.column_of(tile.element);
  const std::int32_t last_column = t.column_of(tile.element + tile.elements - 1);
  const std::int32_t top = windows(1, tile.row).first, bottom = windows(1, tile.row + tile.rows - 1).last;
  const std::int32_t left = windows(2, first_column).first, right = windows(2, last_column).last;
  const std::int32_t rows = bottom > top ? bottom - top : 0;
  const std::int32_t length = right > left ? (right - left) * interleave : 0;

  // Each row's and column's windows, which many elements share. Complete with the first outputs.
  for (int i = threadIdx.x; i < tile.rows; i += blockDim.x) of_rows[i] = windows(1, tile.row + i);
  for (int i = threadIdx.x; i <= last_column - first_column; i += blockDim.x) {
    of_columns[i] = windows(2, first_column + i);
  }

  Acc sum[kTileOutputs] = {};
  const SmallWindows z = windows(0, tile.slice);
  for (std::int32_t slice = z.first; slice < z.last; ++slice) {
    const Coordinate corner{tile.n, tile.c, {slice, top, 0}};
    const std::int64_t start = std::int64_t{left} * interleave;
    for_each_vector(gy + offset_of(corner, p.y_stride) + start, p.y_stride[3], rows, length, t.chunks_by,
                    [&](std::int32_t row, std::int32_t at, const auto& some) {
                      Acc* target = values + row * t.pitch + at;
                      std::int64_t of_row = 1;
                      if constexpr (!kMaxima) {
                        of_row = std::int64_t{small_divisor(p, 0, slice)} * small_divisor(p, 1, top + row);
                      }
                      CUCONV_UNROLL
                      for (int j = 0; j < static_cast<int>(sizeof(some) / sizeof(T)); ++j) {
                        target[j] = widen(some.at[j]);
                        if constexpr (!kMaxima) {
                          const std::int32_t column = left + t.column_of(at + j);
                          target[j] = divide(target[j], of_row * small_divisor(p, 2, column));
                        }
                      }
                    });
    if constexpr (kMaxima) {
      const auto volume = static_cast<std::uint64_t>(p.in[0] * p.in[1] * p.in[2]);
      for_each_vector(indices + offset_of(corner, p.index_stride) + start, p.index_stride[3], rows, length,
                      index_chunks_by, [&](std::int32_t row, std::int32_t at, const auto& some) {
                        CUCONV_UNROLL
                        for (int j = 0; j < static_cast<int>(sizeof(some) / sizeof(std::int64_t)); ++j) {
                          const bool inside = static_cast<std::uint64_t>(some.at[j]) < volume;
                          positions[row * t.pitch + at + j] =
                              inside ? static_cast<std::int32_t>(some.at[j]) : -1;
                        }
                      });
    }
    __syncthreads();  // the outputs have come
    for_each_element(t, tile, [&](int i, std::int32_t row, std::int32_t column, std::int32_t lane) {
      const SmallWindows h = of_rows[row - tile.row], w = of_columns[column - first_column];
      const std::int32_t position = (tile.slice * height + row) * width + column;
      for (std::int32_t r = h.first; r < h.last; ++r) {
        for (std::int32_t s = w.first; s < w.last; ++s) {
          const std::int32_t at = (r - top) * t.pitch + (s - left) * interleave + lane;
          if (!kMaxima || positions[at] == position) sum[i] = add(sum[i], values[at]);
        }
      }
    });
    __syncthreads();  // everyone has read the outputs before the next slice's come
  }

  for_each_element(t, tile, [&](int i, std::int32_t row, std::int32_t column, std::int32_t lane) {
    const Coordinate in{tile.n, tile.c + lane, {tile.slice, row, column}};
    gx[offset_of(in, p.x_stride)] = narrow<T>(sum[i]);
  });
}

}  // namespace cuconv
