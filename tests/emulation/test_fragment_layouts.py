"""Fragments of mma and operands of wgmma against an oracle that is not ours: the CuTe headers.

They come with the PyPI package nvidia-cutlass, and g++ compiles them with the CUDA toolkit's.
"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from emulation import test_hopper
from emulation.test_tensor_core import LANES, PRODUCTS, M, N, Product, multiply, small_integers
from tma_model import swizzled

HERE = Path(__file__).parent


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


def printed(source: Path, folder: Path) -> list[list[str]]:
    """The words of each line that a program prints."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = folder / source.stem
    includes = [f"-I{folder}" for folder in include_folders()]
    command = [compiler, "-std=c++17", "-w", *includes, str(source), "-o", str(program)]
    subprocess.run(command, check=True, timeout=300)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], np.ndarray]:
    """(product, operand) -> index[lane, element]"""
    rows = printed(HERE / "fragment_layouts.cpp", tmp_path_factory.mktemp("cute"))
    return {(r[0], r[1]): np.array(r[2:], int).reshape(LANES, -1) for r in rows}


@pytest.fixture(scope="module")
def wgmma(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    rows = printed(HERE / "wgmma_layouts.cpp", tmp_path_factory.mktemp("cute"))
    return {r[0]: np.array(r[1:], np.uint64) for r in rows}


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


@pytest.mark.parametrize("name", test_hopper.DTYPES)
def test_emulated_wgmma_gives_cutes_sums(device, wgmma, name):
    places = wgmma["sums"].astype(int).reshape(128, 64)

    def place(thread: int, i: int) -> tuple[int, int]:
        column, row = divmod(int(places[thread, i]), test_hopper.A)
        return row, column

    a, b = test_hopper.operands(name, 3)
    np.testing.assert_array_equal(test_hopper.multiply(device, name, a, b, place), 2 * a @ b.T)


@pytest.mark.parametrize(("name", "dtype"), [("half", np.uint16), ("tf32", np.uint32)])
def test_lines_are_swizzled_as_cute_has_them(wgmma, name, dtype):
    """So a copy (which is held to the model) brings what a product (held to the copy) expects."""
    lines = np.arange(64 * 128 // dtype().itemsize).astype(dtype).reshape(64, -1)
    memory = swizzled(lines).view(dtype).ravel()
    where = wgmma[f"line_{name}"].astype(int) // dtype().itemsize
    np.testing.assert_array_equal(memory[where], lines.ravel())


@pytest.mark.parametrize(("name", "rows"), [("a_by_k", 64), ("b_by_k", 128)])
def test_operands_by_k_lie_as_cute_has_them(wgmma, name, rows):
    b = np.arange(rows * 64, dtype=np.uint16).reshape(rows, 64)
    memory = swizzled(test_hopper.by_k(b)).view(np.uint16).ravel()
    np.testing.assert_array_equal(memory[wgmma[name].astype(int) // 2], b.ravel())


def test_descriptors_are_cutes(device, wgmma):
    y = np.zeros(2, np.uint64)
    device.run("descriptor", y=y, shared_bytes=8192)
    assert y.tolist() == [int(wgmma[name][0]) for name in ("descriptor", "descriptor_by_k")]
