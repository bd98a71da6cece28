#include <algorithm>
#include <iterator>

#include "kernels/implicit_gemm/grouped.cuh"
#include "launch/conv.h"
#include "launch/dispatch.h"
#include "launch/gather.h"
#include "launch/grouped.h"
#include "launch/mainloops.h"
#include "launch/product.h"

namespace cuconv {
namespace {

// The filters of a branch are few: small tiles waste least.
using SimtLoop = Simt<SimtTile64x64>;
using TensorCoreLoop = TensorCore<TensorCoreTile64x64>;

bool pooled(const GroupedConv& conv) {
  return std::any_of(std::begin(conv.window), std::end(conv.window),
                     [](std::int64_t size) { return size > 1; });
}

// Types of 16 bits go to tensor cores alone: where there are none the convolutions run one after the other.
bool on_tensor_cores(DType dtype) { return size_of(dtype) == 2; }

TileShape tile_of(DType dtype) {
  return on_tensor_cores(dtype) ? TensorCoreLoop::shape(product_request(dtype))
                                : SimtLoop::shape(product_request(dtype));
}

bool is_empty(const GroupedConv& conv) { return outputs_of(conv.problem) == 0; }

// Products with their access chosen, and how many blocks they have altogether.
template <typename T>
struct Prepared {
  GroupedProducts<T> products;
  std::int64_t blocks;
  bool x_by_rows;  // all without maxima
  bool some_pooled;
};

template <typename T>
Prepared<T> prepare(const std::vector<GroupedConv>& convs, DType dtype, int load_width, int store_width) {
  Prepared<T> prepared{{}, 0, true, false};
  GroupedProducts<T>& all = prepared.products;
  std::vector<GroupedConv> sorted = convs;
  // Longest sums first, so that none begins when all others are done.
  const auto terms = [](const GroupedConv& conv) { return conv.problem.c * volume(conv.problem.filter); };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const GroupedConv& a, const GroupedConv& b) { return terms(a) > terms(b); });
  for (const GroupedConv& conv : sorted) {
    if (is_empty(conv)) continue;
    GroupedProduct<T>& product = all.of[all.count++];
    product = {(pooled(conv) ? pooled_product_of(conv.problem, conv.window)
                             : product_of(Direction::kForward, conv.problem, 0))
                   .gather,
               static_cast<const T*>(conv.x),
               static_cast<const T*>(conv.w),
               {static_cast<const T*>(conv.bias), conv.bias_stride, conv.activation},
               static_cast<T*>(conv.y),
               0,
               pooled(conv)};
    choose_access(product.gather, {conv.x, conv.w, conv.y}, sizeof(T), load_width, store_width);
    prepared.x_by_rows = prepared.x_by_rows && (product.pooled || product.gather.x_load == Load::kRows);
    prepared.some_pooled = prepared.some_pooled || product.pooled;
  }
  for (int i = 0; i < all.count; ++i) {
    all.of[i].first_block = prepared.blocks;
    prepared.blocks += blocks_of(all.of[i].gather, tile_of(dtype));
  }
  return prepared;
}

template <typename T>
void run_simt(const std::vector<GroupedConv>& convs, DType dtype, Stream stream) {
  if constexpr (sizeof(accumulator_t<T>) <= SimtTile64x64::kMostBytes) {
    using Traits = SimtTraits<T, SimtTile64x64>;
    const Prepared<T> p = prepare<T>(convs, dtype, Traits::kWidth, smaller(4, 16 / int{sizeof(T)}));
    if (p.blocks == 0) return;
    const LaunchShape shape{{p.blocks}, {Traits::kThreads}, Traits::template kSharedBytes<OptimizedIterator>};
    if constexpr (is_complex_v<T>) {
      launch("grouped_gemm_simt", implicit_gemm_simt_grouped_kernel<T, SimtTile64x64, false>, shape, stream,
             p.products);
    } else {
      dispatch_bool(p.some_pooled, [&](auto maxima) {
        launch("grouped_gemm_simt", implicit_gemm_simt_grouped_kernel<T, SimtTile64x64, maxima()>, shape,
               stream, p.products);
      });
    }
  }
}

template <typename T>
void run_tensor_core(const std::vector<GroupedConv>& convs, DType dtype, Stream stream) {
  using Tile = TensorCoreTile64x64;
  using Traits = TensorCoreTraits<T, Tile>;
  Prepared<T> p = prepare<T>(convs, dtype, Traits::kWidth, 2);
  if (p.blocks == 0) return;
  for (int i = 0; i < p.products.count; ++i) {
    GatherProblem& g = p.products.of[i].gather;
    if (g.w_load == Load::kRows) g.w_load = Load::kGather;
    if (g.x_load == Load::kRows && (!p.x_by_rows || p.products.of[i].pooled)) g.x_load = Load::kGather;
  }
  const LaunchShape shape{{p.blocks}, {Traits::kThreads}, Traits::kSharedBytes};
  dispatch_bool(p.x_by_rows, [&](auto by_rows) {
    dispatch_bool(p.some_pooled, [&](auto maxima) {
      launch("grouped_gemm_tensor_core",
             implicit_gemm_tensor_core_grouped_kernel<T, Tile, by_rows(), maxima()>, shape, stream,
             p.products);
    });
  });
}

}  // namespace

std::string refuse_grouped(const std::vector<GroupedConv>& convs, DType dtype) {
  if (convs.empty() || convs.size() > kMostGrouped) {
    return "a launch is of " + std::to_string(kMostGrouped) + " convolutions at the most";
  }
  const ConvRequest request = product_request(dtype);
  const std::string refused =
      on_tensor_cores(dtype) ? TensorCoreLoop::refuse(request) : SimtLoop::refuse(request);
  if (!refused.empty()) return refused;
  constexpr double kMostBlocks = 1 << 30;
  constexpr double kMostTaps = 1 << 10;  // taken again for every tile of filters, those in the padding too
  double blocks = 0;
  for (const GroupedConv& conv : convs) {
    const ConvProblem& p = conv.problem;
    if (pooled(conv) && size_of(dtype) != 2 && dtype != DType::kFloat32 && dtype != DType::kFloat64) {
      return std::string("there are no maxima of ") + name_of(dtype);
    }
    if (pooled(conv) && volume(p.filter) != 1) return "convolutions over maxima have a single tap";
    if (const std::string why = refuse_indices(Direction::kForward, p); !why.empty()) return why;
    if (double(conv.window[0]) * double(conv.window[1]) * double(conv.window[2]) > kMostTaps) {
      return "windows of more than 1024 taps are cheaper pooled first";
    }
    if (double(p.n) * double(volume(p.out)) > double(kMostIndices)) return "its rows are more than 2^30";
    const TileShape tile = tile_of(dtype);
    blocks += (double(p.n) * double(volume(p.out)) / tile.block_m + 1) * (double(p.k) / tile.block_n + 1) *
              double(p.groups);
  }
  return blocks > kMostBlocks ? "its tiles are more than 2^30 blocks" : "";
}

void run_grouped(const std::vector<GroupedConv>& convs, DType dtype, Stream stream) {
  dispatch_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) == 2) {
      run_tensor_core<T>(convs, dtype, stream);
    } else {
      run_simt<T>(convs, dtype, stream);
    }
  });
}

}  // namespace cuconv
