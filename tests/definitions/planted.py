"""A model asked once, and graphs of it judged one after the other by the default gate at fp32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir

from sspcab_edge.manifest import Gate, Parity, Rounding
from sspcab_export.assemble import assemble_manifest, named_blocks, unjudged_artifact
from sspcab_export.examination import Examination
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.gates import gate_for, score_rounding
from sspcab_export.gathering import Wanted, gather_pictures
from sspcab_export.graph import save_graph
from sspcab_export.hosts import LoadedHost
from sspcab_export.passes import optimise
from sspcab_export.progress import Silent
from sspcab_export.thresholds import ThresholdOptions
from sspcab_export.variants import Variant

Plant = Callable[[ir.Model], None]


@dataclass
class Bench:
    """What graphs are judged with."""

    graph: ir.Model
    exam: Examination
    rounding: Rounding
    gate: Gate
    opset: int
    count: int = 0

    def judge(self, plant: Plant | None = None) -> Parity:
        """The parity of the graph, with or without an error planted in it."""
        self.count += 1
        graph = self.graph.clone()
        if plant is not None:
            plant(graph)
        variant = Variant("fp32")
        save_graph(graph, self.exam.folder / variant.file)
        artifact = unjudged_artifact(
            self.exam.folder, "onnx", variant, (variant.file,), self.opset, self.gate
        )
        return self.exam.examine(artifact, variant, self.gate, None, self.count).artifact.parity


def bench(loaded: LoadedHost, model: object, calibration: Path, folder: Path) -> Bench:
    """The model's answers on normal images, and its graph as it would be exported."""
    wanted = Wanted(calibration, None, None, ThresholdOptions(), ("fp32",), "keep", FrontEndOptions())
    found = gather_pictures(loaded, model, wanted, folder, Silent())  # type: ignore[arg-type]
    graph, blocks = optimise(found.host.source.graph())
    assert blocks, "the block is folded"
    manifest = assemble_manifest(
        found.host,
        found.model,
        named_blocks(blocks, found.host.blocks),
        found.decision,
        found.record,
        1,
        found.front_end,
    )
    assert found.rounding is not None
    exam = Examination(
        folder=folder,
        manifest=msgspec.structs.replace(manifest, front_end=found.judged_as),
        judged=found.judged,
        fit=(),
        scene=found.scene,
        tolerance=score_rounding(found.decision, found.rounding),
        say=Silent(),
    )
    gate = gate_for("fp32", found.decision, found.scene, {}, found.rounding)
    return Bench(graph, exam, found.rounding, gate, int(graph.opset_imports[""]))


def convolutions(model: ir.Model) -> list[ir.Node]:
    """In the order of the graph."""
    return [node for node in model.graph if node.op_type == "Conv"]


def trunk(model: ir.Model) -> list[ir.Node]:
    """Those that look at neighbourhoods: not the two of a gate, whose single weights move next to nothing."""
    return [node for node in convolutions(model) if _side(node) > 1]


def _side(node: ir.Node) -> int:
    """Of the kernel; that a convolution states it, too, is not required."""
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    return max(int(length) for length in weight.const_value.shape.numpy()[2:])


def folded(model: ir.Model) -> ir.Node:
    """The one convolution that a block of k' = 1 became: four taps, far apart."""
    (node,) = (
        node
        for node in convolutions(model)
        if "dilations" in node.attributes and max(node.attributes["dilations"].as_ints()) > 1
    )
    return node


def change(node: ir.Node, position: int, how: Callable[[np.ndarray], np.ndarray]) -> None:
    """Give a node other constants; the one it has stays for others that use it."""
    value = node.inputs[position]
    assert value is not None
    assert value.const_value is not None
    values = np.ascontiguousarray(how(value.const_value.numpy().copy()))
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    own = ir.Value(name=f"planted_{value.name}", const_value=ir.tensor(values, name=f"planted_{value.name}"))
    graph.register_initializer(own)
    node.replace_input_with(position, own)


def largest_by(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Weights of which the largest is off by a share of itself."""

    def changed(values: np.ndarray) -> np.ndarray:
        place = np.unravel_index(np.abs(values).argmax(), values.shape)
        values[place] *= 1 + share
        return values

    return changed
