# cuconv._C_emulated_<flavour>: the launchers and kernels compiled by g++ against csrc/emu, to run on the CPU.
#
#   plain  only executes
#   asan   AddressSanitizer. Not linked to the sanitizer's library, which must be in the process from its start: import
#          it under LD_PRELOAD, otherwise it fails with an ordinary ImportError
#   race   the compiler's calls for ThreadSanitizer and UndefinedBehaviorSanitizer go to the emulator's own checkers
#
# Beside each goes _C_emulated_selftest_<flavour>: kernels with bugs on purpose, for the tests of the checkers.

# fma() is fused and nothing else is, as on the GPU. nvcc lets shared memory hold one type after another: so must g++.
# Its warning of uninitialised variables is unreliable in instrumented code.
set(_cuconv_emulated_options -Wall -Wextra -Wno-maybe-uninitialized -Wno-psabi -ffp-contract=off -fno-strict-aliasing)
set(_cuconv_options_plain -O2)
set(_cuconv_options_asan -O1 -g1 -fsanitize=address)
set(_cuconv_options_race -O1 -g1)
set(_cuconv_kernel_options_plain)
set(_cuconv_kernel_options_asan)
set(_cuconv_kernel_options_race -fsanitize=thread --param tsan-instrument-func-entry-exit=0
    -fsanitize=undefined -fno-sanitize=vptr)

# Kernels are CUDA for _C and C++ here, and CMake allows a file one language: each gets a C++ file that includes it.
function(_cuconv_wrap_kernels result folder)
  set(wrappers)
  foreach(source ${ARGN})
    get_filename_component(name ${source} NAME)
    set(wrapper ${folder}/${name}.cpp)
    file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"@source@\"\n" @ONLY)
    list(APPEND wrappers ${wrapper})
  endforeach()
  set(${result} ${wrappers} PARENT_SCOPE)
endfunction()

function(_cuconv_emulated_settings target flavour)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
  target_compile_definitions(${target} PRIVATE CUCONV_EMULATED=1 CUCONV_EMULATED_FLAVOUR="${flavour}")
  target_compile_options(${target} PRIVATE ${_cuconv_emulated_options} ${_cuconv_options_${flavour}})
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
endfunction()

# A module of the given kernels (instrumented) and other sources (not), over the flavour's emulator.
function(_cuconv_emulated_module name flavour kernels sources)
  _cuconv_wrap_kernels(wrappers ${CMAKE_CURRENT_BINARY_DIR}/emulated/${name} ${kernels})
  set_source_files_properties(${wrappers} PROPERTIES COMPILE_OPTIONS "${_cuconv_kernel_options_${flavour}}")
  pybind11_add_module(${name} MODULE NO_EXTRAS ${wrappers} ${sources} $<TARGET_OBJECTS:cuconv_emulator_${flavour}>)
  _cuconv_emulated_settings(${name} ${flavour})
  target_compile_definitions(${name} PRIVATE CUCONV_MODULE_NAME=${name} CUCONV_VERSION="${PROJECT_VERSION}"
                                             CUCONV_ARCHITECTURES="")
  if(flavour STREQUAL "race")
    target_link_options(${name} PRIVATE -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset)
  endif()
  install(TARGETS ${name} LIBRARY DESTINATION cuconv)
endfunction()

function(cuconv_add_emulated_module flavour)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU" OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    message(FATAL_ERROR "CUCONV_EMULATION=ON needs g++ on x86-64; this is ${CMAKE_CXX_COMPILER_ID} on "
                        "${CMAKE_SYSTEM_PROCESSOR}")
  endif()
  file(GLOB emulator CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/csrc/emu/*.cpp)
  if(NOT flavour STREQUAL "race")
    list(FILTER emulator EXCLUDE REGEX "/(tsan|ubsan)_hooks.cpp$")
  endif()
  add_library(cuconv_emulator_${flavour} OBJECT ${emulator} ${CMAKE_CURRENT_SOURCE_DIR}/csrc/bind/emulation.cpp)
  target_link_libraries(cuconv_emulator_${flavour} PRIVATE pybind11::module)
  _cuconv_emulated_settings(cuconv_emulator_${flavour} ${flavour})
  # Its checks run at every memory access of a kernel.
  target_compile_options(cuconv_emulator_${flavour} PRIVATE $<$<STREQUAL:${flavour},race>:-O2>)

  set(selftest ${CMAKE_CURRENT_SOURCE_DIR}/tests/emulation/selftest)
  _cuconv_emulated_module(_C_emulated_${flavour} ${flavour} "${CUCONV_KERNEL_SOURCES}" "${CUCONV_BIND_SOURCES}")
  if(EXISTS ${selftest})
    file(GLOB kernels CONFIGURE_DEPENDS ${selftest}/*.cu)
    _cuconv_emulated_module(_C_emulated_selftest_${flavour} ${flavour} "${kernels}" ${selftest}/module.cpp)
  endif()
endfunction()
