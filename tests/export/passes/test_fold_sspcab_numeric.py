"""Row 4: every dialect, sub-kernel and dilation through torch, exporter and passes, against NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from definitions.graph_text import serialised
from definitions.running import Arrays, RunGraph
from definitions.sspcab_numpy import sspcab
from sspcab_edge.block import DIALECTS, BlockSpec
from sspcab_export.block import SSPCAB
from sspcab_export.graph import graph_from_torch
from sspcab_export.passes import optimise

CASES = [(kernel, dilation) for kernel in (1, 2, 3) for dilation in range(4)]
CHANNELS = (8, 12, 16, 20, 24, 32, 36, 40, 48, 56, 60, 64)
SIZES = (
    *((7, 9), (9, 7), (11, 13), (15, 11), (17, 7), (7, 23)),
    *((25, 9), (13, 21), (19, 19), (9, 31), (7, 7), (21, 17)),
)


class Blocks(nn.Module):
    """One block for every case, side by side."""

    def __init__(self, dialect: str) -> None:
        super().__init__()
        for (kernel, dilation), channels in zip(CASES, CHANNELS, strict=True):
            block = SSPCAB(channels, dialect=dialect, kernel=kernel, dilation=dilation)
            self.add_module(f"k{kernel}d{dilation}", block)

    def forward(
        self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor,
        g: Tensor, h: Tensor, i: Tensor, j: Tensor, k: Tensor, m: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        maps = (a, b, c, d, e, f, g, h, i, j, k, m)
        return tuple(block(x) for block, x in zip(self.children(), maps, strict=True))


@dataclass
class Exported:
    """What one dialect's blocks became, their inputs and what NumPy says of them."""

    dialect: str
    model: ir.Model
    blocks: tuple[BlockSpec, ...]
    inputs: Arrays
    wanted: list[npt.NDArray[np.float64]]


@pytest.fixture(scope="module", params=list(DIALECTS))
def exported(request: pytest.FixtureRequest) -> Exported:
    dialect: str = request.param
    torch.manual_seed(len(dialect))
    module = Blocks(dialect).eval()
    inputs = {
        f"x{number}": torch.randn(3, channels, *size)
        for number, (channels, size) in enumerate(zip(CHANNELS, SIZES, strict=True))
    }
    model = graph_from_torch(module, inputs, [f"y{number}" for number in range(len(CASES))])
    arrays = {name: x.numpy() for name, x in inputs.items()}
    wanted = []
    for (_, dilation), block, x in zip(CASES, module.children(), arrays.values(), strict=True):
        named = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
        state = list(named.values())
        gate = {name: array for name, array in named.items() if name.startswith("transformer.")}
        wanted.append(
            sspcab(x, state[0:8:2], state[1:8:2], gate or state[8:], dialect=dialect, dilation=dilation)
        )
    return Exported(dialect, *optimise(model), arrays, wanted)


def test_equals_the_definition(exported: Exported, run_graph: RunGraph) -> None:
    results = run_graph(serialised(exported.model), exported.inputs)
    errors = [
        float(np.abs(result - wanted).max() / np.abs(wanted).max())
        for result, wanted in zip(results, exported.wanted, strict=True)
    ]
    assert dict(zip(CASES, errors, strict=True)) == {case: pytest.approx(0, abs=1e-5) for case in CASES}


def test_every_block_is_recognised(exported: Exported) -> None:
    assert exported.blocks == tuple(
        BlockSpec(
            path=f"k{kernel}d{dilation}",
            dialect=exported.dialect,
            kernel=kernel,
            dilation=dilation,
            reduction=0 if exported.dialect == "ssmctb" else 8,
            channels=channels,
            form="reference" if exported.dialect == "tensorflow" else "folded",
        )
        for (kernel, dilation), channels in zip(CASES, CHANNELS, strict=True)
    )


def test_folded_blocks_have_no_pad_and_no_slice(exported: Exported) -> None:
    operators = {node.op_type for node in exported.model.graph}
    if exported.dialect == "tensorflow":
        assert {"Pad", "Slice"} <= operators
    else:
        dense = 0 if exported.dialect == "ssmctb" else 2
        convolutions = sum(kernel**2 + dense for kernel, _ in CASES)
        if dense:
            assert operators == {"Conv", "Add", "GlobalAveragePool", "Relu", "Sigmoid", "Mul"}
        assert not operators & {"Pad"}
        assert sum(node.op_type == "Conv" for node in exported.model.graph) == convolutions
