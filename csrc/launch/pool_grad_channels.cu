#include "kernels/pool/grad_channels.cuh"
#include "launch/pool_dispatch.h"

namespace cuconv {
namespace {

void run_stretch(const PoolProblem& p, const PoolGradArguments& args) {
  dispatch_pool_grad(args, [&](auto tag, auto maxima) {
    using T = typename decltype(tag)::type;
    const std::int64_t vectors = p.c / static_cast<std::int64_t>(16 / sizeof(T));
    const ChannelVectors digits{p.n * p.in[0] * p.in[1] * p.in[2] * vectors,
                                fast_divisor(vectors),
                                {fast_divisor(p.in[0]), fast_divisor(p.in[1]), fast_divisor(p.in[2])}};
    launch("pool_grad_channels", pool_grad_channels_kernel<T, maxima.value>,
           {{blocks_for(digits.items, kPoolThreads)}, {kPoolThreads}, 0}, args.stream, p, digits, steps_of(p),
           static_cast<const T*>(args.gy), args.indices, static_cast<T*>(args.gx));
  });
}

}  // namespace

std::string PoolGradChannels::refuse(const PoolProblem& p, const PoolGradArguments& args) {
  if (!args.windows_known) return "it needs to know the windows";
  if (!channels_by_vectors(p, static_cast<std::size_t>(size_of(args.dtype)), args.gx, args.gy)) {
    return "channels cannot be moved by 16 bytes: count, steps and addresses must be multiples of that";
  }
  if (args.indices != nullptr && !channels_of_by(2, p.c, p.index_stride, args.indices)) {
    return "indices cannot be moved by 16 bytes: count, steps and address must be multiples of that";
  }
  if (!fits_31_bits(p)) return "it counts an image to 2^30 at the most";
  return "";
}

void PoolGradChannels::run(const PoolProblem& p, const PoolGradArguments& args, void*) {
  for_each_stretch(p, args, run_stretch);
}

}  // namespace cuconv
