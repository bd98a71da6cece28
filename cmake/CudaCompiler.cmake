# Finds nvcc without failing: the user's choice (CMAKE_CUDA_COMPILER, CUDACXX), the system's, then the one that
# the PyPI package cuda-toolkit[nvcc,cudart,cccl] puts into site-packages. Sets CMAKE_CUDA_COMPILER (or leaves it
# NOTFOUND) after trying that it compiles.

function(_cuconv_pypi_nvcc result)
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} -c
      "import glob, importlib.util as u, os
spec = u.find_spec('nvidia')
found = [p for root in (spec.submodule_search_locations if spec else []) for p in glob.glob(os.path.join(root, 'cu*', 'bin', 'nvcc'))]
print(found[0] if found else '')"
    OUTPUT_VARIABLE found
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

macro(cuconv_find_cuda_compiler)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # Find the system's before CMake would, because PyPI's needs flags that the system's does not. A remembered path
    # may lie in a build environment that is gone.
    unset(CUCONV_NVCC CACHE)
    find_program(CUCONV_NVCC nvcc PATHS /usr/local/cuda/bin /opt/cuda/bin)
    if(CUCONV_NVCC)
      set(ENV{CUDACXX} "${CUCONV_NVCC}")
    else()
      _cuconv_pypi_nvcc(_cuconv_nvcc)
      if(_cuconv_nvcc)
        get_filename_component(_cuconv_root "${_cuconv_nvcc}" DIRECTORY)
        get_filename_component(_cuconv_root "${_cuconv_root}" DIRECTORY)
        set(ENV{CUDACXX} "${_cuconv_nvcc}")
        set(ENV{CUDAFLAGS} "-L${_cuconv_root}/lib $ENV{CUDAFLAGS}")
        set(CUDA_CUDART "${_cuconv_root}/lib/libcudart_static.a" CACHE FILEPATH "" FORCE)
        set(CUDAToolkit_ROOT "${_cuconv_root}" CACHE PATH "" FORCE)
      endif()
    endif()
  endif()
  include(CheckLanguage)
  check_language(CUDA)
endmacro()
