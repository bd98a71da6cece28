// Tiles in shared memory: loaded from a tensor, transformed along both axes, transformed back, stored.
//
// Complex tiles have a row of shared memory for each of theirs. Of real ones, two rows share one, as the real
// and imaginary parts of complex numbers: half of the rows' transforms, and half of the memory. Behind the
// rows' transform they are told apart in place: z = a + ib has a^[f] = (z^[f] + z^[-f]*) / 2 and ib^[f] = the
// other half, which take the places of z^[f] and z^[-f]. Their frequencies -f follow from f and are left out.
// Column 0 and the middle one (position 1) are real, and share a complex column as the rows did; they are
// told apart when spectra are stored.
//
// So a real tile has slots of columns 0 ... width/2 - 1, of which slot 0 holds two, and
// height * (width / 2 + 1) frequencies: slot s, row u at s * height + u, the middle column behind all others.
//
// The source of the packing: W. Press et al., Numerical Recipes, 3rd ed., 2007, section 12.3 (two real
// transforms at once).
#pragma once

#include "device/bits.cuh"
#include "device/index.cuh"
#include "device/numeric.cuh"
#include "kernels/fft/elements.cuh"
#include "kernels/fft/passes.cuh"
#include "kernels/fft/tile.h"

namespace cuconv {

constexpr int kFftThreads = 256;  // at the most

// Where frequency -f lies, in bit-reversed order: what is below the highest bit of f's position is inverted.
CUCONV_DEVICE int partner_of(int position) {
  return position == 0 ? 0 : position ^ ((1 << highest_bit(position)) - 1);
}

// The position of slot s > 0 of a real tile's columns, one of each pair of partners: 2, 4, 5, 8, 9, 10, ...
CUCONV_DEVICE int column_of(int slot) { return slot + (1 << highest_bit(slot)); }

template <typename Acc>
struct FftTile {
  using Real = typename Spectrum<Acc>::Real;
  using Complex = complex_t<Real>;
  static constexpr bool kHalf = Spectrum<Acc>::kHalf;

  const FftShape& shape;
  Complex* data;
  FftTable<Real> table;
  FftPlane* planes;

  // Shared memory as fft_shared_bytes() counts it: tiles, roots, planes.
  CUCONV_DEVICE FftTile(const FftShape& shape, const FftRoots<Real>& roots) : shape(shape) {
    data = reinterpret_cast<Complex*>(dynamic_shared());
    Complex* copied = data + (shape.tile_step << shape.log_tiles);
    planes = reinterpret_cast<FftPlane*>(copied + kFineRoots + kCoarseRoots);
    for (int i = threadIdx.x; i < kFineRoots + kCoarseRoots; i += blockDim.x) {
      copied[i] = i < kFineRoots ? roots.fine[i] : roots.coarse[i - kFineRoots];
    }
    table = {copied, shape.log_width};
  }

  CUCONV_DEVICE int tiles() const { return 1 << shape.log_tiles; }

  // ---- from and to a tensor ----

  // The block's planes, from `first` on; each serves `uses` of the block's tiles. A barrier must follow.
  CUCONV_DEVICE void find_planes(const FftPlanes& p, std::int64_t group, std::int64_t first,
                                 std::int64_t uses = 1) {
    for (int i = threadIdx.x; i < tiles(); i += blockDim.x)
      planes[i] = plane_of(p, group, (first + i) / uses);
  }

  CUCONV_DEVICE FftPlane plane_of(const FftPlanes& p, std::int64_t group, std::int64_t m) const {
    FftPlane plane = {};
    plane.exists = m < p.count;
    const std::int64_t c = take_last(m, p.channels);
    const std::int64_t d = take_last(m, p.depth);
    std::int64_t sheet = p.sheet_begin + m;
    const int across = shape.lines ? (p.tiles[1] + 1) / 2 : p.tiles[1];
    plane.tile[1] = static_cast<int>(take_last(sheet, static_cast<std::int64_t>(across)));
    plane.tile[0] = static_cast<int>(take_last(sheet, static_cast<std::int64_t>(p.tiles[0])));
    plane.offset = sheet * p.outer_step + group * p.group_step + d * p.depth_step + c * p.channel_step;
    plane.channel = c;
    return plane;
  }

  // Whether the tensor has an element at a position of a tile, and its offset.
  CUCONV_DEVICE bool element_at(const FftPlanes& p, const FftPlane& plane, int row, int column,
                                std::int64_t& offset) const {
    const int stretch = 2 * plane.tile[1] + row;
    const int across = shape.lines ? stretch : plane.tile[1];
    if (!plane.exists || across >= p.tiles[1]) return false;
    const int h = p.view[0].element(plane.tile[0], shape.lines ? 0 : row);
    const int w = p.view[1].element(across, column);
    offset = plane.offset + h * p.step[0] + w * p.step[1];
    return h >= 0 && w >= 0;
  }

  struct Place {
    int tile, row, column;
  };
  // Neighbouring threads take neighbouring elements of a row, or of planes where channels are innermost.
  CUCONV_DEVICE Place place_of(int item, bool channels_innermost) const {
    Place at;
    if (channels_innermost) {
      at.tile = item & (tiles() - 1);
      item >>= shape.log_tiles;
    }
    at.column = item & ((1 << shape.log_width) - 1);
    item >>= shape.log_width;
    at.row = item & ((1 << shape.log_height) - 1);
    if (!channels_innermost) at.tile = item >> shape.log_height;
    return at;
  }
  CUCONV_DEVICE int items() const { return 1 << (shape.log_tiles + shape.log_height + shape.log_width); }

  CUCONV_DEVICE Acc& number_at(const Place& at) const {
    const int row = kHalf ? at.row >> 1 : at.row;
    Complex& found = data[at.tile * shape.tile_step + row * shape.pitch + skewed(at.column)];
    if constexpr (kHalf) {
      return at.row & 1 ? found.im : found.re;
    } else {
      return found;
    }
  }

  CUCONV_DEVICE void load(const FftPlanes& p, const void* x, DType dtype, bool conjugated) {
    const bool channels_innermost = p.channel_step == 1;
    for (int i = threadIdx.x; i < items(); i += blockDim.x) {
      const Place at = place_of(i, channels_innermost);
      std::int64_t offset;
      const bool there = element_at(p, planes[at.tile], at.row, at.column, offset);
      number_at(at) = there ? conjugate_if(load_element<Acc>(x, offset, dtype), conjugated) : Acc{};
    }
    __syncthreads();  // the tiles have come
  }

  CUCONV_DEVICE void store(const FftPlanes& p, std::int64_t group, const FftResult& result, DType dtype) {
    const bool channels_innermost = p.channel_step == 1;
    const Real factor = Real{1} / static_cast<Real>(1 << (shape.log_height + shape.log_width));
    for (int i = threadIdx.x; i < items(); i += blockDim.x) {
      const Place at = place_of(i, channels_innermost);
      std::int64_t offset;
      if (element_at(p, planes[at.tile], at.row, at.column, offset)) {
        const std::int64_t channel = group * p.channels + planes[at.tile].channel;
        store_result(result, dtype, offset, channel, scale(number_at(at), factor));
      }
    }
  }

  // ---- transforms ----

  CUCONV_DEVICE int log_rows() const { return shape.log_height - (kHalf ? 1 : 0); }
  CUCONV_DEVICE int log_slots() const { return shape.log_width - (kHalf ? 1 : 0); }

  CUCONV_DEVICE FftLine row_line(int i) const {
    const int tile = i >> log_rows();
    const int row = i & ((1 << log_rows()) - 1);
    return {tile * shape.tile_step + row * shape.pitch, 4, 17, 15, 1};
  }
  CUCONV_DEVICE FftLine column_line(int i) const { return column_line(i >> log_slots(), i & slots_mask()); }
  CUCONV_DEVICE FftLine column_line(int tile, int slot) const {
    const int base = tile * shape.tile_step;
    if constexpr (!kHalf) return {base + skewed(slot), 0, shape.pitch, 0, 0};
    const int even = slot == 0 ? 0 : column_of(slot);
    const int odd = slot == 0 ? 1 : partner_of(even);
    return {base + skewed(even), 1, shape.pitch, 1, skewed(odd) - skewed(even)};
  }
  CUCONV_DEVICE int slots_mask() const { return (1 << log_slots()) - 1; }

  // One copy of the code does both axes.
  CUCONV_DEVICE void transform() {
    for (int axis = 1; axis >= 0; --axis) {
      transform_axis<false>(axis);
      if (kHalf && axis == 1) tell_rows_apart<false>();
    }
  }

  CUCONV_DEVICE void transform_back() {
    for (int axis = 0; axis < 2; ++axis) {
      if (kHalf && axis == 1) tell_rows_apart<true>();
      transform_axis<true>(axis);
    }
  }

  // 0: along the columns, 1: along the rows.
  template <bool kInverse>
  CUCONV_DEVICE void transform_axis(int axis) {
    const bool rows = axis == 1;
    fft_lines<kInverse>(data, rows ? shape.log_width : shape.log_height,
                        shape.log_tiles + (rows ? log_rows() : log_slots()), table,
                        [&](int i) { return rows ? row_line(i) : column_line(i); });
  }

  // Two rows in one, z = a + ib, from or (kBack) to their spectra.
  template <bool kBack>
  CUCONV_DEVICE void tell_rows_apart() {
    for (int i = threadIdx.x; i < 1 << (shape.log_tiles + log_rows() + log_slots()); i += blockDim.x) {
      const int slot = i & slots_mask();
      const int line = i >> log_slots();
      const int base = row_line(line).base;
      const int column = slot == 0 ? 0 : column_of(slot);
      Complex& first = data[base + skewed(column)];
      Complex& second = data[base + skewed(slot == 0 ? 1 : partner_of(column))];
      const Complex a = fetch(first), b = fetch(second);
      if (slot == 0) {  // real at both: (a0 + ib0, a1 + ib1) <-> (a0 + ia1, b0 + ib1)
        keep(first, {a.re, b.re});
        keep(second, {a.im, b.im});
      } else if constexpr (kBack) {
        keep(first, {a.re - b.im, a.im + b.re});
        keep(second, {a.re + b.im, b.re - a.im});
      } else {
        keep(first, even_part(a, b));
        keep(second, odd_part(a, b));
      }
    }
    __syncthreads();  // the rows are apart
  }

  // Of z^[f] and z^[-f]: the spectra of the real and of the imaginary part.
  CUCONV_DEVICE static Complex even_part(Complex z, Complex partner) {
    return {(z.re + partner.re) * Real{0.5}, (z.im - partner.im) * Real{0.5}};
  }
  CUCONV_DEVICE static Complex odd_part(Complex z, Complex partner) {
    return {(z.im + partner.im) * Real{0.5}, (partner.re - z.re) * Real{0.5}};
  }

  // ---- frequencies ----

  CUCONV_DEVICE int frequency(int slot, int u) const { return (slot << shape.log_height) + u; }
  CUCONV_DEVICE int middle_frequency(int u) const { return frequency(1 << log_slots(), u); }

  // Calls visit(tile, slot, u, line) for all numbers of the tiles; neighbouring threads take neighbouring
  // planes.
  template <typename Visit>
  CUCONV_DEVICE void for_each_number(Visit visit) const {
    for (int i = threadIdx.x; i < 1 << (shape.log_tiles + log_slots() + shape.log_height); i += blockDim.x) {
      const int tile = i & (tiles() - 1);
      int rest = i >> shape.log_tiles;
      const int u = rest & ((1 << shape.log_height) - 1);
      const int slot = rest >> shape.log_height;
      visit(tile, slot, u, column_line(tile, slot));
    }
  }

  // Writes the spectrum of plane `first` + tile to spectra[frequency * count + plane].
  CUCONV_DEVICE void put_spectra(Complex* spectra, std::int64_t count, std::int64_t first,
                                 bool conjugated) const {
    for_each_number([&](int tile, int slot, int u, const FftLine& at) {
      if (first + tile >= count) return;
      Complex* target = spectra + first + tile;
      const Complex value = fetch(data[at(u)]);
      if (kHalf && slot == 0) {
        const Complex partner = fetch(data[at(partner_of(u))]);
        keep(target[frequency(0, u) * count], conjugate_if(even_part(value, partner), conjugated));
        keep(target[middle_frequency(u) * count], conjugate_if(odd_part(value, partner), conjugated));
      } else {
        keep(target[frequency(slot, u) * count], conjugate_if(value, conjugated));
      }
    });
  }

  CUCONV_DEVICE void get_spectra(const Complex* spectra, std::int64_t count, std::int64_t first) {
    for_each_number([&](int tile, int slot, int u, const FftLine& at) {
      Complex value = {};
      if (first + tile < count) {
        const Complex* source = spectra + first + tile;
        value = fetch(source[frequency(slot, u) * count]);
        if (kHalf && slot == 0) {
          const Complex middle = fetch(source[middle_frequency(u) * count]);
          value = {value.re - middle.im, value.im + middle.re};
        }
      }
      keep(data[at(u)], value);
    });
    __syncthreads();  // the spectra have come
  }

  // Multiplies each plane by the spectrum of its channel's filter, of so many filters.
  CUCONV_DEVICE void multiply(const Complex* spectra, std::int64_t filters) {
    for_each_number([&](int tile, int slot, int u, const FftLine& at) {
      const Complex* factor = spectra + planes[tile].channel;
      if (!kHalf || slot > 0) {
        Complex& value = data[at(u)];
        keep(value, times(fetch(value), fetch(factor[frequency(slot, u) * filters])));
        return;
      }
      const int partner = partner_of(u);
      if (partner < u) return;  // its partner's thread does both
      const Complex value = fetch(data[at(u)]), other = fetch(data[at(partner)]);
      const Complex a = times(even_part(value, other), fetch(factor[frequency(0, u) * filters]));
      const Complex b = times(odd_part(value, other), fetch(factor[middle_frequency(u) * filters]));
      keep(data[at(u)], {a.re - b.im, a.im + b.re});
      if (partner != u) keep(data[at(partner)], {a.re + b.im, b.re - a.im});
    });
    __syncthreads();  // the products are there
  }
};

}  // namespace cuconv
