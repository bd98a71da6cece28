"""The build backend: scikit-build-core's, plus a CUDA compiler from PyPI when one is needed.

With CUCONV_CUDA=ON and no nvcc on the machine, the compiler becomes a build requirement like any
other, so `pip install .` needs no CUDA toolkit. With AUTO (the default) the CUDA module is built
when an nvcc is found and left out otherwise; nothing large is downloaded unasked.
"""

import os
import shutil
from pathlib import Path

from scikit_build_core.build import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from scikit_build_core.build import get_requires_for_build_editable as _editable_requires
from scikit_build_core.build import get_requires_for_build_wheel as _wheel_requires

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

# The meta package: nvcc's own package alone pulls parts of another version and fails to compile.
_TOOLCHAIN = "cuda-toolkit[nvcc,cudart,cccl]>=13.0,<14"
# Where cmake/CudaCompiler.cmake looks besides PATH.
_USUAL_PLACES = (Path("/usr/local/cuda/bin/nvcc"), Path("/opt/cuda/bin/nvcc"))


def _toolchain(config_settings):
    settings = config_settings or {}
    choice = settings.get("cmake.define.CUCONV_CUDA") or os.environ.get("CUCONV_CUDA", "AUTO")
    system = [
        shutil.which("nvcc"),
        os.environ.get("CUDACXX"),
        *(p for p in _USUAL_PLACES if p.exists()),
    ]
    return [_TOOLCHAIN] if choice.upper() == "ON" and not any(system) else []


def get_requires_for_build_wheel(config_settings=None):
    return [*_wheel_requires(config_settings), *_toolchain(config_settings)]


def get_requires_for_build_editable(config_settings=None):
    return [*_editable_requires(config_settings), *_toolchain(config_settings)]
