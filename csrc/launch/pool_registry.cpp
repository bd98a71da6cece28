#include "launch/check.h"
#include "launch/pool.h"

namespace cuconv {

namespace {

const std::vector<PoolVariant> kVariants = {
#define CUCONV_POOL_VARIANT(name, launcher) {#name, &launcher::refuse, &launcher::run},
#include "launch/pool_registry.inc"
#undef CUCONV_POOL_VARIANT
};

}  // namespace

const std::vector<PoolVariant>& pool_variants() { return kVariants; }

std::string pool(const PoolProblem& p, const PoolArguments& args, const std::string& wanted) {
  if (p.n * p.c * p.out[0] * p.out[1] * p.out[2] == 0) return "";
  for (const PoolVariant& variant : pool_variants()) {
    if (!wanted.empty() && wanted != variant.name) continue;
    const std::string why = variant.refuse(p, args);
    if (why.empty()) {
      variant.run(p, args);
      return variant.name;
    }
    if (!wanted.empty()) throw ArgumentError(wanted + ": " + why);
  }
  throw ArgumentError("no variant of pooling is called '" + wanted + "'");
}

}  // namespace cuconv
