"""`cuconv filter`: real files in, real files out, against scipy.ndimage."""

import errno
import os
import stat
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from scipy import ndimage

import cuconv
from cli_helpers import assert_one_line, run
from cuconv import _atomic
from cuconv._cli._device import Device

SCIPY_MODES = {"reflect": "mirror", "replicate": "nearest", "circular": "wrap", "zeros": "constant"}
SHARPEN = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
EMBOSS = [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]


def sobel(x, mode):
    return np.hypot(ndimage.sobel(x, 0, mode=mode), ndimage.sobel(x, 1, mode=mode))


def correlate(weights):
    return lambda x, mode: ndimage.correlate(x, np.array(weights, float), mode=mode)


# kernel -> (options, scipy's function of one channel and a mode, largest difference)
KERNELS = {
    "sobel": ((), sobel, 0),
    "laplacian": ((), lambda x, mode: ndimage.laplace(x, mode=mode), 0),
    "sharpen": ((), correlate(SHARPEN), 0),
    "emboss": ((), correlate(EMBOSS), 0),
    # Sums of rounded weights may fall on the other side of a half.
    "gaussian": (("--sigma", 1.5), lambda x, mode: ndimage.gaussian_filter(x, 1.5, mode=mode), 1),
}


def noise(*shape, dtype):
    high = np.iinfo(dtype).max
    return np.random.default_rng(7).integers(0, high, shape, dtype, endpoint=True)


def expected(image, function, mode):
    planes = np.atleast_3d(image).astype(np.float64)
    result = np.stack([function(p, mode) for p in np.moveaxis(planes, 2, 0)], axis=2)
    high = np.iinfo(image.dtype).max
    return np.clip(np.rint(result), 0, high).astype(image.dtype).reshape(image.shape)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def leftovers(folder, *known):
    return sorted({p.name for p in folder.iterdir()} - set(known))


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("channels", [(), (3,)], ids=["grey", "colour"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_agree_with_scipy(capsys, tmp_path, kernel, dtype, channels, mode):
    options, function, allowed = KERNELS[kernel]
    image = noise(23, 31, *channels, dtype=dtype)
    source, target = write(tmp_path / "in.png", image), tmp_path / "out.png"
    outcome = run(capsys, "filter", source, target, "-k", kernel, "--padding-mode", mode, *options)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    got, want = read(target), expected(image, function, SCIPY_MODES[mode])
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    difference = np.abs(got.astype(int) - want.astype(int))
    assert difference.max() <= allowed
    assert np.mean(difference > 0) < 0.01
    assert leftovers(tmp_path, "in.png", "out.png") == []


def test_laplacian_of_gaussian(capsys, tmp_path):
    image = cv2.GaussianBlur(noise(40, 40, dtype=np.uint16), (0, 0), 2)
    source, target = write(tmp_path / "in.tiff", image), tmp_path / "out.tiff"
    outcome = run(capsys, "filter", source, target, "-k", "laplacian", "--sigma", 2)
    assert outcome.code == 0
    want = expected(image, lambda x, m: ndimage.gaussian_laplace(x, 2, mode=m), "mirror")
    # scipy's kernel does not sum to exactly 0: its sum times the brightness stays as an offset.
    impulse = np.zeros((41, 41))
    impulse[20, 20] = 1
    offset = abs(ndimage.gaussian_laplace(impulse, 2).sum()) * 65535
    assert np.abs(read(target).astype(int) - want.astype(int)).max() <= 1 + offset


def test_size_cuts_the_gaussian(capsys, tmp_path):
    image = noise(12, 12, dtype=np.uint8)
    source, target = write(tmp_path / "in.png", image), tmp_path / "out.png"
    assert run(capsys, "filter", source, target, "-k", "gaussian", "--size", 3).code == 0
    e = np.exp(-0.5)
    line = np.array([e, 1, e]) / (1 + 2 * e)
    want = expected(image, correlate(np.outer(line, line)), "mirror")
    assert np.abs(read(target).astype(int) - want.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.txt", b"1 2 0\n0 -1 3\n"),
        ("k.csv", b"# a comment\n1, 2, 0\n\n0,-1,3  # another\n"),
        ("k.npy", None),
    ],
)
def test_a_matrix_from_a_file_is_correlated(capsys, tmp_path, name, content):
    matrix = np.array([[1, 2, 0], [0, -1, 3]])
    path = tmp_path / name
    if content is None:
        np.save(path, matrix)
    else:
        path.write_bytes(content)
    image = noise(9, 14, 3, dtype=np.uint8) // 5
    source, target = write(tmp_path / "in.png", image), tmp_path / "out.png"
    assert run(capsys, "filter", source, target, "-k", path).code == 0
    # An even kernel's centre is right of its middle, in scipy too.
    np.testing.assert_array_equal(read(target), expected(image, correlate(matrix), "mirror"))


@pytest.mark.parametrize("algo", ["direct", "im2col"])
def test_families_agree(capsys, tmp_path, algo):
    image = noise(20, 20, dtype=np.uint8)
    source, target = write(tmp_path / "in.png", image), tmp_path / "out.png"
    options = ("-k", "emboss", "--algo", algo, "--device", "cpu")
    assert run(capsys, "filter", source, target, *options).code == 0
    np.testing.assert_array_equal(read(target), expected(image, correlate(EMBOSS), "mirror"))


# ---- two passes ----


@pytest.mark.parametrize("mode", SCIPY_MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_separable_kernel_in_two_passes(capsys, tmp_path, dtype, mode):
    matrix = np.outer([1, 2, 3, 1], [2, -1, 3]) / 29
    np.save(tmp_path / "k.npy", matrix)
    image = noise(17, 22, 3, dtype=dtype)
    source, target = write(tmp_path / "in.png", image), tmp_path / "out.png"
    options = ("-k", tmp_path / "k.npy", "--padding-mode", mode, "--separable")
    assert run(capsys, "filter", source, target, *options).code == 0
    want = expected(image, correlate(matrix), SCIPY_MODES[mode])
    difference = np.abs(read(target).astype(int) - want.astype(int))
    assert difference.max() <= 1  # sums of rounded weights may fall on the other side of a half
    assert np.mean(difference > 0) < 0.01


def test_two_passes_are_by_lines(monkeypatch, capsys, tmp_path):
    shapes = []

    def recorded(x, w, **options):
        shapes.append(w.shape[2:])
        return conv2d(x, w, **options)

    conv2d = cuconv.conv2d
    monkeypatch.setattr(cuconv, "conv2d", recorded)
    source, target = write(tmp_path / "in.png", noise(9, 9, dtype=np.uint8)), tmp_path / "o.png"
    assert run(capsys, "filter", source, target, "-k", "sobel", "--separable").code == 0
    assert shapes == [(3, 1), (1, 3)] * 2


def test_a_kernel_of_zeros_is_separable(capsys, tmp_path):
    (tmp_path / "k.txt").write_text("0 0\n0 0\n")
    source, target = write(tmp_path / "in.png", noise(9, 9, dtype=np.uint8)), tmp_path / "o.png"
    assert run(capsys, "filter", source, target, "-k", tmp_path / "k.txt", "--separable").code == 0
    assert not read(target).any()


def test_a_kernel_that_no_two_lines_make(capsys, tmp_path):
    """Of the identity of two rows, half of the squares are missed."""
    (tmp_path / "k.txt").write_text("1 0\n0 1\n")
    source, target = write(tmp_path / "in.png", noise(9, 9, dtype=np.uint8)), tmp_path / "o.png"
    options = ("-k", tmp_path / "k.txt", "--separable")
    outcome = run(capsys, "filter", source, target, *options)
    assert_one_line(outcome, "--separable", "miss 0.707 of the kernel's norm", "1e-06")
    assert not target.exists()
    assert run(capsys, "filter", source, target, *options, "--tolerance", 0.7).code == 2
    assert run(capsys, "filter", source, target, *options, "--tolerance", 0.71).code == 0
    assert target.exists()


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (("--tolerance", 0.1), ["--tolerance goes with --separable"]),
        (("--separable", "--tolerance", -1), ["--tolerance must be", "got -1"]),
        (("--separable", "--tolerance", "nan"), ["--tolerance must be", "got nan"]),
        (("--separable", "--tolerance", 1), ["--tolerance must be", "got 1"]),
    ],
)
def test_errors_of_two_passes(capsys, tmp_path, options, fragments):
    source = write(tmp_path / "in.png", noise(9, 9, dtype=np.uint8))
    outcome = run(capsys, "filter", source, tmp_path / "o.png", "-k", "sobel", *options)
    assert_one_line(outcome, *fragments)


# ---- files ----


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_transparency_is_kept(capsys, tmp_path, dtype, suffix):
    image = noise(11, 13, 4, dtype=dtype)
    source, target = write(tmp_path / f"in{suffix}", image), tmp_path / "out.png"
    assert run(capsys, "filter", source, target, "-k", "sharpen").code == 0
    got = read(target)
    np.testing.assert_array_equal(got[..., 3], image[..., 3])
    want = expected(np.ascontiguousarray(image[..., :3]), correlate(SHARPEN), "mirror")
    np.testing.assert_array_equal(got[..., :3], want)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".ppm", ".pgm", ".jpg", ".JPEG", ".webp"])
def test_formats(capsys, tmp_path, suffix):
    source = write(tmp_path / "in.png", noise(16, 16, dtype=np.uint8))
    target = tmp_path / f"out{suffix}"
    outcome = run(capsys, "filter", source, target, "-k", "gaussian")
    assert (outcome.code, outcome.err) == (0, "")
    assert read(target).shape[:2] == (16, 16)


def test_a_file_may_be_filtered_onto_itself(capsys, tmp_path):
    image = noise(10, 10, dtype=np.uint8)
    path = write(tmp_path / "in.png", image)
    path.chmod(0o640)
    link = tmp_path / "link.png"
    link.symlink_to(path)
    assert run(capsys, "filter", path, link, "-k", "emboss").code == 0
    np.testing.assert_array_equal(read(path), expected(image, correlate(EMBOSS), "mirror"))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_permissions(capsys, tmp_path):
    source = write(tmp_path / "in.png", noise(10, 10, dtype=np.uint8))
    (tmp_path / "usual").touch()
    assert run(capsys, "filter", source, tmp_path / "out.png", "-k", "emboss").code == 0
    assert (tmp_path / "out.png").stat().st_mode == (tmp_path / "usual").stat().st_mode


def exif(orientation):
    """A TIFF header and one entry: tag 0x112, SHORT, 1 value."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(capsys, tmp_path, orientation):
    # What each orientation says: how the stored picture becomes upright.
    upright = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }[orientation]
    (tmp_path / "one.txt").write_text("1")
    image = noise(8, 12, 4, dtype=np.uint8)

    jpeg = cv2.imencode(".jpg", image[..., :3])[1].tobytes()
    segment = b"Exif\0\0" + exif(orientation)
    head = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    (tmp_path / "in.jpg").write_bytes(jpeg[:2] + head + jpeg[2:])
    stored = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    options = ("-k", tmp_path / "one.txt")
    assert run(capsys, "filter", tmp_path / "in.jpg", tmp_path / "out.png", *options).code == 0
    np.testing.assert_array_equal(read(tmp_path / "out.png"), upright(stored))

    png = cv2.imencode(".png", image)[1].tobytes()
    body = b"eXIf" + exif(orientation)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "in.png").write_bytes(png[:33] + chunk + png[33:])  # after IHDR
    assert run(capsys, "filter", tmp_path / "in.png", tmp_path / "out.png", *options).code == 0
    turned = cv2.imread(str(tmp_path / "in.png"), cv2.IMREAD_COLOR)
    if turned.shape[:2] == upright(image).shape[:2] and np.array_equal(
        turned, upright(image)[..., :3]
    ):
        np.testing.assert_array_equal(read(tmp_path / "out.png"), upright(image))
    else:  # an OpenCV that ignores eXIf in PNG
        np.testing.assert_array_equal(read(tmp_path / "out.png"), image)


# ---- errors ----


@pytest.fixture
def folder(tmp_path):
    """Good and bad inputs."""
    image = noise(10, 12, 3, dtype=np.uint8)
    write(tmp_path / "good.png", image)
    write(tmp_path / "deep.png", image.astype(np.uint16) * 257)
    write(tmp_path / "clear.png", noise(10, 12, 4, dtype=np.uint8))
    write(tmp_path / "float.tiff", image.astype(np.float32))
    write(tmp_path / "thin.png", image[:, :1])
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    jpeg = cv2.imencode(".jpg", noise(64, 64, dtype=np.uint8))[1].tobytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "ragged.txt").write_text("1 2 3\n4 5\n")
    (tmp_path / "word.txt").write_text("1 2\nthree 4\n")
    (tmp_path / "nothing.txt").write_text("# only a comment\n")
    (tmp_path / "nan.txt").write_text("1 nan\n")
    (tmp_path / "huge.txt").write_text("1e300\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\0\0")
    np.save(tmp_path / "cube.npy", np.zeros((3, 3, 3)))
    np.save(tmp_path / "complex.npy", np.zeros((3, 3), complex))
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    (tmp_path / "bad.npy").write_text("not an array")
    return tmp_path


BAD_FILTERS = {
    "no such input": ("nosuch.png out.png -k sobel", "nosuch.png: no such file"),
    "input is a folder": ("folder out.png -k sobel", "not a regular file"),
    "input is a pipe": ("fifo.png out.png -k sobel", "not a regular file"),
    "empty input": ("empty.png out.png -k sobel", "empty.png: not an image"),
    "text input": ("text.png out.png -k sobel", "text.png: not an image"),
    "cut PNG": ("cut.png out.png -k sobel", "cut.png: not an image, damaged"),
    "cut JPEG": ("cut.jpg out.png -k sobel", "cut.jpg: not an image, damaged"),
    "float pixels": ("float.tiff out.png -k sobel", "float32; 8 or 16 bits"),
    "no such format": ("good.png out.xyz -k sobel", "must end in one of .bmp"),
    "no suffix": ("good.png out -k sobel", "must end in one of .bmp"),
    "16 bits into JPEG": ("deep.png out.jpg -k sobel", ".jpg cannot hold 16 bits a channel"),
    "alpha into JPEG": ("clear.png out.jpg -k sobel", ".jpg cannot hold transparency"),
    "colour into PGM": ("good.png out.pgm -k sobel", ".pgm cannot hold colour"),
    "no such folder": ("good.png none/out.png -k sobel", "there is no folder"),
    "folder is a file": ("good.png good.png/out.png -k sobel", "there is no folder"),
    "output is a folder": ("good.png folder.png -k sobel", "not a regular file"),
    "output is a pipe": ("good.png fifo.png -k sobel", "not a regular file"),
    "no arguments": ("", "Missing argument 'IN'"),
    "no kernel": ("good.png out.png", "Missing option '-k' / '--kernel'"),
    "unknown kernel": ("good.png out.png -k prewitt", "prewitt: no such file"),
    "even size": ("good.png out.png -k gaussian --size 4", "must be odd and at least 1, got 4"),
    "negative size": ("good.png out.png -k gaussian --size -3", "at least 1, got -3"),
    "huge size": ("good.png out.png -k gaussian --size 1000001", "at most 2001, got 1000001"),
    "zero sigma": ("good.png out.png -k gaussian --sigma 0", "above 0"),
    "nan sigma": ("good.png out.png -k gaussian --sigma nan", "above 0"),
    "huge sigma": ("good.png out.png -k gaussian --sigma 1e9", "at most 250"),
    "word for sigma": ("good.png out.png -k gaussian --sigma big", "'big'"),
    "size of sobel": ("good.png out.png -k sobel --size 5", "--size goes with"),
    "size of plain laplacian": ("good.png out.png -k laplacian --size 5", "--size goes with"),
    "sigma of a file": ("good.png out.png -k huge.txt --sigma 1", "--sigma goes with"),
    "unknown family": ("good.png out.png -k sobel --algo fastest", "'fastest'"),
    "unknown device": ("good.png out.png -k sobel --device tpu", "'tpu'"),
    "unknown padding": ("good.png out.png -k sobel --padding-mode wrap", "'wrap'"),
    "too thin to reflect": ("thin.png out.png -k sobel", "cannot filter"),
    "ragged matrix": ("good.png out.png -k ragged.txt", "line 2: 2 numbers, 3 above"),
    "word in matrix": ("good.png out.png -k word.txt", "line 2: could not convert"),
    "empty matrix": ("good.png out.png -k nothing.txt", "must be a matrix"),
    "nan in matrix": ("good.png out.png -k nan.txt", "infinity or NaN"),
    "overflow": ("good.png out.png -k huge.txt", "too large for float32"),
    "binary matrix": ("good.png out.png -k bytes.txt", "neither a text file"),
    "3-D matrix": ("good.png out.png -k cube.npy", "shape (3, 3, 3)"),
    "complex matrix": ("good.png out.png -k complex.npy", "real numbers"),
    "pickled matrix": ("good.png out.png -k objects.npy", "not a .npy array"),
    "broken .npy": ("good.png out.png -k bad.npy", "not a .npy array"),
}


@pytest.mark.parametrize("name", BAD_FILTERS)
def test_bad_input_is_one_line_and_leaves_nothing(capsys, monkeypatch, folder, name):
    arguments, fragment = BAD_FILTERS[name]
    (folder / "folder.png").mkdir()
    before = leftovers(folder)
    monkeypatch.chdir(folder)
    assert_one_line(run(capsys, "filter", *arguments.split()), fragment)
    assert leftovers(folder) == before


def test_a_name_with_a_newline_stays_on_one_line(capsys, tmp_path):
    assert_one_line(run(capsys, "filter", tmp_path / "a\nb.png", "o.png", "-k", "sobel"), "a b.png")


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_old_file(capsys, monkeypatch, folder, call):
    (folder / "old.png").write_bytes(b"precious")
    before = leftovers(folder)

    original = getattr(os, call)

    def full(*arguments):
        if call == "open" and not arguments[1] & os.O_CREAT:
            return original(*arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_atomic.os, call, full)
        outcome = run(capsys, "filter", folder / "good.png", folder / "old.png", "-k", "sobel")
    assert_one_line(outcome, "cannot write", "old.png", os.strerror(errno.ENOSPC))
    assert (folder / "old.png").read_bytes() == b"precious"
    assert leftovers(folder) == before


def test_an_interrupted_write_leaves_the_old_file(capsys, monkeypatch, folder):
    (folder / "old.png").write_bytes(b"precious")
    before = leftovers(folder)

    def interrupt(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(_atomic.os, "fsync", interrupt)
        outcome = run(capsys, "filter", folder / "good.png", folder / "old.png", "-k", "sobel")
    assert (outcome.code, outcome.err.strip()) == (130, "cuconv: interrupted")
    assert (folder / "old.png").read_bytes() == b"precious"
    assert leftovers(folder) == before


def test_a_write_that_really_fails(folder):
    """Files are limited to one block: the system refuses in the middle of the data."""
    write(folder / "large.png", noise(64, 64, 3, dtype=np.uint8))
    before = leftovers(folder)
    filter_ = [sys.executable, "-m", "cuconv", "filter", "large.png", "out.png", "-k", "sharpen"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 1 && exec "$@"', "sh", *filter_],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"cuconv: cannot write out.png: {os.strerror(errno.EFBIG)}\n"
    assert leftovers(folder) == before


@pytest.mark.skipif(not os.path.isdir("/sys"), reason="no folder that nobody can write to")
def test_an_unwritable_folder(capsys, folder):
    assert_one_line(
        run(capsys, "filter", folder / "good.png", "/sys/out.png", "-k", "sobel"),
        "cannot write /sys/out.png",
    )


def test_a_device_is_never_replaced(capsys, folder):
    outcome = run(capsys, "filter", folder / "good.png", "/dev/full", "-k", "sobel")
    assert_one_line(outcome, "cannot write /dev/full")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_cuda_arrays_are_used_when_asked_for(capsys, monkeypatch, folder):
    """The device's two conversions carry every array, whatever the device is."""
    moved = []

    def to_device(array):
        moved.append(array.shape)
        return array

    from cuconv._cli import filter as command

    device = Device("cuda", "pretended", to_device, np.asarray, lambda: None)
    monkeypatch.setattr(command, "open_device", lambda name: device)
    outcome = run(capsys, "filter", folder / "good.png", folder / "out.png", "-k", "emboss")
    assert outcome.code == 0
    assert moved == [(1, 1, 10, 12), (1, 1, 3, 3)] * 3
