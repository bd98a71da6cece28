"""`cuconv demo`: what its pictures claim, and the files it writes."""

import errno
import itertools
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from scipy import ndimage, signal

from cli_helpers import assert_one_line, run
from cuconv import _atomic
from cuconv._cli import _demo_steps as steps
from cuconv._cli import demo


@pytest.fixture(scope="module")
def grey():
    """A small picture with texture everywhere."""
    noise = np.random.default_rng(3).random((48, 60))
    return ndimage.gaussian_filter(noise, 1.0).astype(np.float32)


# ---- the computations ----


def test_sobel_is_the_gradient(grey):
    slope, gradient = steps.sobel(grey, np.asarray)
    wide = grey.astype(np.float64)
    across, down = (ndimage.sobel(wide, axis, mode="mirror") for axis in (1, 0))
    np.testing.assert_allclose(slope, across, atol=1e-5)
    np.testing.assert_allclose(gradient, np.hypot(across, down), atol=1e-5)


def test_laplacian_of_gaussian_is_positive_in_dark_blobs():
    y, x = np.mgrid[:41, :41] - 20
    dark = 1 - np.exp(-(x**2 + y**2) / (2 * steps.BLUR**2)).astype(np.float32)
    response = steps.laplacian_of_gaussian(dark, np.asarray)
    assert np.unravel_index(response.argmax(), response.shape) == (20, 20)
    assert np.abs(steps.laplacian_of_gaussian(np.ones_like(dark), np.asarray)).max() < 1e-5


def test_the_score_is_the_correlation_coefficient(grey):
    box = steps.Box(7, 21, 9, 12)
    patch = box.cut(grey)
    scores = steps.score(grey, patch - patch.mean(), np.asarray)
    assert scores.shape == (48 - 9 + 1, 60 - 12 + 1)
    for i, j in ((0, 0), (7, 21), (20, 3), (39, 48)):
        window = grey[i : i + 9, j : j + 12].astype(np.float64)
        want = np.corrcoef(window.ravel(), patch.ravel().astype(np.float64))[0, 1]
        assert abs(scores[i, j] - want) < 1e-3
    match = steps.best_match(scores)
    assert (match.peak, match.equal_places) == ((7, 21), 1)


def test_flat_patches_score_nothing():
    picture = np.full((40, 40), 0.7, np.float32)
    picture[5:12, 5:12] = np.random.default_rng(0).random((7, 7))
    patch = picture[5:12, 5:12]
    scores = steps.score(picture, patch - patch.mean(), np.asarray)
    assert np.isfinite(scores).all()
    assert np.abs(scores[20:, 20:]).max() == 0
    assert steps.best_match(scores).peak == (5, 5)


def test_responses_are_correlation_and_convolution(grey):
    template = grey[4:9, 6:13] - grey[4:9, 6:13].mean()
    correlation, convolution = steps.responses(grey, template, np.asarray)
    x = (grey - grey.mean()).astype(np.float64)
    np.testing.assert_allclose(correlation, signal.correlate2d(x, template, "valid"), atol=1e-4)
    np.testing.assert_allclose(convolution, signal.convolve2d(x, template, "valid"), atol=1e-4)
    assert np.abs(correlation - convolution).max() > 0.01


def test_the_most_varied_box_is_where_the_texture_is():
    picture = np.zeros((80, 90), np.float32)
    picture[40:60, 30:50] = np.indices((20, 20)).sum(0) % 2
    assert steps.most_varied_box(picture, 20) == steps.Box(40, 30, 20, 20)


def test_the_pyramid_halves_and_keeps_maxima():
    picture = np.random.default_rng(1).random((3, 37, 64), dtype=np.float32)
    levels = steps.pyramid(picture)
    assert [level.shape[1:] for level in levels] == [
        (37, 64),
        (18, 32),
        (9, 16),
        (4, 8),
        (2, 4),
        (1, 2),
    ]
    for below, above in itertools.pairwise(levels):
        height, width = above.shape[1] * 2, above.shape[2] * 2
        squares = below[:, :height, :width].reshape(3, height // 2, 2, width // 2, 2)
        np.testing.assert_array_equal(above, squares.max(axis=(2, 4)))


@pytest.mark.parametrize("angle", steps.ANGLES)
def test_the_network_separates_directions(angle):
    y, x = np.mgrid[:64, :64] - 32
    t = np.deg2rad(angle)
    line = np.exp(-((x * np.sin(t) + y * np.cos(t)) ** 2) / 4).astype(np.float32)
    maps = steps.network(line, np.asarray)
    assert maps.lines.shape == (4, 64, 64)
    assert maps.pooled.shape == (4, 32, 32)
    assert maps.contours.shape == (4, 16, 16)
    wanted = steps.ANGLES.index(angle)
    for layer in (maps.lines, maps.contours):
        assert min(m.min() for m in layer) >= 0
        strength = layer[:, layer.shape[1] // 2, layer.shape[2] // 2]
        assert strength.argmax() == wanted
    others = np.delete(maps.contours, wanted, axis=0)
    assert maps.contours[wanted].sum() > 5 * others.sum(axis=(1, 2)).max()


def test_a_patch_found_elsewhere_is_noticed():
    scores = np.zeros((9, 9))
    scores[3, 4] = 1
    match = steps.best_match(scores)
    demo.check_found(match, steps.Box(3, 4, 5, 5))
    with pytest.raises(AssertionError, match=r"row 2, column 4 .* was found at row 3, column 4"):
        demo.check_found(match, steps.Box(2, 4, 5, 5))


# ---- the command ----


class Images(HTMLParser):
    """What a page refers to."""

    def __init__(self):
        super().__init__()
        self.sources = []
        self.titles = []
        self._inside = ""

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.sources += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data):
        if self._inside == "h2" and data.strip():
            self.titles.append(data)


def small_picture(folder, *shape, dtype=np.uint8):
    noise = np.random.default_rng(5).random(shape)
    blurred = ndimage.gaussian_filter(noise, (1.5, 1.5, 0)[: len(shape)])
    blurred = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    path = folder / "<own> & é.png"
    assert cv2.imwrite(str(path), (blurred * np.iinfo(dtype).max).astype(dtype))
    return path


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((50, 70, 3), np.uint8), ((70, 40), np.uint16), ((64, 48, 4), np.uint8)],
    ids=["colour", "grey 16 bit", "alpha"],
)
def test_a_picture_of_ones_own(capsys, tmp_path, shape, dtype):
    picture = small_picture(tmp_path, *shape, dtype=dtype)
    out = tmp_path / "new" / "demo"
    outcome = run(capsys, "demo", "--image", picture, "--out", out, "--device", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    assert str(out / "index.html") in outcome.out
    assert str(out / "sheet.png") in outcome.out
    assert re.search(r"found at row \d+, column \d+, where it was cut out", outcome.out)
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "sheet.png"]

    sheet = cv2.imread(str(out / "sheet.png"))
    assert min(sheet.shape[:2]) > 1000
    page = (out / "index.html").read_text(encoding="utf-8")
    parser = Images()
    parser.feed(page)
    assert len(parser.sources) == 4
    assert all(s.startswith("data:image/png;base64,") for s in parser.sources)
    assert parser.titles[:2] == ["Edges", "Template matching"]
    assert "&lt;own&gt; &amp; é.png" in page
    assert f"{shape[0]} × {shape[1]} pixels" in page


def test_the_photograph(capsys, monkeypatch, tmp_path):
    """The default picture; drawing is left out, for time."""
    seen = []
    monkeypatch.setattr(demo, "sheet_png", lambda *arguments: b"sheet")
    monkeypatch.setattr(demo, "section_png", lambda *arguments: b"section")
    compute = demo.compute
    monkeypatch.setattr(demo, "compute", lambda *a: seen.append(compute(*a)) or seen[-1])
    outcome = run(capsys, "demo", "--out", tmp_path, "--device", "cpu")
    assert (outcome.code, outcome.err) == (0, "")
    (results,) = seen
    assert results.colour.shape == (3, 600, 512)
    assert results.match.peak == (demo.STAR.top, demo.STAR.left)
    assert results.match.equal_places == 1
    assert abs(results.match.scores.max() - 1) < 1e-3
    # The upright stars of the flag answer, and nothing else comes close.
    near = ndimage.maximum_filter(results.match.scores, 15) == results.match.scores
    peaks = np.argwhere(near & (results.match.scores > 0.75))
    assert len(peaks) == 4
    assert (peaks < (200, 100)).all()
    # The flipped kernel answers differently where the star is.
    there = results.match.peak
    assert 0 < results.convolution[there] < 0.7 * results.correlation[there]


def test_a_large_picture_is_made_smaller(tmp_path):
    picture = small_picture(tmp_path, 300, 1000, 3)
    colour, name = demo.load(picture)
    assert colour.shape == (3, 240, 800)
    assert name == picture.name


@pytest.mark.parametrize(
    ("shape", "value", "fragment"),
    [
        ((40, 40, 3), 90, "of one brightness"),
        ((20, 200, 3), 90, "at least 32 pixels a side, got 20 × 200"),
        ((20, 8000), 90, "at least 32 pixels a side, got 2 × 800"),
    ],
)
def test_pictures_that_do_not_serve(capsys, tmp_path, shape, value, fragment):
    path = tmp_path / "in.png"
    assert cv2.imwrite(str(path), np.full(shape, value, np.uint8))
    out = tmp_path / "out"
    assert_one_line(run(capsys, "demo", "--image", path, "--out", out), fragment)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--image", "nosuch.png"), "nosuch.png: no such file"),
        (("--image", "file"), "not an image"),
        (("--out", "file"), "is a file"),
        (("--out", "file/inside"), "file is not a folder"),
        (("--device", "gpu"), "'gpu'"),
        (("extra",), "extra"),
    ],
)
def test_wrong_demos_are_one_line(capsys, monkeypatch, tmp_path, arguments, fragment):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("text")
    assert_one_line(run(capsys, "demo", *arguments), fragment)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_no_folder(capsys, monkeypatch, tmp_path):
    picture = small_picture(tmp_path, 40, 40, 3)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(_atomic.os, "fsync", full)
        patched.setattr(demo, "sheet_png", lambda *arguments: b"sheet")
        patched.setattr(demo, "section_png", lambda *arguments: b"section")
        outcome = run(capsys, "demo", "--image", picture, "--out", tmp_path / "a" / "b")
    assert_one_line(outcome, "cannot write", os.strerror(errno.ENOSPC))
    assert [p.name for p in tmp_path.iterdir()] == [picture.name]
