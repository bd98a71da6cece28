"""What the CUDA compiler made of the kernels: spills, registers, instructions. Needs no GPU."""

import os
import re

import pytest

import compiled_code


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
def listings(module):
    return compiled_code.listings(module)


@pytest.fixture(scope="module")
def code(listings):
    """The opcodes of each kernel."""
    return {key: {i.opcode for i in listing} for key, listing in listings.items()}


def test_every_architecture_has_the_same_kernels(kernels):
    by_arch = {}
    for kernel in kernels:
        by_arch.setdefault(kernel.arch, set()).add(kernel.name)
    first, *others = by_arch.values()
    assert all(other == first for other in others)


def test_no_kernel_spills_or_uses_local_memory(kernels):
    assert [k for k in kernels if k.stack != 0] == []


def most_registers(name):
    """Of a multiprocessor's 65536: for two blocks of 256 threads, or one where elements are wide or
    a float is split for tensor cores (and more of the smaller blocks)."""
    if "sm90" in name:
        return 168  # for one block of 384; then the warpgroups divide them among themselves
    if "tensor_core_groups" in name:
        return 80  # three blocks of 256 threads, which wait for their operands in turn
    if "implicit_gemm" in name:
        wide = ("<double", "complex_t", "tensor_core_kernel<float")
        return 255 if any(w in name for w in wide) else 128
    if "depthwise_channels" in name:
        return 168  # three blocks of 128 threads, each with eleven loads in flight
    return 168 if any(w in name for w in ("double", "complex_t")) else 128


def test_registers_leave_room_for_several_blocks(kernels):
    assert [k for k in kernels if k.registers > most_registers(k.name)] == []


def test_hopper_blocks_begin_with_the_registers_that_are_divided(kernels):
    """Fewer, and the consumers would wait for some that nobody gives back."""
    found = [k for k in kernels if "sm90_kernel" in k.name and k.arch == "sm_90a"]
    assert [k for k in found if k.registers != 168] == []


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
    kernels = ("direct", "depthwise_rows", "depthwise_channels", "depthwise_weight_grad")
    checked = 0
    for (arch, name), ops in code.items():
        for element, opcode in expected.items():
            if any(k in name for k in kernels) and f"<{element}" in name:
                assert any(op.startswith(opcode) for op in ops), f"{arch} {name}: no {opcode}"
                checked += 1
    assert checked >= 4


def test_transforms_move_complex_numbers_whole(code):
    """Both parts at a time, through shared memory and of spectra."""
    checked = 0
    for (arch, name), ops in code.items():
        if re.match(r"(cuconv::)?fft_(forward|inverse|fused)_kernel", name):
            width = "128" if "double" in name else "64"
            for kind in ("LDS", "STS", "STG" if "forward" in name else "LDG"):
                wide = any(op.startswith(kind) and width in op.split(".") for op in ops)
                assert wide, f"{arch} {name}: no {kind} of {width} bits"
            checked += 1
    assert checked >= 12


def products(code, word):
    found = {key: ops for key, ops in code.items() if f"implicit_gemm_{word}" in key[1]}
    assert found, f"no kernel of implicit GEMM is called {word}"
    return found.items()


def has(ops, *starts):
    return any(op.startswith(starts) for op in ops)


def test_tensor_core_kernels_use_tensor_cores(code):
    for (arch, name), ops in products(code, "tensor_core"):
        kind = "HMMA.1688" if "<float" in name or "Sm75" in name else "HMMA.16816"
        assert has(ops, kind), f"{arch} {name}: no {kind}"
        assert has(ops, "LDSM") or "<float" in name, f"{arch} {name}: no LDSM"


def test_stages_arrive_asynchronously_16_bytes_at_a_time(code):
    for (arch, name), ops in products(code, "tensor_core"):
        copies = sorted(op for op in ops if op.startswith("LDGSTS"))
        if "Sm75" in name:
            assert not copies, f"{arch} {name}: {copies}, which Turing does not have"
        else:
            assert any("128" in op for op in copies), f"{arch} {name}: {copies}"


def test_groups_of_few_channels_keep_to_wide_moves(code):
    """Filters are turned over on the way from shared memory, results stored 16 bytes at once."""
    for (arch, name), ops in products(code, "tensor_core_groups"):
        turned = [op for op in ops if op.startswith("LDSM") and "MT88" in op]
        assert turned, f"{arch} {name}: no LDSM that transposes"
        stores = sorted(op for op in ops if op.startswith("STG"))
        assert any("128" in op.split(".") for op in stores), f"{arch} {name}: {stores}"


def test_products_load_vectors_where_they_can(code):
    """16 bytes; 8 for the elements of two, of which a thread wants four."""
    for (arch, name), ops in products(code, "simt"):
        width = "64" if "half_t" in name or "bfloat16_t" in name else "128"
        loads = sorted(op for op in ops if op.startswith("LDG"))
        assert any(width in op.split(".") for op in loads), f"{arch} {name}: {loads}"


def test_fused_winograd_multiplies_from_vectors(code):
    """Four tiles or filters by one load from shared memory, and products on CUDA cores."""
    fused = {key: ops for key, ops in code.items() if "winograd_fused" in key[1]}
    assert fused, "no kernel is called winograd_fused"
    for (arch, name), ops in fused.items():
        assert has(ops, "FFMA"), f"{arch} {name}: no FFMA"
        wide = [op for op in ops if op.startswith("LDS") and "128" in op.split(".")]
        assert wide, f"{arch} {name}: no LDS of 128 bits"


def test_pooling_and_relu_move_vectors(code):
    """16 bytes: what their headers promise."""
    stores = ("pool_channels", "pool_grad_channels", "elementwise_vector")
    loads = (*stores, "pool_tiled", "pool_grad_tiled", "global_avg_planes")
    checked = 0
    for (arch, name), ops in code.items():
        for words, kind in ((loads, "LDG"), (stores, "STG")):
            if any(word in name for word in words):
                wide = any(op.startswith(kind) and "128" in op.split(".") for op in ops)
                assert wide, f"{arch} {name}: no {kind} of 128 bits"
                checked += 1
    assert checked


def test_depthwise_kernels_move_vectors(code):
    """16 bytes from shared memory and, of what is not 16 bits wide, to and from the device's."""
    checked = 0
    for (arch, name), ops in code.items():
        if not any(word in name for word in ("depthwise_rows", "depthwise_channels")):
            continue
        narrow = "half_t" in name or "bfloat16_t" in name
        # A thread has four outputs side by side, or four channels: 8 bytes of 16-bit numbers. Rows
        # of x come by 16 bytes whatever they are made of.
        widths = {"LDS": "128", "STG": "64" if narrow else "128"}
        widths["LDG"] = "64" if narrow and "channels" in name else "128"
        for kind, width in widths.items():
            moves = sorted(op for op in ops if op.startswith(kind))
            assert any(width in op.split(".") for op in moves), f"{arch} {name}: {moves}"
        checked += 1
    assert checked


def test_the_loop_over_taps_is_mostly_multiply_adds(module):
    """By what is written. More by what runs: half of the loop looks at rows one by one."""
    checked = 0
    for (arch, name), loops in compiled_code.innermost_loops(module).items():
        if "depthwise_rows_kernel<float," in name:
            shares = [loop["FFMA"] / loop.total() for loop in loops if loop["FFMA"] >= 32]
            assert max(shares, default=0) > 0.6, f"{arch} {name}: {shares}"
            checked += 1
    assert checked


def test_float32_stays_off_tensor_cores_unless_asked(code):
    for (arch, name), ops in code.items():
        if "tensor_core" not in name and "sm90_kernel" not in name:
            assert not has(ops, "HMMA", "HGMMA"), f"{arch} {name}"


# ---- Hopper ----


@pytest.fixture(scope="module")
def hopper(listings):
    if not any(arch == "sm_90a" for arch, _ in listings):
        pytest.skip("the CUDA module has no code for sm_90a")
    found = {n: code for (arch, n), code in listings.items() if arch == "sm_90a"}
    found = {name: code for name, code in found.items() if "sm90_kernel" in name}
    assert found
    return found


def count(listing, *starts):
    return sum(i.opcode.startswith(starts) for i in listing)


def innermost(listing, opcode):
    """The shortest loop with such an instruction."""
    return next(loop for loop in compiled_code.loops(listing) if count(loop, opcode))


def test_hopper_products_run_side_by_side(hopper):
    """Four wgmma a stage (of each 64 rows of a warpgroup) after one fence, and one wait: a compiler
    that cannot keep them in flight puts a fence and a wait around each (and warns: C7510)."""
    for name, listing in hopper.items():
        kind = "HGMMA.64x128x8.F32.TF32" if "<float" in name else "HGMMA.64x128x16.F32"
        loop = innermost(listing, "HGMMA")
        products = 8 if "256x128" in name else 4
        assert count(loop, kind) == count(listing, "HGMMA") == products, name
        assert count(loop, "WARPGROUP.ARRIVE") == count(listing, "WARPGROUP.ARRIVE") == 1, name
        assert count(loop, "WARPGROUP.DEPBAR") == 1, name
        assert count(loop, "LD", "ST", "BAR") == 0, f"{name}: {sorted({i.opcode for i in loop})}"


def test_hopper_lanes_that_waited_apart_multiply_together(hopper):
    """Either the warp as a whole asks whether a stage has come, or it is put in step after it."""
    for name, listing in hopper.items():
        loop = innermost(listing, "HGMMA")
        asked = [i.operands for i in loop if i.opcode.startswith("SYNCS.PHASECHK")]
        assert asked, name
        together = all("[UR" in operands for operands in asked)
        assert together or count(loop, "WARPSYNC.ALL"), name


def test_hopper_copies_are_by_tma(hopper):
    for name, listing in hopper.items():
        copies = ["UTMALDG.3D.IM2COL", "UTMALDG.4D.IM2COL", "UTMALDG.5D.IM2COL"]
        if "weight_grad" not in name:
            copies.append("UTMALDG.5D")  # of w
        for copy in copies:
            assert count(innermost(listing, copy), copy), name
        assert count(listing, "LDGSTS") == 0, name


def test_hopper_weight_gradients_transpose_both_operands(hopper):
    found = [code for name, code in hopper.items() if "weight_grad" in name]
    assert len(found) == 4
    for i in (i for listing in found for i in listing if i.opcode.startswith("HGMMA")):
        assert "tnspA" in i.operands, i
        assert "tnspB" in i.operands, i


def test_hopper_warpgroups_divide_the_registers(hopper):
    for name, listing in hopper.items():
        taken = {
            i.opcode.split(".")[1]: i.operands for i in listing if i.opcode.startswith("USETMAXREG")
        }
        assert taken["DEALLOC"].endswith("0x28"), f"{name}: {taken}"  # 40
        assert taken["TRY_ALLOC"].endswith("0xe8"), f"{name}: {taken}"  # 232


def test_hopper_kernels_are_for_hopper_alone(code):
    for (arch, name), ops in code.items():
        if "sm90_kernel" in name and arch != "sm_90a":
            assert has(ops, "BPT.TRAP"), f"{arch} {name} does something"
