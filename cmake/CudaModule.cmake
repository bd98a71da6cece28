# cuconv._C: the kernels for GPUs. The CUDA runtime is linked statically and the driver library not at all, so that
# the module imports on any machine.

# The user's list, else the GPUs of this machine, else code for A100 and H100 with PTX that runs on every later GPU.
function(_cuconv_architectures result)
  set(list "${CUCONV_CUDA_ARCHITECTURES}")
  if(list STREQUAL "all")
    set(list 75-real 80-real 86-real 89-real 90a-real 100-real 120)
  elseif(list STREQUAL "")
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE caps
                    RESULT_VARIABLE failed ERROR_QUIET)
    if(failed EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" caps "${caps}")
      foreach(cap ${caps})
        string(REPLACE "." "" cap ${cap})
        if(cap STREQUAL "90")
          set(cap 90a)
        endif()
        list(APPEND list ${cap}-real)
      endforeach()
      list(REMOVE_DUPLICATES list)
    else()
      set(list 80 90a-real)
    endif()
  endif()
  # A GPU of compute capability 9.0 can run either, and which one it gets is not ours to say; only 90a has wgmma.
  if("${list}" MATCHES "(^|;)90a" AND "${list}" MATCHES "(^|;)90(-real)?(;|$)")
    message(FATAL_ERROR "CUCONV_CUDA_ARCHITECTURES is '${list}': it has code both for 90 and for 90a. Leave 90 out: every "
                        "GPU that runs it runs 90a, and would otherwise be given either.")
  endif()
  set(${result} ${list} PARENT_SCOPE)
endfunction()

# A macro, because a language must be enabled in the scope of the file.
macro(cuconv_add_cuda_module)
  _cuconv_architectures(architectures)
  message(STATUS "CUDA module for architectures ${architectures} by ${CMAKE_CUDA_COMPILER}")
  set(CMAKE_CUDA_ARCHITECTURES ${architectures})
  list(JOIN architectures " " architecture_names) # a semicolon would end the definition
  enable_language(CUDA)
  set_source_files_properties(${CUCONV_KERNEL_SOURCES} PROPERTIES LANGUAGE CUDA)
  pybind11_add_module(_C MODULE NO_EXTRAS ${CUCONV_KERNEL_SOURCES} ${CUCONV_BIND_SOURCES})
  target_include_directories(_C PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/csrc)
  set_target_properties(_C PROPERTIES CUDA_ARCHITECTURES "${architectures}" CUDA_RUNTIME_LIBRARY Static
                                      CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden)
  target_include_directories(_C PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  target_compile_definitions(_C PRIVATE CUCONV_MODULE_NAME=_C CUCONV_VERSION="${PROJECT_VERSION}"
                                        CUCONV_ARCHITECTURES="${architecture_names}")
  # -lineinfo costs nothing at run time and lets profilers and compute-sanitizer name source lines.
  target_compile_options(
    _C PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo -Xptxas=-warn-spills,-warn-lmem-usage>
               $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.9)
    target_compile_options(_C PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=${CUCONV_CUDA_COMPRESSION}>)
  endif()
  install(TARGETS _C LIBRARY DESTINATION cuconv)
endmacro()
