"""Row 10: a network exported by torch's own exporters, old and new, comes back folded and equal."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from definitions.graph_text import serialised
from definitions.running import RunGraph
from definitions.sspcab_torch import AddedOntoZeros, Network, SumThenRelu
from sspcab_edge.block import BlockSpec
from sspcab_export.graph import graph_from_torch, load_graph, save_graph
from sspcab_export.passes import optimise


class Respelled(SumThenRelu):
    """The same block with its branches stacked, and summed by ``sum`` or ``einsum``."""

    def __init__(self, channels: int, how: str) -> None:
        super().__init__(channels, reduction=4)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.pad(x, [self.pad] * 4)
        crop = self.crop
        stack = torch.stack(
            [
                self.conv1(x[..., :-crop, :-crop]),
                self.conv2(x[..., crop:, :-crop]),
                self.conv3(x[..., :-crop, crop:]),
                self.conv4(x[..., crop:, crop:]),
            ]
        )
        total = stack.sum(0) if self.how == "stacked" else torch.einsum("bnchw->nchw", stack)
        result: torch.Tensor = self.se(torch.relu(total))
        return result


FREE = {"static": {}, "batch": {0: "N"}, "all": {0: "N", 2: "H", 3: "W"}}


def network(kind: str, kernel: int = 1, dilation: int = 1) -> Network:
    torch.manual_seed(kernel + 10 * dilation)
    block: SumThenRelu | AddedOntoZeros
    if kind == "anomalib":
        block = AddedOntoZeros(16, kernel, dilation)
    elif kind in ("stacked", "einsum"):
        block = Respelled(16, kind)
    else:
        block = SumThenRelu(16, kernel, dilation, reduction=4, expand=kind == "expanded")
    net = Network(block, 16)
    for _ in range(3):  # give the normalisation statistics worth folding
        net(torch.randn(4, 3, 12, 12))
    return net.eval()


def old_export(net: Network, path: Path, free: str, opset: int) -> None:
    """torch's TorchScript exporter, as shipped for years."""
    axes = FREE[free]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, 13, 11),),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes} if axes else None,
        )


def new_export(net: Network, path: Path, free: str, opset: int, *, optimised: bool) -> None:
    """torch's dynamo exporter, with and without its own optimiser."""
    sizes = {axis: torch.export.Dim(name, min=1 if axis == 0 else 8) for axis, name in FREE[free].items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, 13, 11),),
            path,
            dynamo=True,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=(sizes,),
            external_data=False,
            optimize=optimised,
            verbose=False,
        )


def check(net: Network, path: Path, free: str, wanted: BlockSpec, run: RunGraph) -> None:
    model, blocks = optimise(load_graph(path))
    assert blocks == (wanted,)
    operators = [node.op_type for node in model.graph]
    gate = ["GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul"]
    relu = ["Relu"] if wanted.dialect == "official" else []
    masked = ["Conv"] + ["Conv", "Add"] * (wanted.kernel**2 - 1)
    assert operators == ["Conv", "Relu", *masked, *relu, *gate, "Conv"]
    shape = {"static": (2, 3, 13, 11), "batch": (3, 3, 13, 11), "all": (1, 3, 9, 16)}[free]
    x = torch.randn(shape)
    with torch.no_grad():
        reference = net(x).numpy()
    (result,) = run(serialised(model), {"x": x.numpy()})
    assert result.shape == reference.shape
    assert np.abs(result - reference).max() <= 1e-5 * np.abs(reference).max()


def spec(kind: str, kernel: int = 1, dilation: int = 1) -> BlockSpec:
    anomalib = kind == "anomalib"
    return BlockSpec(
        path="encoder.block5",
        dialect="anomalib" if anomalib else "official",
        kernel=kernel,
        dilation=dilation,
        reduction=8 if anomalib else 4,
        channels=16,
        form="folded",
    )


@pytest.mark.parametrize(
    ("opset", "free"),
    [
        *((11, "batch"), (11, "all"), (12, "static"), (13, "all"), (14, "batch"), (15, "static")),
        *((16, "batch"), (17, "all"), (18, "batch"), (19, "all"), (20, "static")),
    ],
)
@pytest.mark.parametrize("kind", ["official", "anomalib"])
def test_old_exporter(kind: str, free: str, opset: int, tmp_path: Path, run_onnxruntime: RunGraph) -> None:
    net = network(kind)
    old_export(net, tmp_path / "net.onnx", free, opset)
    check(net, tmp_path / "net.onnx", free, spec(kind), run_onnxruntime)


@pytest.mark.parametrize(
    ("kind", "free", "opset", "optimised"),
    [
        ("official", "batch", 18, True),
        ("official", "all", 20, False),
        ("anomalib", "batch", 18, False),
        ("anomalib", "all", 18, True),
    ],
)
def test_new_exporter(
    kind: str, free: str, opset: int, optimised: bool, tmp_path: Path, run_onnxruntime: RunGraph
) -> None:
    net = network(kind)
    new_export(net, tmp_path / "net.onnx", free, opset, optimised=optimised)
    check(net, tmp_path / "net.onnx", free, spec(kind), run_onnxruntime)


@pytest.mark.parametrize(("kernel", "dilation"), [(2, 0), (3, 2)])
@pytest.mark.parametrize("kind", ["official", "anomalib", "expanded"])
def test_larger_kernels_on_both_engines(
    kind: str, kernel: int, dilation: int, tmp_path: Path, run_graph: RunGraph
) -> None:
    net = network(kind, kernel, dilation)
    old_export(net, tmp_path / "net.onnx", "batch", 17)
    check(net, tmp_path / "net.onnx", "batch", spec(kind, kernel, dilation), run_graph)


def test_our_own_export_goes_the_same_way(tmp_path: Path, run_openvino: RunGraph) -> None:
    net = network("anomalib")
    save_graph(graph_from_torch(net, {"x": torch.zeros(1, 3, 13, 11)}, ["y"]), tmp_path / "net.onnx")
    check(net, tmp_path / "net.onnx", "batch", spec("anomalib"), run_openvino)


@pytest.mark.parametrize("free", ["batch", "all"])
@pytest.mark.parametrize("kind", ["stacked", "einsum"])
def test_stacked_branches_of_both_exporters(
    kind: str, free: str, tmp_path: Path, run_onnxruntime: RunGraph
) -> None:
    net = network(kind)
    old_export(net, tmp_path / "old.onnx", free, 11 if kind == "stacked" else 12)
    check(net, tmp_path / "old.onnx", free, spec(kind), run_onnxruntime)
    new_export(net, tmp_path / "new.onnx", free, 18, optimised=kind == "stacked")
    check(net, tmp_path / "new.onnx", free, spec(kind), run_onnxruntime)
