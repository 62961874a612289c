"""Lowering a graph until its artifacts pass: the layers that hurt most are kept in float, within a budget."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sspcab_edge.manifest import Gate, Target
from sspcab_export.asking import Unit
from sspcab_export.assemble import unjudged_artifact
from sspcab_export.examination import Examination, Examined
from sspcab_export.graph import OPSET, save_graph
from sspcab_export.precision.lowering import Lowering
from sspcab_export.precision.sensitivity import LayerEffect, measure_sensitivity
from sspcab_export.progress import Progress
from sspcab_export.variants import TARGETS, Variant

__all__ = ["Lowered", "keep_counts", "lower", "sensitivity_frames"]

MAX_SENSITIVITY_FRAMES = 24
"""Frames that each layer is tried on; half of them the nearest to the threshold."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """What came of one form of the graph.

    Attributes:
        examined: One for each target.
        kept: Layers that were kept in float to pass.
        effects: The sensitivity table, the worst layer first; empty where it was not needed.
        attempts: How often the artifacts were made and judged.
    """

    examined: tuple[Examined, ...]
    kept: tuple[str, ...]
    effects: tuple[LayerEffect, ...]
    attempts: int

    @property
    def passed(self) -> bool:
        """Whether every target passed."""
        return all(one.artifact.parity.passed for one in self.examined)


def lower(
    lowering: Lowering,
    variant: Variant,
    targets: Sequence[Target],
    gate: Gate,
    exam: Examination,
    *,
    budget: int,
    show_sensitivity: bool,
) -> Lowered:
    """Make and judge the artifacts of one form, keeping more and more layers in float until they pass.

    The order in which layers are kept is measured on fit pictures, which are never judged; 1, 2, 4, ...
    layers are tried, ``budget`` at most. Pictures too few for the gate are not mended by layers: then there
    is one attempt.

    Raises:
        GraphError: A target does not take the graph.
        EngineError: An engine refuses it.
    """
    effects: tuple[LayerEffect, ...] = ()
    if show_sensitivity:
        effects = _sensitivity(lowering, variant, exam)
    kept: tuple[str, ...] = ()
    examined = _attempt(lowering, variant, targets, gate, exam, kept, 0)
    attempts = 1
    for count in keep_counts(budget):
        if all(one.artifact.parity.passed for one in examined) or _undecidable(examined):
            break
        if not effects:
            exam.say.note(f"{variant.name} does not pass yet: looking for the layers that hurt")
            effects = _sensitivity(lowering, variant, exam)
        if count > len(effects) and attempts > 1 and len(kept) == len(effects):
            break
        kept = tuple(effect.layer for effect in effects[:count])
        exam.say.note(f"{variant.name}: keeping {len(kept)} in float: {', '.join(kept)}")
        examined = _attempt(lowering, variant, targets, gate, exam, kept, attempts)
        attempts += 1
    return Lowered(tuple(examined), kept, effects, attempts)


def keep_counts(budget: int) -> Iterator[int]:
    """1, 2, 4, ... and the budget itself."""
    count = 1
    while count < budget:
        yield count
        count *= 2
    if budget > 0:
        yield budget


def sensitivity_frames(fit: Sequence[Unit], threshold: float | None) -> list[Unit]:
    """Some fit pictures: half of them the nearest to the threshold, the rest spread over the scores."""
    if len(fit) <= MAX_SENSITIVITY_FRAMES:
        return list(fit)
    near: list[Unit] = []
    if threshold is not None:
        near = sorted(fit, key=lambda one: abs(one.score - threshold))[: MAX_SENSITIVITY_FRAMES // 2]
    chosen = {id(one) for one in near}
    rest = sorted((one for one in fit if id(one) not in chosen), key=lambda one: one.score)
    room = MAX_SENSITIVITY_FRAMES - len(near)
    return [*near, *(rest[round(i * (len(rest) - 1) / (room - 1))] for i in range(room))]


def _attempt(
    lowering: Lowering,
    variant: Variant,
    targets: Sequence[Target],
    gate: Gate,
    exam: Examination,
    kept: Sequence[str],
    attempt: int,
) -> list[Examined]:
    exam.say.stage(f"making {variant.name}")
    graph, float_layers = lowering.make(kept)
    opset = int(graph.opset_imports.get("", OPSET))
    path = exam.folder / variant.file
    save_graph(graph, path)
    del graph
    emulated = lowering.computed(kept) if variant.precision == "fp16" else None
    examined = []
    for target in targets:
        files = importlib.import_module(TARGETS[target]).export_files(path, exam.folder, variant.precision)
        artifact = unjudged_artifact(exam.folder, target, variant, files, opset, gate, float_layers)
        examined.append(exam.examine(artifact, variant, gate, emulated, attempt))
    return examined


def _undecidable(examined: Sequence[Examined]) -> bool:
    """Whether there are too few pictures for the rate that is asked for, even with no flip at all."""
    parities = [one.artifact.parity for one in examined]
    return all(
        parity.flips is not None
        and parity.flips == (parity.blend_flips or 0)
        and parity.gate.max_flips_upper95 is not None
        and parity.flips_upper95 is not None
        and parity.flips_upper95 > parity.gate.max_flips_upper95
        for parity in parities
    )


def _sensitivity(lowering: Lowering, variant: Variant, exam: Examination) -> tuple[LayerEffect, ...]:
    threshold = exam.manifest.decision.threshold
    frames = sensitivity_frames(exam.fit, threshold)
    layers = lowering.layers
    say: Progress = exam.say
    say.stage(f"sensitivity of {len(layers)} layers to {variant.name}, on {len(frames)} fit pictures")
    return measure_sensitivity(
        lowering.computed,
        layers,
        [one.entry for one in frames],
        [one.score for one in frames],
        threshold,
        lambda done: say.step(done, len(layers)),
    )
