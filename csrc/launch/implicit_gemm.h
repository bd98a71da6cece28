// The launcher of implicit GEMM in all three directions, over any main loop.
#pragma once

#include <algorithm>
#include <string>

#include "launch/conv.h"
#include "launch/gemm.h"
#include "launch/mainloops.h"

namespace cuconv {

// Of the pieces of forward sums: images wait rather than take more.
constexpr std::int64_t kPiecesBytes = std::int64_t{64} << 20;

template <typename MainLoop, Direction kDirection>
struct ImplicitGemm {
  static Suitability suits(const ConvProblem& p, const ConvRequest& request) {
    if (const std::string why = MainLoop::refuse(request); !why.empty()) return {why, 0, 0};
    if (const std::string why = refuse_indices(kDirection, p); !why.empty()) return {why, 0, 0};
    if (const std::string why = refuse_products(kDirection, p); !why.empty()) return {why, 0, 0};
    const TileShape tile = MainLoop::shape(request);
    const Stretch stretch = stretch_of(p, request);
    ConvProblem part = p;
    part.n = stretch.images;
    for (std::int64_t i = 0; i < product_count(kDirection, p); ++i) {
      const std::string why = refuse_blocks(product_of(kDirection, part, i).gather, tile);
      if (!why.empty()) return {why, 0, 0};
    }
    return {"", stretch.bytes, gemm_work(kDirection, p, tile)};
  }

  static void run(const ConvProblem& p, const ConvArguments& args) {
    if (kDirection == Direction::kWeightGrad) {
      run_stretch(p, args);
    } else {
      for_each_stretch(kDirection, p, args, stretch_of(p, args.request).images, run_stretch);
    }
  }

 private:
  // How many images are done at a time, and the bytes that the pieces of their sums take.
  struct Stretch {
    std::int64_t images, bytes;
  };

  static Pieces pieces_of_product(const ConvProblem& p, const ConvRequest& request, std::int64_t index) {
    ConvProblem apart = p;
    if (kDirection != Direction::kWeightGrad) apart.n = 1;  // the batch must not decide
    return pieces_of(kDirection, product_of(kDirection, apart, index).gather, MainLoop::shape(request),
                     request.dtype, request.workspace_limit);
  }

  static Stretch stretch_of(const ConvProblem& p, const ConvRequest& request) {
    std::int64_t bytes = 0;
    for (std::int64_t i = 0; i < product_count(kDirection, p); ++i) {
      bytes = std::max(bytes, pieces_of_product(p, request, i).bytes);
    }
    if (kDirection == Direction::kWeightGrad) return {p.n, bytes};
    std::int64_t images = countable_images(kDirection, p);
    if (bytes > 0)
      images = std::clamp<std::int64_t>(std::min(request.workspace_limit, kPiecesBytes) / bytes, 1, images);
    images = std::min(images, std::max<std::int64_t>(p.n, 1));
    return {images, bytes * images};
  }

  static void run_stretch(const ConvProblem& p, const ConvArguments& args) {
    for (std::int64_t i = 0; i < product_count(kDirection, p); ++i) {
      GemmCall call = call_of(kDirection, args, product_of(kDirection, p, i));
      GatherProblem& g = call.gather;
      if (g.groups == 0 || g.row_end == 0 || g.filters == 0) continue;
      cut_terms(g, pieces_of_product(p, args.request, i).terms);
      if (g.splits > 1) call.partial = pieces_at(args.workspace, g);
      MainLoop::launch(args.request, call);
      if (g.splits > 1) launch_split_k(args.request.dtype, call);
    }
  }
};

}  // namespace cuconv
