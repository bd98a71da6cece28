"""Bytes that pooling and ReLU move, counted by the emulator, and which variant of them runs."""

import numpy as np
import pytest

import cuconv
from emulated_traffic import benchmark, traffic


@pytest.mark.parametrize("variant", ["pool_channels", "pool_tiled"])
def test_pooling_touches_each_byte_once(emulated, variant):
    """Of distinct bytes; windows overlap."""
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    x = np.ones((2, 9, 11, 8), "f4")
    with cuconv.use_backend("emulated", **{**emulated.options(), "variant": variant}):
        ((kernel, read, written),) = traffic(cuconv.max_pool2d, x, 3, 2, 1, layout="NHWC")
    assert kernel == variant
    assert read == x.nbytes
    assert written == 2 * 5 * 6 * 8 * 4


@pytest.mark.parametrize(
    ("layout", "channels", "kernel"),
    [("NHWC", 8, "pool_channels"), ("NHWC", 3, "pool_tiled"), ("NCHW", 8, "pool_tiled")],
)
def test_the_variant_that_runs_unforced(emulated, layout, channels, kernel):
    x = np.ones((1, 9, 11, channels), "f4")
    x = x if layout == "NHWC" else np.moveaxis(x, -1, 1).copy()
    with emulated.select():
        for function in (cuconv.max_pool2d, cuconv.avg_pool2d):
            assert [t[0] for t in traffic(function, x, 3, 2, 1, layout=layout)] == [kernel]
            strided = x[:, ::2, ::2, ::2]
            assert [t[0] for t in traffic(function, strided, 2, layout=layout)] == [
                "max_pool" if function is cuconv.max_pool2d else "avg_pool"
            ]
        planes = "global_avg_planes" if layout == "NCHW" else "global_avg_channels"
        assert [t[0] for t in traffic(cuconv.global_avg_pool, x, layout=layout)] == [planes]
        assert [t[0] for t in traffic(cuconv.relu, x)] == ["relu_vector"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_table_of_bytes(emulated, layout):
    """Of its smallest planes: the least everywhere but where outputs scatter."""
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    table = benchmark("pool_bytes")
    rows = table.maxima("GoogLeNet pool 4", layout)
    assert [of for of, row in rows.items() if row.counted != row.least] == ["without windows"]
    assert all(row.counted == row.least for row in table.averages(layout).values())
