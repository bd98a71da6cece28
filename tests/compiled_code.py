"""Facts read from the compiled CUDA module, for which no GPU is needed.

`python tests/compiled_code.py` prints registers and stack of every kernel.
"""

from __future__ import annotations

import collections
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    arch: str
    name: str  # demangled, without its parameters
    registers: int
    stack: int  # bytes a thread: arrays indexed at run time, and spilled registers
    shared: int


def module_path() -> Path | None:
    """The CUDA module that `import cuconv` would load, found without loading it."""
    spec = importlib.util.find_spec("cuconv._C")
    return Path(spec.origin) if spec and spec.origin else None


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit: on PATH, beside nvcc, or from its PyPI package."""
    if found := shutil.which(name):
        return found
    places = [Path(nvcc).resolve().parent] if (nvcc := shutil.which("nvcc")) else []
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        places += sorted(Path(root).glob("cu*/bin"))
    return next((str(p / name) for p in places if (p / name).is_file()), None)


@functools.cache
def _cuobjdump(path: Path, what: str) -> str:
    program = tool("cuobjdump")
    assert program is not None
    command = [program, what, str(path)]
    # cuobjdump calls nvdisasm, which it looks for on PATH.
    environment = {"PATH": f"{Path(program).parent}:/usr/bin:/bin"}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


def demangle(names: list[str]) -> list[str]:
    done = subprocess.run(
        ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    # Template arguments that are numbers carry casts, "(bool)1", which are no parameters.
    plain = [re.sub(r"\([\w:]+\)(?=\d)", "", line) for line in done.stdout.splitlines()]
    return [re.sub(r"^void |\(.*", "", line) for line in plain]


def resource_usage(path: Path) -> list[Kernel]:
    found = []
    arch = ""
    lines = iter(_cuobjdump(path, "-res-usage").splitlines())
    for line in lines:
        if m := re.match(r"arch = (sm_\w+)", line):
            arch = m[1]
        elif m := re.match(r"\s*Function (\S+):", line):
            usage = {k: int(v) for k, v in re.findall(r"(REG|STACK|SHARED):(\d+)", next(lines))}
            found.append((arch, m[1], usage))
    names = demangle([mangled for _, mangled, _ in found])
    return [
        Kernel(arch, name, usage["REG"], usage["STACK"], usage["SHARED"])
        for (arch, _, usage), name in zip(found, names, strict=True)
    ]


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: str  # with its modifiers
    operands: str


@functools.cache
def listings(path: Path) -> dict[tuple[str, str], list[Instruction]]:
    """The instructions of each (architecture, kernel), as they stand."""
    result: dict[tuple[str, str], list[Instruction]] = {}
    arch, current = "", None
    line_of_code = re.compile(
        r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Z0-9_.x]*)([^;]*)"
    )
    for line in _cuobjdump(path, "-sass").splitlines():
        if m := re.match(r"arch = (sm_\w+)", line):
            arch = m[1]
        elif m := re.match(r"\s*Function : (\S+)", line):
            current = result.setdefault((arch, m[1]), [])
        elif current is not None and (m := line_of_code.match(line)):
            current.append(Instruction(int(m[1], 16), m[2], m[3].strip()))
    names = demangle([mangled for _, mangled in result])
    return {(a, name): code for ((a, _), code), name in zip(result.items(), names, strict=True)}


def instructions(path: Path) -> dict[tuple[str, str], set[str]]:
    """The instructions of each (architecture, kernel): opcodes with their modifiers."""
    return {key: {i.opcode for i in code} for key, code in listings(path).items()}


def innermost_loops(path: Path) -> dict[tuple[str, str], list[collections.Counter[str]]]:
    """Of each (architecture, kernel) how often opcodes, without modifiers, stand in each loop."""
    result = {}
    for key, code in listings(path).items():
        spans = []
        for i in code:
            target = re.search(r"0x([0-9a-f]+)\s*$", i.operands) if i.opcode == "BRA" else None
            if target and int(target[1], 16) < i.address:
                spans.append((int(target[1], 16), i.address))
        inner = [
            (a, b)
            for a, b in spans
            if not any(a <= c and d < b for c, d in spans if c != a or d != b)
        ]
        result[key] = [
            collections.Counter(i.opcode.split(".")[0] for i in code if a <= i.address <= b)
            for a, b in inner
        ]
    return result


def loops(listing: list[Instruction]) -> list[list[Instruction]]:
    """What each backward jump goes over again, the shortest first."""
    found = []
    for at in listing:
        target = re.search(r"0x([0-9a-f]+)", at.operands) if at.opcode.startswith("BRA") else None
        if target and int(target[1], 16) < at.address:
            found.append([i for i in listing if int(target[1], 16) <= i.address <= at.address])
    return sorted(found, key=len)


if __name__ == "__main__":
    path = module_path()
    if path is None:
        sys.exit("the CUDA module cuconv._C was not built")
    if tool("cuobjdump") is None:
        sys.exit("no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    for kernel in sorted(resource_usage(path), key=lambda k: (k.arch, k.name)):
        print(
            f"{kernel.arch:7} {kernel.registers:4} registers {kernel.stack:4} stack  {kernel.name}"
        )
