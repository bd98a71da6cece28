"""PyTorch: oneDNN on the CPU in both of its layouts, cuDNN on the GPU in the case's own."""

from __future__ import annotations

import importlib
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from cuconv._bench.cases import KINDS, Case, channels_first
from cuconv._bench.devices import Call, Device
from cuconv._bench.peers import Missing, installed
from cuconv._bench.sides import WITH_OUT, Buffers, Side, Skipped, failure

PREPACKED = "PyTorch prepacked"


def open_peer(device: Device, settings: dict[str, Any], stack: ExitStack) -> TorchPeer:
    torch = installed("torch", "PyTorch")
    if device.name == "cpu":
        torch.set_num_threads(settings["threads"])
    elif not torch.cuda.is_available():
        raise Missing("this PyTorch has no CUDA")
    else:
        torch.backends.cudnn.benchmark = not settings["heuristics"]
        torch.backends.cudnn.benchmark_limit = 0  # every engine is tried
        stream = torch.cuda.ExternalStream(device.stream.ptr)  # type: ignore[attr-defined]
        stack.enter_context(torch.cuda.stream(stream))
    stack.enter_context(torch.inference_mode())
    return TorchPeer(torch, device)


class TorchPeer:
    def __init__(self, torch: Any, device: Device) -> None:
        self.torch, self.device = torch, device
        self.versions = {"torch": str(torch.__version__)}
        if device.name == "cuda":
            self.versions |= {
                "torch's CUDA": str(torch.version.cuda),
                "cuDNN": str(torch.backends.cudnn.version()),
            }

    def tensor(self, array: Any, case: Case) -> Any:
        """The same memory, axes in PyTorch's order."""
        bits = channels_first(array, case.layout).view(f"int{8 * array.itemsize}")
        make = self.torch.from_numpy if self.device.name == "cpu" else self.torch.from_dlpack
        return make(bits).view(getattr(self.torch, KINDS[case.kind][0]))

    def canonical(self, case: Case) -> Callable[[Any], Any]:
        def convert(tensor: Any) -> Any:
            bits = tensor.view(getattr(self.torch, f"int{8 * case.dtype.itemsize}"))
            of_cpu = self.device.name == "cpu"
            array = bits.numpy() if of_cpu else self.device.xp.from_dlpack(bits)
            return array.view(case.dtype)

        return convert

    def formats(self, tensors: list[Any]) -> dict[str, list[Any]]:
        """By the name of a side. A GPU's operands stay as they are: copies would take memory."""
        if self.device.name == "cuda":
            return {"PyTorch": tensors}
        last = self.torch.channels_last
        made: dict[int, Any] = {}  # a filter that does not rotate is one tensor in every set
        for tensor in tensors:
            if tensor is not None and id(tensor) not in made:
                made[id(tensor)] = tensor.contiguous(memory_format=last)
        return {
            "PyTorch NCHW": tensors,
            "PyTorch channels_last": [made.get(id(tensor)) for tensor in tensors],
        }

    def tensors(self, arrays: list[Any], case: Case) -> list[Any]:
        made = {id(a): None if a is None else self.tensor(a, case) for a in arrays}
        return [made[id(a)] for a in arrays]

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        case = buffers.case
        if self.device.name == "cuda":
            self.torch.backends.cudnn.allow_tf32 = case.kind == "tf32"
            self.torch.backends.cuda.matmul.allow_tf32 = case.kind == "tf32"
            if case.kind == "tf32x3":
                return []
        if case.group == "images" and case.w_shape[2] > 15 and self.device.name == "cpu":
            return [Skipped("PyTorch", "not meant for filters above 15x15")]
        firsts = self.formats(self.tensors(buffers.first, case))
        seconds = self.formats(self.tensors(buffers.second, case))
        if self.device.name == "cpu" and case.layout == "NHWC":
            firsts.pop("PyTorch channels_last")  # which is what the arrays are in themselves
            firsts = {"PyTorch channels_last": firsts.pop("PyTorch NCHW")}
            seconds = {"PyTorch channels_last": seconds["PyTorch NCHW"]}
        made = [
            Side(name, call, self.canonical(case), rotates_result=name.endswith("out="))
            for layout in firsts
            for name, call in self.calls(buffers, layout, firsts[layout], seconds[layout])
        ]
        name = next(iter(firsts))  # the layout that the arrays have
        return [
            *(self.keeping(side, buffers.count) for side in made),
            *self.prepacked(case, firsts[name], seconds[name]),
        ]

    def calls(
        self, buffers: Buffers, name: str, first: list[Any], second: list[Any]
    ) -> list[tuple[str, Call]]:
        case, functional = buffers.case, self.torch.nn.functional
        if case.of == "conv":
            return [(name, self.convolution(case, first, second))]
        if case.module:
            return [(name, self.inception(buffers, first))]
        if case.window:
            pool = getattr(functional, case.of)
            return [(name, lambda i: pool(first[i], *case.window))]
        function = getattr(self.torch, case.of)
        plain = (name, lambda i: function(first[i]))
        if case.of not in WITH_OUT:
            return [plain]
        outs = [self.torch.empty_like(tensor) for tensor in first]
        clamp_min = self.torch.clamp_min  # relu takes no out=; this is the same and does
        return [plain, (f"{name} out=", lambda i: clamp_min(first[i], 0, out=outs[i]))]

    def convolution(self, case: Case, first: list[Any], second: list[Any]) -> Call:
        of = case.convolution
        shape = (of.stride, of.padding, of.dilation)
        if case.direction == "forward":
            conv2d = self.torch.nn.functional.conv2d
            return lambda i: conv2d(first[i], second[i], None, *shape, of.groups)
        backward = self.torch.ops.aten.convolution_backward
        rest = (None, *shape, False, [0, 0], of.groups)
        like = first[0].new_empty(case.shapes[2])  # for its shape
        if case.direction == "input_grad":
            return lambda i: backward(first[i], like, second[i], *rest, [True, False, False])[0]
        return lambda i: backward(first[i], second[i], like, *rest, [False, True, False])[1]

    def prepacked(self, case: Case, first: list[Any], second: list[Any]) -> list[Side | Skipped]:
        """On the CPU, where filters stay the same: reordered once, by the module that PyTorch has
        for inference, with images and results in oneDNN's own layout, as between the layers of a
        network. float32 alone: of other types it takes what the processor has units for."""
        usual = self.device.name, case.of, case.direction, case.kind
        if usual != ("cpu", "conv", "forward", "float32"):
            return []
        of, nn = case.convolution, self.torch.nn
        shape = (of.c, of.k, (of.r, of.s), of.stride, of.padding, of.dilation, of.groups)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it is built on torch.jit
                mkldnn = importlib.import_module("torch.utils.mkldnn")
                plain = nn.Conv2d(*shape, bias=False)
                plain.weight = nn.Parameter(second[0], requires_grad=False)
                module = mkldnn.to_mkldnn(plain)
            images = [tensor.contiguous().to_mkldnn() for tensor in first]
        except Exception as error:
            return [Skipped(PREPACKED, failure(error))]
        canonical = self.canonical(case)
        return [Side(PREPACKED, lambda i: module(images[i]), lambda y: canonical(y.to_dense()))]

    def inception(self, buffers: Buffers, x: list[Any]) -> Call:
        """Six convolutions, one pooling, one concatenation."""
        case, f, cat = buffers.case, self.torch.nn.functional, self.torch.cat
        weights = [self.tensor(array, case) for array in buffers.weights]
        if x[0].is_contiguous(memory_format=self.torch.channels_last):
            last = {"memory_format": self.torch.channels_last}
            weights = [w.contiguous(**last) if w.ndim == 4 else w for w in weights]
        w1, b1, r3, c3, w3, b3, r5, c5, w5, b5, w4, b4 = weights
        relu_ = self.torch.relu_

        def call(i: int) -> Any:
            branches = [
                f.conv2d(x[i], w1, b1),
                f.conv2d(relu_(f.conv2d(x[i], r3, c3)), w3, b3, padding=1),
                f.conv2d(relu_(f.conv2d(x[i], r5, c5)), w5, b5, padding=2),
                f.conv2d(f.max_pool2d(x[i], 3, 1, 1), w4, b4),
            ]
            return relu_(cat(branches, 1))

        return call

    def keeping(self, side: Side, count: int) -> Side:
        """On the GPU as many results are kept as there are sets, so that they rotate, too."""
        if self.device.name == "cpu":
            return side
        kept: deque[Any] = deque(maxlen=count)
        call = side.call

        def keep(i: int) -> Any:
            kept.append(call(i))
            return kept[-1]

        side.call, side.rotates_result = keep, True
        return side
