"""Fold SSPCAB: the masked convolution becomes convolutions that every engine runs at full speed.

With zero padding the four shifted ``k x k`` convolutions and their sum are linear in the input, so taps can
be regrouped. The tap (i, j) of all four corners together is one 2x2 convolution with dilation
``b = k + 2d + 1``: its four weights are the taps (i, j) of the four corners. So the whole sum is ``k * k``
such convolutions added up, with as many multiplications as the four had, and without Pad or Slice; for the
usual k = 1 it is exactly one. A single dense ``(2k + 2d + 1)``-sided convolution, zero but for its corners,
would do for k > 1 too; at k = 2 and 3 it was measured 1.3 to 8 times as slow as this form on ONNX Runtime and
OpenVINO, slower than the block as published, and its weights are up to 4.7 times as large.

The ``tensorflow`` dialect has its ReLU before the sum and pads by reflection: it is recognised and kept.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sspcab_edge.block import DIALECTS, BlockForm, BlockSpec
from sspcab_export.block_keys import reduction_from
from sspcab_export.passes._masked_sum import MaskedSum, masked_sum_of
from sspcab_export.passes._naming import block_path, new_initializer
from sspcab_export.passes._report import Report
from sspcab_export.passes.channel_transformer import channel_transformer_after
from sspcab_export.passes.squeeze_excitation import hidden_units_after

__all__ = ["fold_sspcab"]


def fold_sspcab(model: ir.Model) -> Report:
    """Fold every masked convolution in the graph and say which blocks are there.

    A sum of convolutions is taken for a block by what it computes (see ``_masked_sum``); the ReLU after it
    tells the dialect, and so does attention between channels (SSMCTB). Squeeze-and-excitation next to it, in
    the form that the pass of that name leaves, tells the reduction (0 where there is none).
    """
    blocks: list[BlockSpec] = []
    folded = 0
    for node in list(model.graph):
        if node.graph is None or len(node.outputs) != 1:
            continue
        masked = masked_sum_of(node.outputs[0])
        if masked is None:
            continue
        dialect = _dialect(masked)
        if dialect is None:
            continue
        path = block_path([branch.node for branch in masked.branches.values()], len(blocks))
        form: BlockForm = "folded" if DIALECTS[dialect].padding == "zeros" else "reference"
        blocks.append(_spec(masked, dialect, path, form))
        if form == "folded":
            _fold(model.graph, masked, path)
            folded += 1
    return Report(folded, tuple(blocks))


def _dialect(masked: MaskedSum) -> str | None:
    """The dialect that computes this; None when none does, whatever the parts look like."""
    padding = {"constant": "zeros", "reflect": "reflect"}.get(masked.padding.mode)
    relu = "per-branch" if masked.relu else "none" if _relu_after(masked) is None else "after-sum"
    attention = "squeeze-excitation"
    if relu == "after-sum" and channel_transformer_after(_relu_after(masked)):
        attention = "channel-transformer"
    for dialect in DIALECTS.values():
        if (dialect.padding, dialect.relu, dialect.attention) == (padding, relu, attention):
            return dialect.name
    return None


def _relu_after(masked: MaskedSum) -> ir.Value | None:
    """What the block's own ReLU on the sum gives; None where the sum itself is what gets reweighted."""
    if masked.relu or hidden_units_after(masked.output) is not None:
        return None
    relus = [use.node for use in masked.output.uses() if use.node.op_type == "Relu" and use.node.domain == ""]
    return relus[0].outputs[0] if relus else None


def _spec(masked: MaskedSum, dialect: str, path: str, form: BlockForm) -> BlockSpec:
    channels = next(iter(masked.branches.values())).weight.shape[0]
    hidden = hidden_units_after(_relu_after(masked) or masked.output)
    return BlockSpec(
        path=path,
        dialect=dialect,
        kernel=masked.geometry.kernel,
        dilation=masked.geometry.dilation,
        reduction=0 if hidden is None else reduction_from(channels, hidden),
        channels=channels,
        form=form,
    )


def _fold(graph: ir.Graph, masked: MaskedSum, path: str) -> None:
    """Replace the sum by one 2x2 convolution for each tap of the sub-kernel."""
    kernel, dilation = masked.geometry.kernel, masked.geometry.dilation
    corners = [
        [masked.branches["top-left"], masked.branches["top-right"]],
        [masked.branches["bottom-left"], masked.branches["bottom-right"]],
    ]
    weights = [[branch.weight for branch in row] for row in corners]
    biases = [branch.bias for row in corners for branch in row if branch.bias is not None]
    nodes: list[ir.Node] = []
    total: ir.Value | None = None
    for i in range(kernel):
        for j in range(kernel):
            tap = np.stack([np.stack([w[:, :, i, j] for w in row], axis=-1) for row in weights], axis=-2)
            suffix = "" if kernel == 1 else f".{i}.{j}"
            inputs = [masked.padding.source, new_initializer(graph, f"{path}.masked.weight{suffix}", tap)]
            if total is None and biases:
                bias = np.sum(np.stack(biases), axis=0, dtype=np.float64).astype(biases[0].dtype)
                inputs.append(new_initializer(graph, f"{path}.masked.bias", bias))
            node = ir.node(
                "Conv",
                inputs,
                {
                    "kernel_shape": [2, 2],
                    "dilations": [masked.geometry.border] * 2,
                    "pads": [
                        kernel + dilation - i,
                        kernel + dilation - j,
                        dilation + 1 + i,
                        dilation + 1 + j,
                    ],
                    "strides": [1, 1],
                    "group": 1,
                },
                name=f"{path}.masked{suffix}",
            )
            nodes.append(node)
            if total is not None:
                nodes.append(ir.node("Add", [total, node.outputs[0]], name=f"{path}.masked.sum{suffix}"))
            total = nodes[-1].outputs[0]
    old = masked.output.producer()
    if total is None or old is None:
        return
    for node in nodes:
        node.outputs[0].type, node.outputs[0].shape = masked.output.type, masked.output.shape
    ir.convenience.replace_nodes_and_values(graph, old, [old], nodes, [masked.output], [total])
