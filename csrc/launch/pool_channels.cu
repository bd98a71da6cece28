#include "kernels/pool/channels.cuh"
#include "launch/pool_dispatch.h"

namespace cuconv {

std::string PoolChannels::refuse(const PoolProblem& p, const PoolArguments& args) {
  if (!channels_by_vectors(p, static_cast<std::size_t>(size_of(args.dtype)), args.x, args.y)) {
    return "channels cannot be moved by 16 bytes: count, steps and addresses must be multiples of that";
  }
  if (p.dilation[1] != 1) return "windows are dilated along H";
  if (leaves_gaps(p, 1)) return "windows leave rows between them";
  if (!fits_31_bits(p)) return "it counts an image to 2^30 at the most";
  return "";
}

namespace {

void run_stretch(const PoolProblem& p, const PoolArguments& args) {
  dispatch_pool(args, [&](auto tag, auto kind) {
    using T = typename decltype(tag)::type;
    constexpr std::int64_t kWidth = 16 / sizeof(T);
    constexpr std::int64_t kOutputs = kStrip<typename decltype(kind)::template type<T>>;
    const std::int64_t vectors = p.c / kWidth;
    const std::int64_t strips = (p.out[1] - 1) / kOutputs + 1;
    const ChannelStrips digits{p.n * p.out[0] * strips * p.out[2] * vectors, fast_divisor(vectors),
                               fast_divisor(p.out[2]), fast_divisor(strips), fast_divisor(p.out[0])};
    launch("pool_channels", pool_channels_kernel<T, decltype(kind)::template type>,
           {{blocks_for(digits.items, kPoolThreads)}, {kPoolThreads}, 0}, args.stream, p, digits,
           static_cast<const T*>(args.x), static_cast<T*>(args.y), args.indices);
  });
}

}  // namespace

void PoolChannels::run(const PoolProblem& p, const PoolArguments& args) {
  for_each_stretch(p, args, run_stretch);
}

}  // namespace cuconv
