// The TMA copies of a block that are in flight, from issue to landing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace cuconv::emu {

class Block;
struct Mbarrier;
enum class Order;

class TensorCopies {
 public:
  // `data` is what will lie at `shared`; its bytes are reported to the mbarrier.
  void issue(Block& block, std::byte* shared, std::vector<std::byte> data, Mbarrier& mbarrier);
  // When nothing else can go on: one copy, whichever the order of the launch picks. False if there is none.
  bool land_one(Block& block, Order order, std::mt19937_64& random);
  bool none() const { return copies_.empty(); }
  void clear() { copies_.clear(); }

 private:
  struct Copy {
    std::byte* shared;
    std::vector<std::byte> data;
    Mbarrier* mbarrier;
  };
  static void land(const Copy& copy);

  std::vector<Copy> copies_;
};

}  // namespace cuconv::emu
