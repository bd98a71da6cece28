#include "kernels/im2col/col2im.cuh"
#include "kernels/im2col/im2col.cuh"
#include "launch/dispatch.h"
#include "launch/grid.h"
#include "launch/im2col.h"
#include "launch/implicit_gemm.h"

namespace cuconv {
namespace {

// Without a limit of the caller's own.
constexpr std::int64_t kDefaultColumnsBytes = std::int64_t{256} << 20;
// Chunks are cut here, so that vectors stay aligned.
constexpr std::int64_t kChunk = 128;

std::int64_t columns_limit(const ConvRequest& request) {
  return std::min(request.workspace_limit, kDefaultColumnsBytes);
}

constexpr std::int64_t kAlignment = 256;
std::int64_t rounded_up(std::int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

// ---- input gradient: how many images, and channels of each group, are lowered at a time ----

struct InputGradChunk {
  std::int64_t images, channels, bytes;
};

InputGradChunk input_grad_chunk(const ConvProblem& p, DType dtype, std::int64_t limit) {
  const double channel =
      double(p.groups) * double(volume(p.filter)) * double(volume(p.out)) * accumulator_bytes(dtype);
  if (channel == 0) return {std::max<std::int64_t>(p.n, 1), std::max<std::int64_t>(p.c, 1), 0};
  const double image = channel * double(std::max<std::int64_t>(p.c, 1));
  InputGradChunk chunk{1, std::max<std::int64_t>(p.c, 1), 0};
  if (image <= double(limit)) {
    chunk.images = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(double(limit) / image), 1,
        std::min(std::max<std::int64_t>(p.n, 1), countable_images(Direction::kForward, p)));
  } else {
    chunk.channels = static_cast<std::int64_t>(double(limit) / channel);
  }
  chunk.bytes = chunk.channels == 0 ? 0
                                    : p.groups * volume(p.filter) * volume(p.out) * accumulator_bytes(dtype) *
                                          chunk.channels * chunk.images;
  return chunk;
}

// Rows of the forward columns or terms of the weight gradient's that `bytes` hold: all of them, or whole
// chunks; 0 where not even one fits.
std::int64_t chunk_that_fits(std::int64_t bytes, std::int64_t bytes_each, std::int64_t all) {
  if (all == 0 || bytes_each == 0) return all;
  const std::int64_t fit = std::max<std::int64_t>(bytes, 0) / bytes_each;
  return fit >= all ? all : fit / kChunk * kChunk;
}

// ---- forward and weight gradient: how many rows, or terms, are lowered at a time ----

struct Chunk {
  std::int64_t size;     // rows or terms
  std::int64_t columns;  // bytes
  std::int64_t sums;     // bytes of unfinished sums behind them
  Pieces pieces;         // that the first chunk's sums are cut into, and so all others'
};

// Of the rows of forward columns. Lowered problems have tiles enough: their sums are not cut.
Chunk row_chunk(const GatherProblem& g, DType dtype, std::int64_t limit) {
  const std::int64_t bytes_each = g.groups * g.term_end * size_of(dtype);
  const std::int64_t size = chunk_that_fits(limit, bytes_each, g.row_end);
  return {size, size * bytes_each, 0, {1, std::max(g.term_end, 1), 0}};
}

// Of the terms of a weight gradient. Where it takes several chunks, each adds to the sums of those before.
Chunk term_chunk(const GatherProblem& g, const TileShape& tile, DType dtype, std::int64_t limit) {
  const std::int64_t bytes_each = g.groups * g.row_end * size_of(dtype);
  const std::int64_t sums = g.groups * g.row_end * g.filters * accumulator_bytes(dtype);
  std::int64_t size = chunk_that_fits(limit, bytes_each, g.term_end);
  const bool several = size < g.term_end;
  if (several) size = chunk_that_fits((limit - sums) / kAlignment * kAlignment, bytes_each, g.term_end);
  GatherProblem part = g;
  part.term_end = static_cast<std::int32_t>(size);
  const std::int64_t columns = rounded_up(size * bytes_each);
  const Pieces pieces = pieces_of(Direction::kWeightGrad, part, tile, dtype, limit - columns);
  const std::int64_t behind = std::max(pieces.bytes, several ? sums : 0);
  return {size, behind > 0 ? columns : size * bytes_each, behind, pieces};
}

// The product of the first stretch of images, which is the longest.
GatherProblem first_stretch(Direction direction, const ConvProblem& p) {
  ConvProblem stretch = p;
  stretch.n = std::min(p.n, countable_images(direction, p));
  return product_of(direction, stretch, 0).gather;
}

Chunk chunk_of(Direction direction, const GatherProblem& g, const TileShape& tile,
               const ConvRequest& request) {
  if (direction == Direction::kWeightGrad) return term_chunk(g, tile, request.dtype, columns_limit(request));
  return row_chunk(g, request.dtype, columns_limit(request));
}

// A kernel of one tap that meets no padding: its operands lie in memory as columns would.
bool needs_no_columns(Direction direction, const ConvProblem& p) {
  ConvProblem image = p;
  image.n = std::min<std::int64_t>(p.n, 1);
  return direction != Direction::kInputGrad && volume(p.filter) == 1 &&
         needs_no_positions(product_of(direction, image, 0).gather);
}

// x[row, term] of the product's chunk, written out.
void launch_im2col(DType dtype, const GemmCall& call, void* columns) {
  const GatherProblem& g = call.gather;
  const std::int64_t blocks = ceil_div(g.row_end - g.row_begin, kIm2colThreads) *
                              ceil_div(g.term_end - g.term_begin, kIm2colTerms) * g.groups;
  if (blocks == 0) return;
  dispatch_dtype(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("im2col", im2col_kernel<T>, {{std::min(kMaxBlocks, blocks)}, {kIm2colThreads}, 0}, call.stream, g,
           static_cast<const T*>(call.x), static_cast<T*>(columns));
  });
}

// The columns' gradient of some channels, gathered into gx.
struct Col2im {
  std::int64_t channel, channels;
  const void* columns;
};
void launch_col2im(const ConvProblem& p, const ConvArguments& args, const Col2im& lowered) {
  const std::int64_t items = p.n * p.groups * lowered.channels * volume(p.in);
  if (items == 0) return;
  const std::int64_t rows = p.n * volume(p.out);
  const Columns columns = {lowered.channel,
                           lowered.channels,
                           volume(p.filter) * lowered.channels * rows,
                           lowered.channels * rows,
                           rows,
                           volume(p.out)};
  dispatch_dtype(args.request.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch("col2im", col2im_kernel<T>, {{blocks_for(items, kCol2imThreads)}, {kCol2imThreads}, 0},
           args.stream, p, hit_steps(p), columns, static_cast<const accumulator_t<T>*>(lowered.columns),
           epilogue_of<T>(args), static_cast<T*>(args.out));
  });
}

}  // namespace

template <typename MainLoop, Direction kDirection>
Suitability Im2col<MainLoop, kDirection>::suits(const ConvProblem& p, const ConvRequest& request) {
  if (const std::string why = MainLoop::refuse(request); !why.empty()) return {why, 0, 0};
  if (const std::string why = refuse_indices(kDirection, p); !why.empty()) return {why, 0, 0};
  if (needs_no_columns(kDirection, p)) return ImplicitGemm<MainLoop, kDirection>::suits(p, request);
  const TileShape tile = MainLoop::shape(request);
  const std::string refused = "the columns of its least chunk do not fit " +
                              std::to_string(columns_limit(request)) + " bytes of workspace";
  // Columns are written and read once, whatever the caches spare; a gradient's are sums.
  const double columns = double(p.groups) * double(p.c) * double(volume(p.filter)) * double(volume(p.out));
  const auto lowered = [&](Work work, int bytes) {
    work.bytes += 2 * columns * bytes;
    work.launches += 1;
    return work;
  };
  if constexpr (kDirection == Direction::kInputGrad) {
    const InputGradChunk chunk = input_grad_chunk(p, request.dtype, columns_limit(request));
    if (chunk.channels == 0) return {refused, 0, 0};
    ConvProblem part = p;
    part.n = std::min(p.n, chunk.images);
    const GatherProblem g = columns_grad_of(part, 0, chunk.channels).gather;
    if (const std::string why = refuse_blocks(g, tile); !why.empty()) return {why, 0, 0};
    return {"", chunk.bytes,
            lowered(gemm_work(Direction::kForward, p, tile), accumulator_bytes(request.dtype))};
  } else {
    const GatherProblem g = first_stretch(kDirection, p);
    const Chunk chunk = chunk_of(kDirection, g, tile, request);
    if (chunk.size == 0 && g.row_end > 0 && g.term_end > 0) return {refused, 0, 0};
    if (const std::string why = refuse_blocks(g, tile); !why.empty()) return {why, 0, 0};
    return {"", chunk.columns + chunk.sums, lowered(gemm_work(kDirection, p, tile), size_of(request.dtype))};
  }
}

// The input gradient: columns of the gradient first, which are then gathered.
template <typename MainLoop>
void run_input_grad(const ConvProblem& p, const ConvArguments& args) {
  constexpr Direction kDirection = Direction::kInputGrad;
  const InputGradChunk chunk = input_grad_chunk(p, args.request.dtype, columns_limit(args.request));
  for_each_stretch(kDirection, p, args, chunk.images, [&](const ConvProblem& part, const ConvArguments& at) {
    for (std::int64_t channel = 0; channel < p.c; channel += chunk.channels) {
      const std::int64_t channels = std::min(chunk.channels, p.c - channel);
      GemmCall call = call_of(kDirection, at, columns_grad_of(part, channel, channels));
      const GatherProblem& g = call.gather;
      const std::int64_t rows = g.row_end;
      if (rows > 0 && g.filters > 0 && g.groups > 0) {
        call.partial = {args.workspace, false, 0, g.filters * rows, 1, rows};
        MainLoop::launch(args.request, call);
      }
      launch_col2im(part, at, {channel, channels, args.workspace});
    }
  });
}

// The other directions, over a stretch of images: a chunk is lowered and multiplied, then the next.
template <typename MainLoop>
void run_chunks(Direction direction, const ConvProblem& p, const ConvArguments& args, const Chunk& chunk) {
  const bool by_terms = direction == Direction::kWeightGrad;
  GemmCall call = call_of(direction, args, product_of(direction, p, 0));
  const GatherProblem whole = call.gather;
  if (whole.groups == 0 || whole.row_end == 0 || whole.filters == 0) return;
  void* sums = static_cast<char*>(args.workspace) + chunk.columns;
  const std::int64_t all = by_terms ? whole.term_end : whole.row_end;
  std::int64_t first = 0;
  do {  // an empty sum has no chunks, and yet a result
    GemmCall part = call;
    (by_terms ? part.gather.term_begin : part.gather.row_begin) = static_cast<std::int32_t>(first);
    first = std::min(all, first + chunk.size);
    (by_terms ? part.gather.term_end : part.gather.row_end) = static_cast<std::int32_t>(first);
    launch_im2col(args.request.dtype, part, args.workspace);
    part.x = args.workspace;
    part.gather = lowered(part.gather);
    cut_terms(part.gather, chunk.pieces.terms);
    if (chunk.sums > 0) {
      part.partial = pieces_at(sums, part.gather);
      part.partial.add = part.gather.term_begin > 0;
    }
    MainLoop::launch(args.request, part);
    call.partial = part.partial;
  } while (first < all);
  if (chunk.sums > 0) {
    call.gather.splits = static_cast<std::int32_t>(chunk.pieces.count);
    launch_split_k(args.request.dtype, call);
  }
}

template <typename MainLoop, Direction kDirection>
void Im2col<MainLoop, kDirection>::run(const ConvProblem& p, const ConvArguments& args) {
  if (needs_no_columns(kDirection, p)) {
    ImplicitGemm<MainLoop, kDirection>::run(p, args);
  } else if constexpr (kDirection == Direction::kInputGrad) {
    run_input_grad<MainLoop>(p, args);
  } else {
    const Chunk chunk =
        chunk_of(kDirection, first_stretch(kDirection, p), MainLoop::shape(args.request), args.request);
    const auto run_stretch = [&](const ConvProblem& part, const ConvArguments& at) {
      run_chunks<MainLoop>(kDirection, part, at, chunk);
    };
    if (kDirection == Direction::kWeightGrad) {
      run_stretch(p, args);
    } else {
      for_each_stretch(kDirection, p, args, countable_images(kDirection, p), run_stretch);
    }
  }
}

#define CUCONV_IM2COL(...)                                    \
  template struct Im2col<__VA_ARGS__, Direction::kForward>;   \
  template struct Im2col<__VA_ARGS__, Direction::kInputGrad>; \
  template struct Im2col<__VA_ARGS__, Direction::kWeightGrad>;
CUCONV_IM2COL(Simt<SimtTile128x128>)
CUCONV_IM2COL(Simt<SimtTile64x64>)
CUCONV_IM2COL(Simt<SimtTile32x32>)
CUCONV_IM2COL(TensorCore<TensorCoreTile128x128>)
CUCONV_IM2COL(TensorCore<TensorCoreTile64x64>)
#undef CUCONV_IM2COL

}  // namespace cuconv
