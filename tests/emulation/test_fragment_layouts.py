"""The fragments of mma against an oracle that is not ours: NVIDIA's CuTe headers.

They come with the PyPI package nvidia-cutlass, and g++ compiles them with the CUDA toolkit's.
"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from emulation.test_tensor_core import LANES, PRODUCTS, M, N, Product, multiply, small_integers

SOURCE = Path(__file__).with_name("fragment_layouts.cpp")


def package_folders(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    return [Path(p) for p in spec.submodule_search_locations or []] if spec else []


def include_folders() -> list[Path]:
    cute = [p / "source" / "include" for p in package_folders("cutlass_library")]
    if not any((p / "cute").is_dir() for p in cute):
        pytest.skip("no CuTe headers: the PyPI package nvidia-cutlass has them")
    nvcc = shutil.which("nvcc")
    toolkits = [Path(nvcc).resolve().parents[1]] if nvcc else []
    toolkits += [Path("/usr/local/cuda"), Path("/opt/cuda")]
    toolkits += [p for folder in package_folders("nvidia") for p in sorted(folder.glob("cu*"))]
    for toolkit in toolkits:
        include = toolkit / "include"
        if (include / "cuda_runtime_api.h").is_file():
            return [*cute, include, include / "cccl"]
    pytest.skip("no headers of a CUDA toolkit, which those of CuTe include")


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], np.ndarray]:
    """(product, operand) -> index[lane, element]"""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = tmp_path_factory.mktemp("cute") / "fragment_layouts"
    includes = [f"-I{folder}" for folder in include_folders()]
    command = [compiler, "-std=c++17", "-w", *includes, str(SOURCE), "-o", str(program)]
    subprocess.run(command, check=True, timeout=300)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in printed.splitlines()]
    return {(r[0], r[1]): np.array(r[2:], int).reshape(LANES, -1) for r in rows}


@pytest.mark.parametrize("name", PRODUCTS)
def test_emulated_products_take_cutes_fragments(device, layouts, name):
    """Distributed and gathered by CuTe's layouts, the product is right."""

    def place(operand: str, rows: int):
        def at(lane: int, i: int) -> tuple[int, int]:
            column, row = divmod(int(layouts[name, operand][lane, i]), rows)
            return (row, column) if operand != "b" else (column, row)

        return at

    ours = PRODUCTS[name]
    cute = Product(ours.depth, ours.dtype, place("a", M), place("b", N), place("c", M))
    a, b, c = small_integers(ours.depth, 7)
    np.testing.assert_array_equal(multiply(device, name, a, b, c, cute), a @ b + c)
