// The asynchronous copies (cp.async) of one thread, from issue to landing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cuconv::emu {

class Block;

// When the bytes of an asynchronous copy arrive: as soon as it is issued, or at the last moment that the
// program allows, when its thread has waited for its group (or exits). A GPU may do either.
enum class Arrival { kLate, kEager };

class CopyQueue {
 public:
  void issue(Block& block, std::byte* shared, const std::byte* from, int bytes);
  void commit() { ++open_group_; }
  // All but the last `pending` committed groups land.
  void wait(Block& block, int pending) { land_before(block, open_group_ - pending); }
  void land_all(Block& block) { land_before(block, open_group_ + 1); }

 private:
  struct Copy {
    std::byte* shared;
    const std::byte* from;
    int bytes;
    std::int64_t group;
  };
  void land_before(Block& block, std::int64_t group);
  static void move(const Copy& copy);

  std::vector<Copy> copies_;  // in flight, as issued
  std::int64_t open_group_ = 0;
};

}  // namespace cuconv::emu
