#include "kernels/gather/iterator_optimized.cuh"
#include "kernels/implicit_gemm/simt.cuh"
#include "launch/conv.h"
#include "launch/dispatch.h"
#include "launch/mainloops.h"

namespace cuconv {

constexpr double kAnalyticCost = 8;  // divisions for every element

template <typename Tile, typename Iterator>
std::string Simt<Tile, Iterator>::refuse(const ConvRequest& request) {
  if (accumulator_bytes(request.dtype) <= Tile::kMostBytes) return "";
  return "its tile is for sums of " + std::to_string(Tile::kMostBytes) + " bytes, those of " +
         name_of(request.dtype) + " have " + std::to_string(accumulator_bytes(request.dtype));
}

template <typename Tile, typename Iterator>
TileShape Simt<Tile, Iterator>::shape(const ConvRequest&) {
  const bool analytic = std::is_same_v<Iterator, AnalyticIterator>;
  return {Tile::kBlockM, Tile::kBlockN, Tile::kBlockK, Tile::kCost * (analytic ? kAnalyticCost : 1),
          Unit::kCudaCores};
}

template <typename Tile, typename Iterator>
void Simt<Tile, Iterator>::launch(const ConvRequest& request, GemmCall call) {
  dispatch_dtype(request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = accumulator_t<T>;
    if constexpr (sizeof(Acc) <= Tile::kMostBytes) {
      using Traits = SimtTraits<T, Tile>;
      choose_access(call.gather, {call.x, call.w, call.y}, sizeof(T), Traits::kWidth,
                    smaller(4, 16 / int{sizeof(T)}));
      cuconv::launch("implicit_gemm_simt", implicit_gemm_simt_kernel<T, Tile, Iterator>,
                     {{blocks_of(call.gather, shape(request))},
                      {Traits::kThreads},
                      Traits::template kSharedBytes<Iterator>},
                     call.stream, call.gather, static_cast<const T*>(call.x), static_cast<const T*>(call.w),
                     epilogue_of<T>(call), partial_of<Acc>(call), static_cast<T*>(call.y));
    }
  });
}

template struct Simt<SimtTile128x128>;
template struct Simt<SimtTile64x64>;
template struct Simt<SimtTile32x32>;
template struct Simt<SimtTile32x32, AnalyticIterator>;

}  // namespace cuconv
