// Pooling of rows that lie in one piece, by tiles in shared memory:
//
//   NCHW: a row is W elements of one channel;  NHWC: W*C elements, of which taps are C apart.
//
// The window's meaning is that of max_pool.cuh and avg_pool.cuh, the simpler siblings, which take any
// strides. Here a block computes `down` rows by `across` neighbouring elements of one plane. It brings the
// rows of the input that their windows hold into shared memory, each once, 16 bytes at a time whatever the
// alignment of a row: a row keeps its place modulo 16 bytes there, and only its ends come by elements. So
// three channels, odd widths and shifted pointers are as coalesced as anything. Slices along D come one
// after the other.
//
// Floor: x read once, y (and 8 bytes a position) written once. Beyond it: the halo of a tile, (window -
// stride) of down * stride rows, mostly from the L2 cache; in 3-D every slice is read for each window that
// holds it. Positions are not computed where none are wanted. Stores are an element a thread, neighbours by
// neighbours.
#pragma once

#include "device/vec.cuh"
#include "kernels/pool/reduction.cuh"

namespace cuconv {

constexpr int kTileOutputs = 4;  // a thread

struct PoolTiles {
  std::int32_t down, across;  // a tile of the output: rows, elements of a row
  std::int32_t tiles_down, tiles_across;
  std::int32_t channels;             // planes an image: 1 where channels are interleaved
  std::int32_t length, pitch;        // of a row of y; of a row of the tile in shared memory
  FastDivisor interleave;            // elements from one position to the next
  FastDivisor across_by, chunks_by;  // `across`; vectors a row in shared memory
};

// How many elements past a multiple of 16 bytes an address is.
template <typename T>
CUCONV_DEVICE std::uint32_t elements_past(const T* address) {
  constexpr std::uint32_t kWidth = 16 / sizeof(T);
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(address) / sizeof(T)) % kWidth;
}

// `rows` rows of `length` elements; row r comes to tile + r * pitch + elements_past(its first element).
template <typename T>
CUCONV_DEVICE void load_rows(const T* first, std::int64_t step, std::int32_t rows, std::int32_t length,
                             std::int32_t pitch, const FastDivisor& chunks_by, T* tile) {
  constexpr int kWidth = 16 / int{sizeof(T)};
  const std::int32_t chunks = rows * static_cast<std::int32_t>(chunks_by.divisor);
  for (std::int32_t i = threadIdx.x; i < chunks; i += kPoolThreads) {
    std::int32_t row = i;
    const std::int32_t at = take_last(row, chunks_by) * kWidth;
    const T* source = first + row * step;
    const std::int32_t begin = at - static_cast<std::int32_t>(elements_past(source));
    T* target = tile + row * pitch + at;
    if (begin >= 0 && begin + kWidth <= length) {
      store_vec(target, load_vec<kWidth>(source + begin));
    } else {
      CUCONV_UNROLL
      for (int j = 0; j < kWidth; ++j) {
        if (begin + j >= 0 && begin + j < length) target[j] = source[begin + j];
      }
    }
  }
}

template <typename T, template <typename> typename Kind>
CUCONV_GLOBAL void CUCONV_LAUNCH_BOUNDS_FOR(kPoolThreads, 2)
    pool_tiled_kernel(PoolProblem p, PoolTiles t, const T* x, T* y, std::int64_t* indices) {
  using Reduction = Kind<T>;
  using State = typename Reduction::State;
  auto* tile = reinterpret_cast<T*>(dynamic_shared());
  const auto interleave = static_cast<std::int32_t>(t.interleave.divisor);
  const auto height = static_cast<std::int32_t>(p.in[1]);
  const auto width = static_cast<std::int32_t>(p.in[2]);

  auto n = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t first_j = take_last(n, t.tiles_across) * t.across;
  const std::int32_t first_p = take_last(n, t.tiles_down) * t.down;
  const std::int32_t z = take_last(n, static_cast<std::int32_t>(p.out[0]));
  const std::int32_t c = take_last(n, t.channels);
  const std::int32_t across = t.length - first_j < t.across ? t.length - first_j : t.across;
  const std::int32_t left_down = static_cast<std::int32_t>(p.out[1]) - first_p;
  const std::int32_t down = left_down < t.down ? left_down : t.down;

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
  const auto column = [&](std::int32_t j) {
    return static_cast<std::int32_t>(t.interleave.divide(static_cast<std::uint32_t>(j)));
  };
  const std::int32_t top = low(1, first_p), bottom = high(1, first_p + down - 1, height);
  const std::int32_t left = low(2, column(first_j)), right = high(2, column(first_j + across - 1), width);
  const std::int32_t rows = bottom > top ? bottom - top : 0;
  const std::int32_t length = right > left ? (right - left) * interleave : 0;

  const SmallTaps d = small_taps(p, 0, z);
  const T* corner = x + n * p.x_stride[0] + c * p.x_stride[1] + top * p.x_stride[3] +
                    static_cast<std::int64_t>(left) * interleave;
  State state[kTileOutputs];
  for (std::int32_t slice = d.first; slice < d.last; ++slice) {
    const std::int32_t at_d = d.start + slice * static_cast<std::int32_t>(p.dilation[0]);
    const T* first = corner + at_d * p.x_stride[2];
    load_rows(first, p.x_stride[3], rows, length, t.pitch, t.chunks_by, tile);
    __syncthreads();  // the rows have come
    CUCONV_UNROLL
    for (int i = 0; i < kTileOutputs; ++i) {
      std::int32_t out_p = threadIdx.x + i * kPoolThreads;
      const std::int32_t j = first_j + take_last(out_p, t.across_by);
      out_p += first_p;
      if (out_p >= first_p + down || j >= first_j + across) continue;
      const std::int32_t q = column(j);
      const std::int32_t lane = j - q * interleave;
      const SmallTaps h = small_taps(p, 1, out_p), w = small_taps(p, 2, q);
      for (std::int32_t r = h.first; r < h.last; ++r) {
        const std::int32_t at_h = h.start + r * static_cast<std::int32_t>(p.dilation[1]);
        const T* line = tile + (at_h - top) * t.pitch + elements_past(first + (at_h - top) * p.x_stride[3]);
        for (std::int32_t s = w.first; s < w.last; ++s) {
          const std::int32_t at_w = w.start + s * static_cast<std::int32_t>(p.dilation[2]);
          Reduction::take(state[i], widen(line[(at_w - left) * interleave + lane]),
                          (at_d * height + at_h) * width + at_w);
        }
      }
    }
    __syncthreads();  // everyone has read the rows before the next slice's come
  }

  CUCONV_UNROLL
  for (int i = 0; i < kTileOutputs; ++i) {
    std::int32_t out_p = threadIdx.x + i * kPoolThreads;
    const std::int32_t j = first_j + take_last(out_p, t.across_by);
    out_p += first_p;
    if (out_p >= first_p + down || j >= first_j + across) continue;
    const std::int32_t q = column(j);
    const WindowTaps taps{d, small_taps(p, 1, out_p), small_taps(p, 2, q)};
    const Coordinate out{n, c + j - q * interleave, {z, out_p, q}};
    y[offset_of(out, p.y_stride)] = Reduction::result(p, taps, state[i]);
    if constexpr (Reduction::kPositions) {
      indices[offset_of(out, p.index_stride)] = Reduction::position(p, taps, state[i]);
    }
  }
}

}  // namespace cuconv
