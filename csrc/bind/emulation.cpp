// The submodule `emulation`: memory of the emulated device, and how it schedules threads.
//
//   configure(order, seed, arrival)                          how the next launches run
//   place_input / _output / _inout(address, ...) -> address  an array for the device
//   workspace(nbytes) -> address
//   collect(device_address, host_address, ...)               results back
//   record_traffic(), recorded_traffic()                     -> (kernel, bytes read, bytes written) of every
//                                                            launch between the two
//   encoded_maps()                                           -> how many tensor maps were made for TMA
//   reset()                                                  frees everything
//
// All of it belongs to the calling thread: each has an emulated device of its own.
#include "bind/emulation.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "emu/arena.h"
#include "emu/fault.h"
#include "emu/flavour.h"
#include "emu/grid.h"
#include "emu/tensor_map.h"
#include "emu/traffic.h"

namespace py = pybind11;

namespace cuconv {
namespace {

using Sizes = std::vector<std::int64_t>;

emu::Order parse_order(const std::string& order) {
  if (order == "forward") return emu::Order::kForward;
  if (order == "reverse") return emu::Order::kReverse;
  if (order == "shuffled") return emu::Order::kShuffled;
  if (order == "one_warp_far") return emu::Order::kOneWarpFar;
  if (order == "none") return emu::Order::kNone;
  throw py::value_error("order is '" + order +
                        "': it takes forward, reverse, shuffled, one_warp_far or none");
}

emu::Arrival parse_arrival(const std::string& arrival) {
  if (arrival == "late") return emu::Arrival::kLate;
  if (arrival == "eager") return emu::Arrival::kEager;
  throw py::value_error("arrival is '" + arrival + "': it takes late or eager");
}

void configure(const std::string& order, std::uint64_t seed, const std::string& arrival) {
  emu::set_schedule({parse_order(order), seed, parse_arrival(arrival)});
}

emu::Layout make_layout(Sizes shape, Sizes byte_strides, std::int64_t itemsize) {
  if (shape.size() != byte_strides.size()) {
    throw py::value_error("shape has " + std::to_string(shape.size()) + " axes and byte_strides " +
                          std::to_string(byte_strides.size()));
  }
  for (const std::int64_t size : shape) {
    if (size < 0) throw py::value_error("shape holds " + std::to_string(size));
  }
  if (itemsize < 1) throw py::value_error("itemsize is " + std::to_string(itemsize));
  return {std::move(shape), std::move(byte_strides), itemsize};
}

std::uintptr_t to_integer(const std::byte* address) { return reinterpret_cast<std::uintptr_t>(address); }
std::byte* to_pointer(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

void define_place(py::module_& m, const char* function, emu::Access access) {
  m.def(
      function,
      [access](std::uintptr_t address, Sizes shape, Sizes byte_strides, std::int64_t itemsize,
               std::string name) {
        emu::Layout layout = make_layout(std::move(shape), std::move(byte_strides), itemsize);
        return to_integer(
            emu::arena().place(access, to_pointer(address), std::move(layout), std::move(name)));
      },
      py::arg("address"), py::arg("shape"), py::arg("byte_strides"), py::arg("itemsize"), py::arg("name"));
}

}  // namespace

void register_emulation(py::module_& module) {
  py::module_ m = module.def_submodule("emulation", "The emulated device: see docs/emulation.md");
  py::register_local_exception<emu::Fault>(m, "EmulationError", PyExc_RuntimeError);
  m.def("flavour", [] { return emu::kFlavour; });
  m.def("configure", &configure, py::arg("order"), py::arg("seed"), py::arg("arrival"));
  define_place(m, "place_input", emu::Access::kInput);
  define_place(m, "place_output", emu::Access::kOutput);
  define_place(m, "place_inout", emu::Access::kInout);
  m.def(
      "collect",
      [](std::uintptr_t device_address, std::uintptr_t host_address, Sizes shape, Sizes byte_strides,
         std::int64_t itemsize, const std::string&) {
        emu::arena().collect(to_pointer(device_address), to_pointer(host_address),
                             make_layout(std::move(shape), std::move(byte_strides), itemsize));
      },
      py::arg("device_address"), py::arg("host_address"), py::arg("shape"), py::arg("byte_strides"),
      py::arg("itemsize"), py::arg("name"));
  m.def(
      "workspace", [](std::size_t nbytes) { return to_integer(emu::arena().workspace(nbytes)); },
      py::arg("nbytes"));
  m.def("record_traffic", &emu::record_traffic);
  m.def("recorded_traffic", [] {
    py::list launches;
    for (const emu::Traffic& each : emu::recorded_traffic()) {
      launches.append(py::make_tuple(each.kernel, each.read, each.written));
    }
    return launches;
  });
  m.def("encoded_maps", &emu::encoded_maps);
  m.def("reset", [] { emu::arena().reset(); });
}

}  // namespace cuconv
