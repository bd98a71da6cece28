"""The layers of the benchmarks (`cuconv._bench.layers`), made small enough to be emulated."""

import dataclasses
import functools
import math

from cuconv._bench.layers import load

MOST_WORK = 200_000  # multiply-adds


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution's sizes, spatial ones by axis."""

    batch: int
    channels: int
    filters: int
    groups: int
    input: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def rank(self):
        return len(self.input)

    @property
    def output(self):
        sides = zip(self.input, self.padding, self.reach, self.stride, strict=True)
        return tuple((n + 2 * pad - reach) // step + 1 for n, pad, reach, step in sides)

    @property
    def reach(self):
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def work(self):
        a_filter = self.channels // self.groups * math.prod(self.kernel)
        return self.batch * self.filters * math.prod(self.output) * a_filter

    @property
    def shapes(self):
        """Of x, w and y, channels first."""
        return (
            (self.batch, self.channels, *self.input),
            (self.filters, self.channels // self.groups, *self.kernel),
            (self.batch, self.filters, *self.output),
        )

    @property
    def options(self):
        names = ("stride", "padding", "dilation", "groups")
        return {name: getattr(self, name) for name in names}

    def __str__(self):
        x = "x".join(map(str, self.shapes[0]))
        w = "x".join(map(str, (self.filters, *self.kernel)))
        marks = {"s": self.stride, "p": self.padding, "d": self.dilation}
        usual = {"s": 1, "p": 0, "d": 1}
        words = [f"g{self.groups}"] if self.groups > 1 else []
        for mark, values in marks.items():
            if set(values) != {usual[mark]}:
                words.append(mark + "x".join(map(str, values)))
        return "_".join([x, w, *words])


def scaled(row):
    """A small convolution with the peculiarities of a row.

    Filter, stride, padding and dilation stay, and what each side of the image is modulo the
    stride and modulo two. As far as MOST_WORK allows, so do whether the filter fits into the image
    and which of its sides is longer. No row is three-dimensional.
    """
    axes = "hw"
    if row["H"] == row["R"] == 1 and row["pad_h"] == 0:
        axes = "w"  # a convolution along one axis
    of = {"h": "HR", "w": "WS"}
    sizes = [row[of[a][0]] for a in axes]
    kernel = tuple(row[of[a][1]] for a in axes)
    stride, padding, dilation = (
        tuple(row[f"{name}_{a}"] for a in axes) for name in ("stride", "pad", "dil")
    )
    channels, filters, groups = scaled_channels(row, math.prod(kernel))
    layer = Layer(
        batch=2 if row["N"] and row["N"] % 2 == 0 else 1,
        channels=channels,
        filters=filters,
        groups=groups,
        input=tuple(sizes),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    image = [scaled_size(*side) for side in zip(sizes, layer.reach, stride, strict=True)]
    if len(image) == 2 and image[0] == image[1] and sizes[0] != sizes[1]:
        image[sizes[0] < sizes[1]] += math.lcm(2, max(stride))
    return affordable(dataclasses.replace(layer, input=tuple(image)))


def scaled_channels(row, taps):
    """(channels, filters, groups)."""
    c, k = row["C"] // row["groups"], row["K"] // row["groups"]
    if row["groups"] == 1:
        return fewer(c), fewer(k), 1
    groups = 2
    if c == 1:  # depthwise: how many is a matter of the time that it takes
        groups = fewer(row["groups"]) if taps <= 9 else 4 if taps <= 81 else 2
    return groups * fewer(c), groups * fewer(k), groups


def fewer(n):
    """Below 8 the same. From there on the same modulo 8, so an odd number stays odd.

    Multiples of 8: three for powers of two, by their size, and two for the rest.
    """
    if n <= 8:
        return n
    if n % 8:
        return 8 + n % 8
    if n & (n - 1) == 0:
        return 8 if n <= 64 else 16 if n <= 512 else 32
    return 24 if n <= 512 else 40


def scaled_size(n, reach, stride):
    """A side of the image: up to 8 it stays."""
    least = reach + 5 * stride if n >= reach else 7
    period = math.lcm(2, stride)
    return n if n <= 8 else min(n, least + (n - least) % period)


def affordable(layer):
    """Less of what makes the layer too expensive: images, then width, height, and channels.

    So a filter of 31x31 meets images with one side that it fits into, or with none. One with two
    would take a million multiply-adds a channel, and seconds of emulation a case.
    """
    steps = [math.lcm(2, s) for s in layer.stride]
    while layer.work > MOST_WORK:
        room = [n - step for n, step in zip(layer.input, steps, strict=True)]
        shorter = [
            dataclasses.replace(layer, input=(*layer.input[:i], room[i], *layer.input[i + 1 :]))
            for i in reversed(range(layer.rank))
        ]
        if layer.batch > 1:
            layer = dataclasses.replace(layer, batch=1)
        elif fits := [s for s in shorter if min(s.input) > 1 and min(s.output) > 3]:
            layer = fits[0]
        elif layer.groups == 1 and max(layer.channels, layer.filters) > 8:
            name = "channels" if layer.channels >= layer.filters else "filters"
            layer = dataclasses.replace(layer, **{name: getattr(layer, name) - 8})
        elif fits := [s for s in shorter if min(s.input) > 1 and min(s.output) > 0]:
            layer = fits[0]
        else:
            raise ValueError(f"{layer} takes {layer.work} multiply-adds and cannot be made smaller")
    return layer


@functools.cache
def distinct():
    """Every scaled problem once, and the names of the groups that it comes from."""
    found = {}
    for group in load()["groups"]:
        for row in group["rows"]:
            names = found.setdefault(scaled(row), [])
            if group["name"] not in names:
                names.append(group["name"])
    return found
