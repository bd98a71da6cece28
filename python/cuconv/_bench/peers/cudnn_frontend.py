"""cuDNN itself, through the graph API of NVIDIA's package nvidia-cudnn-frontend.

Graphs are made of descriptions of strided tensors, so one description serves both layouts. The plan
is the first that cuDNN's heuristic A proposes; PyTorch's side is the one that tries them all.
Source: docs.nvidia.com/deeplearning/cudnn/frontend, "Convolutions" and "Graphs".
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

from cuconv._bench.cases import KINDS, Case, channels_first
from cuconv._bench.devices import Device
from cuconv._bench.peers import Missing, installed
from cuconv._bench.sides import Buffers, Side, Skipped, view_of

NAME = "cuDNN frontend"
TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def open_peer(device: Device, settings: dict[str, Any], stack: ExitStack) -> CudnnPeer:
    cudnn = installed("cudnn", "nvidia-cudnn-frontend")
    try:
        handle = cudnn.create_handle()
        cudnn.set_stream(handle=handle, stream=device.stream.ptr)  # type: ignore[attr-defined]
    except (RuntimeError, OSError) as error:
        raise Missing(f"nvidia-cudnn-frontend finds no cuDNN: {error}") from None
    stack.callback(cudnn.destroy_handle, handle)
    return CudnnPeer(cudnn, handle, device)


class CudnnPeer:
    def __init__(self, cudnn: Any, handle: Any, device: Device) -> None:
        self.cudnn, self.handle, self.device = cudnn, handle, device
        self.versions = {
            "cudnn-frontend": str(cudnn.__version__),
            "cudnn-frontend's cuDNN": str(cudnn.backend_version()),
        }

    def sides(self, buffers: Buffers) -> list[Side | Skipped]:
        case = buffers.case
        if case.of != "conv" or case.kind == "tf32x3":
            return []
        try:
            return [self.side(buffers)]
        except (RuntimeError, ValueError, AttributeError) as error:  # cuDNN's own are of the first
            return [Skipped(NAME, str(error).partition("\n")[0])]

    def side(self, buffers: Buffers) -> Side:
        case, cudnn = buffers.case, self.cudnn
        io = getattr(cudnn.data_type, TYPES[KINDS[case.kind][0]])
        wide = cudnn.data_type.DOUBLE if case.kind == "float64" else cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=io,
            intermediate_data_type=wide,
            compute_data_type=wide,
            handle=self.handle,
        )
        a, b = (
            self.described(graph, name, array, case, io)
            for name, array in (("a", buffers.first[0]), ("b", buffers.second[0]))
        )
        y = self.result(graph, case, a, b)
        outs = buffers.device.uniform(buffers.outs[0].shape, buffers.count, case.dtype)
        dims, strides = dims_of(outs[0], case)
        y.set_output(True).set_dim(dims).set_stride(strides).set_data_type(io)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if case.kind == "float32":  # whose tensor cores compute in TF32, which is another kind
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        graph.build_plans()
        size = max(1, math.ceil(graph.get_workspace_size()))
        workspace = self.device.xp.empty(size, "uint8")
        first, second = buffers.first, buffers.second

        def call(i: int) -> Any:
            where = {a: first[i].data.ptr, b: second[i].data.ptr, y: outs[i].data.ptr}
            graph.execute(where, workspace.data.ptr, handle=self.handle)
            return outs[i]

        return Side(NAME, call, view_of(case), rotates_result=True, outs=outs)

    def described(self, graph: Any, name: str, array: Any, case: Case, io: Any) -> Any:
        dims, strides = dims_of(array, case)
        return graph.tensor(name=name, dim=dims, stride=strides, data_type=io)

    def result(self, graph: Any, case: Case, a: Any, b: Any) -> Any:
        of = case.convolution
        shape = {
            "padding": list(of.padding),
            "stride": list(of.stride),
            "dilation": list(of.dilation),
        }
        if case.direction == "forward":
            return graph.conv_fprop(image=a, weight=b, **shape)
        if case.direction == "input_grad":
            return graph.conv_dgrad(loss=a, filter=b, **shape)
        return graph.conv_wgrad(image=b, loss=a, **shape)


def dims_of(array: Any, case: Case) -> tuple[list[int], list[int]]:
    """Channels first, strides in elements."""
    view = channels_first(array, case.layout)
    return list(view.shape), [stride // view.itemsize for stride in view.strides]
