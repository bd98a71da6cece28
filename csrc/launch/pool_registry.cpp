#include "launch/check.h"
#include "launch/pool.h"

namespace cuconv {

namespace {

const std::vector<PoolVariant> kVariants = {
#define CUCONV_POOL_VARIANT(name, launcher) {#name, &launcher::refuse, &launcher::run},
#define CUCONV_POOL_GRAD_VARIANT(name, launcher)
#include "launch/pool_registry.inc"
#undef CUCONV_POOL_VARIANT
#undef CUCONV_POOL_GRAD_VARIANT
};

const std::vector<PoolGradVariant> kGradVariants = {
#define CUCONV_POOL_VARIANT(name, launcher)
#define CUCONV_POOL_GRAD_VARIANT(name, launcher) {#name, &launcher::refuse, &launcher::run},
#include "launch/pool_registry.inc"
#undef CUCONV_POOL_VARIANT
#undef CUCONV_POOL_GRAD_VARIANT
};

// The first variant that does not refuse, or the one wanted.
template <typename Variant, typename Arguments>
const Variant& choose(const std::vector<Variant>& variants, const PoolProblem& p, const Arguments& args,
                      const std::string& wanted) {
  for (const Variant& variant : variants) {
    if (!wanted.empty() && wanted != variant.name) continue;
    const std::string why = variant.refuse(p, args);
    if (why.empty()) return variant;
    if (!wanted.empty()) throw ArgumentError(wanted + ": " + why);
  }
  throw ArgumentError("no variant of pooling is called '" + wanted + "'");
}

std::int64_t volume(const std::int64_t (&size)[kSpatial]) { return size[0] * size[1] * size[2]; }

}  // namespace

const std::vector<PoolVariant>& pool_variants() { return kVariants; }
const std::vector<PoolGradVariant>& pool_grad_variants() { return kGradVariants; }

std::string pool(const PoolProblem& p, const PoolArguments& args, const std::string& wanted) {
  if (p.n * p.c * volume(p.out) == 0) return "";
  const PoolVariant& variant = choose(kVariants, p, args, wanted);
  variant.run(p, args);
  return variant.name;
}

std::int64_t pool_grad_workspace(const PoolProblem& p, const PoolGradArguments& args,
                                 const std::string& wanted) {
  if (p.n * p.c * volume(p.in) == 0) return 0;
  const bool scatters = choose(kGradVariants, p, args, wanted).run == &PoolGradScatter::run;
  return scatters ? PoolGradScatter::workspace(p, args.dtype) : 0;
}

std::string pool_grad(const PoolProblem& p, const PoolGradArguments& args, const std::string& wanted,
                      void* workspace) {
  if (p.n * p.c * volume(p.in) == 0) return "";
  const PoolGradVariant& variant = choose(kGradVariants, p, args, wanted);
  variant.run(p, args, workspace);
  return variant.name;
}

}  // namespace cuconv
