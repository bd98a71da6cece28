#include "emu/traffic.h"

#include <map>
#include <memory>
#include <utility>

namespace cuconv::emu {
namespace {

// By region, of each byte: whether the running launch has read it, and written it.
struct Record {
  std::vector<Traffic> launches;
  std::map<const std::byte*, std::vector<std::uint8_t>> touched;
};

thread_local std::unique_ptr<Record> record;

}  // namespace

void record_traffic() { record = std::make_unique<Record>(); }

std::vector<Traffic> recorded_traffic() {
  if (!record) return {};
  std::vector<Traffic> launches = std::move(record->launches);
  record.reset();
  return launches;
}

void note_launch(const std::string& kernel) {
  if (!record) return;
  record->launches.push_back({kernel, 0, 0});
  record->touched.clear();
}

void note_traffic(const Region& region, std::size_t offset, std::size_t bytes, bool write) {
  if (!record || record->launches.empty()) return;
  std::vector<std::uint8_t>& touched = record->touched[region.first];
  touched.resize(region.bytes);
  Traffic& launch = record->launches.back();
  const std::uint8_t mark = write ? 2 : 1;
  for (std::size_t i = offset; i < offset + bytes; ++i) {
    if (touched[i] & mark) continue;
    touched[i] |= mark;
    ++(write ? launch.written : launch.read);
  }
}

}  // namespace cuconv::emu
