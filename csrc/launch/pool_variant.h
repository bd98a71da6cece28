// The kernel variants of pooling, as data: each refuses what it cannot do, and the first that does not, runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config.h"
#include "launch/launch.cuh"
#include "problem.h"

namespace cuconv {

enum class PoolOperation { kMax, kAverage };

struct PoolArguments {
  PoolOperation operation;
  DType dtype;
  const void* x;
  void* y;
  std::int64_t* indices;  // null where none are wanted, and of averages
  Stream stream;
};

// Launchers: `refuse` says why not, in a few words, or nothing; `run` is for problems with outputs.
struct PoolGlobal {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolChannels {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolTiled {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};
struct PoolWindow {
  static std::string refuse(const PoolProblem& p, const PoolArguments& args);
  static void run(const PoolProblem& p, const PoolArguments& args);
};

struct PoolVariant {
  const char* name;
  std::string (*refuse)(const PoolProblem&, const PoolArguments&);
  void (*run)(const PoolProblem&, const PoolArguments&);
};

const std::vector<PoolVariant>& pool_variants();

}  // namespace cuconv
