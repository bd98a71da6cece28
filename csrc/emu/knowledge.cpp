#include "emu/knowledge.h"

#include <algorithm>

namespace cuconv::emu {

Knowledge::Seen& Knowledge::own() {
  if (!seen_) {
    seen_ = std::make_shared<Seen>();
  } else if (seen_.use_count() > 1) {
    seen_ = std::make_shared<Seen>(*seen_);
  }
  return *seen_;
}

void Knowledge::learn(int actor, Tick tick) {
  Seen& seen = own();
  const std::size_t i = index(actor);
  if (seen.size() <= i) seen.resize(i + 1, 0);
  seen[i] = std::max(seen[i], tick);
}

void Knowledge::merge(const Knowledge& other) {
  if (!other.seen_ || seen_ == other.seen_) return;
  if (!seen_) {
    seen_ = other.seen_;
    return;
  }
  Seen& seen = own();
  const Seen& more = *other.seen_;
  if (seen.size() < more.size()) seen.resize(more.size(), 0);
  for (std::size_t i = 0; i < more.size(); ++i) seen[i] = std::max(seen[i], more[i]);
}

}  // namespace cuconv::emu
