"""What the CUDA compiler made of the kernels: spills, registers, instructions. Needs no GPU."""

import os

import pytest

import compiled_code

pytestmark = pytest.mark.xdist_group("compiled_code")  # one disassembly, not one a worker


@pytest.fixture(scope="module")
def module():
    path = compiled_code.module_path()
    missing = ""
    if path is None:
        missing = "the CUDA module was not built (no nvcc was found)"
    elif compiled_code.tool("cuobjdump") is None or compiled_code.tool("nvdisasm") is None:
        missing = "no cuobjdump and nvdisasm on this machine"
    if missing and os.environ.get("CUCONV_REQUIRE_CUDA_MODULE") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return path


@pytest.fixture(scope="module")
def kernels(module):
    found = compiled_code.resource_usage(module)
    assert found, "cuobjdump listed no kernel"
    return found


@pytest.fixture(scope="module")
def code(module):
    return compiled_code.instructions(module)


def test_every_architecture_has_the_same_kernels(kernels):
    by_arch = {}
    for kernel in kernels:
        by_arch.setdefault(kernel.arch, set()).add(kernel.name)
    first, *others = by_arch.values()
    assert all(other == first for other in others)


def test_no_kernel_spills_or_uses_local_memory(kernels):
    assert [k for k in kernels if k.stack != 0] == []


def test_registers_leave_room_for_several_blocks(kernels):
    """Of a multiprocessor's 65536: two blocks of 256 threads, one of the wide types (and more of
    the smaller blocks that the tiled kernels use)."""
    wide = ("double", "complex_t")
    most = {k: 168 if any(w in k.name for w in wide) else 128 for k in kernels}
    assert [k for k in kernels if k.registers > most[k]] == []


def test_no_shared_memory_but_the_dynamic(kernels):
    # 1 KiB of every block belongs to the system from sm_80 on
    assert [k for k in kernels if k.shared > 1024] == []


def test_every_kernel_was_disassembled(kernels, code):
    assert {(k.arch, k.name) for k in kernels} == set(code)


def test_no_atomics_anywhere(code):
    """Floating-point atomics would make the bits depend on the schedule."""
    atomic = {
        key: sorted(op for op in ops if op.startswith(("ATOM", "RED.", "SUATOM")))
        for key, ops in code.items()
    }
    assert {key: ops for key, ops in atomic.items() if ops} == {}


def test_convolutions_use_fused_multiply_adds(code):
    expected = {"float": "FFMA", "double": "DFMA"}
    checked = 0
    for (arch, name), ops in code.items():
        for element, opcode in expected.items():
            if "direct" in name and f"<{element}" in name:
                assert any(op.startswith(opcode) for op in ops), f"{arch} {name}: no {opcode}"
                checked += 1
    assert checked >= 4
