"""The arrows between the parts of the code: each part includes and imports only what lies below it.

The tables below are the architecture in a form that can fail. docs/architecture.md says why.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "cuconv"

# ---- C++ ----

# part -> the parts it may include, besides itself
CPP_ARROWS = {
    "base": set(),  # problem.h, config.h
    "device": {"base"},
    "kernels": {"base", "device"},
    "tuning": {"base"},
    "launch": {"base", "device", "kernels", "tuning"},
    "bind": {"base", "launch"},
    "emu": {"base", "launch"},
}
# The emulator is entered through these two doors, and by its own binding.
EMULATOR_DOORS = {"device/platform.cuh", "launch/launch.cuh", "bind/emulation.cpp"}
EMULATOR_DOORS |= {"bind/emulation.h", "bind/module.cpp"}
KERNEL_FAMILIES_SHARED = {"kernels/epilogue.cuh", "kernels/hits.cuh"}  # what several families use
KERNEL_GROUND = "gather"  # a convolution as a matrix product: every GEMM family is built on it


def cpp_files():
    return sorted(p for p in CSRC.rglob("*") if p.suffix in {".h", ".cuh", ".cu", ".cpp", ".inc"})


def part_of(path: str) -> str:
    return path.split("/")[0] if "/" in path else "base"


def includes(path: Path) -> list[str]:
    """The project's own headers that a file includes; an unknown one is an error of its own."""
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)


def test_there_are_files_to_check():
    assert len(cpp_files()) > 20
    assert len(list(PACKAGE.rglob("*.py"))) > 15


@pytest.mark.parametrize("path", cpp_files(), ids=lambda p: str(p.relative_to(CSRC)))
def test_cpp_includes_point_downwards(path):
    name = str(path.relative_to(CSRC))
    part = part_of(name)
    for include in includes(path):
        assert (CSRC / include).is_file(), f"{name} includes {include}: not a path under csrc"
        target = part_of(include)
        if target == part:
            if part == "kernels" and include not in KERNEL_FAMILIES_SHARED:
                family, other = name.split("/")[1], include.split("/")[1]
                assert other in {family, KERNEL_GROUND}, (
                    f"kernel family {family} includes {other}: {include}"
                )
            continue
        if target == "emu":
            assert name in EMULATOR_DOORS, f"{name} reaches the emulator: {include}"
            continue
        assert target in CPP_ARROWS[part], f"{name} ({part}) may not include {include} ({target})"


@pytest.mark.parametrize("path", cpp_files(), ids=lambda p: str(p.relative_to(CSRC)))
def test_cpp_keeps_to_its_place(path):
    name = str(path.relative_to(CSRC))
    part = part_of(name)
    text = strip_comments(path.read_text())
    if part != "bind":
        assert not re.search(r"\bPython\.h\b|\bpybind11\b", text), f"{name}: Python belongs in bind"
    if part not in {"device", "emu"}:
        assert not re.search(r"\basm\b|__CUDA_ARCH__", text), f"{name}: asm belongs in device"
        assert not re.search(r"\b__shared__\b", text), f"{name}: use dynamic_shared()"
    assert "<<<" not in text, f"{name}: launch through launch/launch.cuh"
    assert not re.search(r"\b(exit|abort|assert)\s*\(", text) or part == "emu", f"{name}: throw"


def strip_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


# ---- Python ----

# level of each module; a module may import only modules of a lower level, or its own package's
PYTHON_LEVELS = {
    "errors": 0,
    "_version": 0,
    "_arguments": 0,
    "_docstrings": 0,
    "_folders": 0,
    "_pages": 0,
    "_atomic": 0,
    "_machine": 0,
    "_timing": 0,
    "_clocks": 1,
    "_answers": 1,
    "_layout": 1,
    "_problem": 2,
    "_backends": 3,
    "_arrays": 4,
    "_padding": 4,
    "config": 4,
    "_conv": 5,
    "autotune": 4,
    "_quick": 6,
    "_explain": 6,
    "conv": 7,
    "conv_grad": 7,
    "pool": 7,
    "pool_grad": 7,
    "activation": 7,
    "plan": 8,
    "_inception": 8,
    "inception": 9,
    "__init__": 10,
    "_bench": 11,
    "_cli": 12,
    "__main__": 13,
}


def python_part(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").removesuffix(".pyi")


def python_imports(path: Path) -> list[str]:
    """Parts of this package that a module imports, wherever in the file the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            if module == "cuconv":
                found += [a.name if is_part(a.name) else "__init__" for a in node.names]
            elif module.startswith("cuconv."):
                found.append(module.split(".")[1])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "cuconv":
                    found.append("__init__")
                elif alias.name.startswith("cuconv."):
                    found.append(alias.name.split(".")[1])
    return found


def is_part(name: str) -> bool:
    return name in PYTHON_LEVELS or name.startswith("_C")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_python_imports_point_downwards(path):
    part = python_part(path)
    level = PYTHON_LEVELS[part]
    for other in python_imports(path):
        if other == part:
            continue
        if other.startswith("_C"):
            assert part in {"_backends", "config"}, f"{path.name}: {other} is for the backends"
            continue
        assert other in PYTHON_LEVELS, f"{path.name} imports {other}: give it a level here"
        assert PYTHON_LEVELS[other] < level, f"{part} (level {level}) may not import {other}"
