"""The forms of the block against each other: as torch exported it, folded, and folded but kept as one node.

Each form is a graph of one block with random weights, float32, batch 1. All are loaded by the runtime's own
engines, checked to be equal, and measured in turns. Graphs are made by ``sspcab_export``, which is reached by
name and only here, so that the rest of the benchmarks runs on devices without torch.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sspcab_bench.paired import measure_paired
from sspcab_bench.summary import Interval, Statistics, geometric_mean, summarise
from sspcab_bench.timing import Timed, warm_up
from sspcab_edge.block import BlockForm
from sspcab_edge.errors import GateError, MissingPackageError, OptionError
from sspcab_edge.ports import Port
from sspcab_runtime.engines import installed_backends, load_engine
from sspcab_runtime.engines.base import GraphEngine

__all__ = ["SHAPES", "BlockComparison", "BlockMeasured", "BlockOptions", "Shape", "geometric_means", "run"]

TOLERANCE = 1e-5
"""Largest difference of the forms' outputs, over the largest magnitude of the reference."""

FORMS: tuple[BlockForm, ...] = ("reference", "folded", "custom-op")
"""The graph as it was exported, after the passes of the exporter, and with the block as one node then."""

_READ_CUSTOM_OP = frozenset({"onnxruntime"})
"""Backends that are given the operator itself. For the others the exporter puts its body in place, which is
the folded form again: it is not measured twice."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What goes through a block: channels, and height and width in pixels."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels}@{self.height}x{self.width}"


SHAPES = (
    Shape(64, 64, 64),
    Shape(128, 32, 32),
    Shape(256, 32, 32),
    Shape(1024, 16, 16),
    Shape(512, 64, 64),
)
"""From the first stages of a narrow network to the deepest of a wide one."""


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """What to compare.

    Attributes:
        threads: For one inference.
        backends: Names in the runtime's table of engines; none is all that are installed.
        dialect: Of the block; its sub-kernel k is 1, its dilation d is 1.
        shapes: One comparison on every backend each.
        seconds: At least so long, per shape and backend.
    """

    threads: int
    backends: tuple[str, ...] = ()
    dialect: str = "official"
    shapes: tuple[Shape, ...] = SHAPES
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class BlockMeasured:
    """One form on one backend."""

    form: BlockForm
    latency: Statistics


@dataclass(frozen=True, slots=True)
class BlockComparison:
    """All forms of one block on one backend.

    Attributes:
        backend: The backend.
        shape: What went through.
        dialect: Of the block.
        threads: Of one inference.
        measured: By form.
        speed_up: How many times as long the reference form takes as the folded one.
        rounds: How many ratios ``speed_up`` is the median of.
        difference: Of the forms' outputs, at most, over the largest magnitude of the reference.
    """

    backend: str
    shape: Shape
    dialect: str
    threads: int
    measured: tuple[BlockMeasured, ...]
    speed_up: Interval
    rounds: int
    difference: float


def run(options: BlockOptions, progress: Callable[[str], None] = lambda text: None) -> list[BlockComparison]:
    """Compare the forms; in order of backend, then of shape.

    Raises:
        MissingPackageError: The exporter's packages, or a backend, are not installed.
        OptionError: A backend is unknown, or the dialect has no folded form.
        GateError: The forms do not give the same output on a backend.
    """
    backends = options.backends or installed_backends()
    if not backends:
        raise MissingPackageError("onnxruntime", "onnxruntime", "sspcab-bench block")
    with tempfile.TemporaryDirectory(prefix="sspcab-bench-") as name:
        folder = Path(name)
        for shape in options.shapes:
            progress(f"making the graphs of {shape}")
            _make_graphs(folder, shape, options.dialect)
        comparisons = []
        for backend in backends:
            for shape in options.shapes:
                progress(f"measuring {shape} on {backend}")
                comparisons.append(_compare(folder, shape, backend, options))
    return comparisons


def geometric_means(comparisons: Sequence[BlockComparison]) -> dict[str, float]:
    """The geometric mean of the speed-ups, by backend."""
    ratios: dict[str, list[float]] = {}
    for comparison in comparisons:
        ratios.setdefault(comparison.backend, []).append(comparison.speed_up.median)
    return {backend: geometric_mean(values) for backend, values in ratios.items()}


def _graph_file(folder: Path, shape: Shape, form: BlockForm) -> Path:
    return folder / f"{shape}.{form}.onnx"


def _exporter(module: str) -> Any:
    try:
        return importlib.import_module(f"sspcab_export.{module}")
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", "sspcab-bench block") from error


def _make_graphs(folder: Path, shape: Shape, dialect: str) -> None:
    """Write the graph of one block in every form."""
    block, graph, passes = _exporter("block"), _exporter("graph"), _exporter("passes")
    keeping = _exporter("passes.keep_blocks")
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    module = block.SSPCAB(shape.channels, dialect=dialect)
    example = torch.zeros(1, shape.channels, shape.height, shape.width)
    reference = graph.graph_from_torch(module, {"x": example}, ["y"])
    folded, blocks = passes.optimise(reference)
    if [found.form for found in blocks] != ["folded"]:
        raise OptionError(f"the {dialect} dialect has no folded form: there is nothing to compare")
    kept, _ = keeping.keep_blocks(folded, blocks)
    graph.save_graph(kept, _graph_file(folder, shape, "custom-op"))
    graph.save_graph(folded, _graph_file(folder, shape, "folded"))
    graph.save_graph(reference, _graph_file(folder, shape, "reference"))


def _compare(folder: Path, shape: Shape, backend: str, options: BlockOptions) -> BlockComparison:
    size = (shape.channels, shape.height, shape.width)
    x = np.random.default_rng(0).standard_normal((1, *size), dtype=np.float32)
    forms = [form for form in FORMS if form != "custom-op" or backend in _READ_CUSTOM_OP]
    with ExitStack() as stack:
        engines = {
            form: stack.enter_context(_load(_graph_file(folder, shape, form), size, backend, options.threads))
            for form in forms
        }
        outputs = {
            form: np.asarray(engine.infer({"x": x})["y"], np.float32) for form, engine in engines.items()
        }
        differences = {form: _difference(outputs["reference"], outputs[form]) for form in forms[1:]}
        for form, difference in differences.items():
            if not difference <= TOLERANCE:
                raise GateError(
                    f"the {form} block {shape} differs from its reference by {difference:.3g} on {backend}, "
                    f"expected at most {TOLERANCE:.3g}: its speed means nothing"
                )
        runs: dict[str, Timed] = {form: _inference(engine, x) for form, engine in engines.items()}
        for one in runs.values():
            warm_up(one, cap_s=options.seconds / 2)
        paired = measure_paired(runs, seconds=options.seconds)
    return BlockComparison(
        backend=backend,
        shape=shape,
        dialect=options.dialect,
        threads=options.threads,
        measured=tuple(BlockMeasured(form, summarise(paired.calls_ms[form])) for form in forms),
        speed_up=paired.ratio("reference", "folded"),
        rounds=len(paired.rounds_ms["folded"]),
        difference=max(differences.values()),
    )


def _difference(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(np.abs(reference - other).max() / np.abs(reference).max())


def _load(path: Path, size: tuple[int, int, int], backend: str, threads: int) -> GraphEngine:
    ports = [Port(name=name, dtype="float32", shape=("N", *size), layout="NCHW") for name in ("x", "y")]
    return load_engine(backend, path, ports[:1], ports[1:], threads=threads)


def _inference(engine: GraphEngine, x: npt.NDArray[np.float32]) -> Timed:
    """The inference alone, by the engine's own clock: all forms copy the same arrays in and out."""

    def timed() -> float:
        engine.infer({"x": x})
        return engine.stages_ms["infer"]

    return timed
