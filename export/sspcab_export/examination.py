"""Examining artifacts: a score map fitted, then verdicts judged, on whatever computes the artifact here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import onnx_ir as ir

from sspcab_edge.bundle import Bundle
from sspcab_edge.front_end_spec import ENTRY_A_FRAME
from sspcab_edge.manifest import Artifact, Gate, Manifest, Parity, Target
from sspcab_edge.score_map import ScoreMap
from sspcab_export.asking import Unit
from sspcab_export.graph import save_graph
from sspcab_export.precision.score_map import fit_score_map
from sspcab_export.progress import Progress
from sspcab_export.to_tensorrt import check_build, judged_graph
from sspcab_export.variants import BACKENDS, Variant
from sspcab_export.verify import Judged, judge_artifact, unit_score
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.engines.table import load_engine
from sspcab_runtime.frontends.table import open_front_end, open_unit
from sspcab_runtime.frontends.unit import Unit as UnitFrontEnd

__all__ = ["Examination", "Examined"]

EMULATED = "half arithmetic, emulated on {engine}"
"""How a parity names fp16 that was rounded to half after every node."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of one artifact.

    Attributes:
        artifact: With its score map and parity.
        engine: What computed it, closed; None where only an emulation did.
        engine_parity: What that engine showed.
    """

    artifact: Artifact
    engine: GraphEngine | None
    engine_parity: Parity | None


@dataclass(slots=True)
class Examination:
    """Everything that artifacts are examined with.

    Attributes:
        folder: The bundle in the making.
        manifest: Without artifacts.
        judged: Judge inputs with the source's answers.
        fit: Units of pictures that nothing is judged on, for score maps.
        scene: Whether they are the user's.
        tolerance: Score difference that rounding explains.
        say: Told what happens.
    """

    folder: Path
    manifest: Manifest
    judged: Sequence[Judged]
    fit: Sequence[Unit]
    scene: Literal["given", "built-in"]
    tolerance: float
    say: Progress
    _done: dict[tuple[str, str, int], tuple[ScoreMap, Parity, GraphEngine]] = field(default_factory=dict)

    def examine(
        self, artifact: Artifact, variant: Variant, gate: Gate, emulated: ir.Model | None, attempt: int = 0
    ) -> Examined:
        """Judge one artifact.

        Args:
            artifact: Its files lie in the folder; its parity is not looked at.
            variant: What form of the graph it is.
            gate: What it has to reach.
            emulated: The graph in float32 that gives what fp16 gives in true half arithmetic; then both it
                and the engine have to pass, and the emulation is what is recorded.
            attempt: Tells files of one name apart that were made again.

        Raises:
            GraphError: TensorRT's parser refuses the graph of a TensorRT artifact.
            EngineError: An engine refuses it.
        """
        if artifact.target == "tensorrt":
            self.say.note(check_build(self.folder / artifact.files[0], self.manifest.inputs))
        engine, engine_parity = None, None
        if emulated is None or artifact.target != "tensorrt":
            score_map, engine_parity, engine = self._on_engine(artifact, variant, gate, attempt)
            artifact = msgspec.structs.replace(artifact, score_map=score_map, parity=engine_parity)
        if emulated is not None and (engine_parity is None or engine_parity.passed):
            score_map, parity = self._emulated(artifact, emulated, gate, attempt)
            artifact = msgspec.structs.replace(artifact, score_map=score_map, parity=parity)
        return Examined(artifact, engine, engine_parity)

    def _on_engine(
        self, artifact: Artifact, variant: Variant, gate: Gate, attempt: int
    ) -> tuple[ScoreMap, Parity, GraphEngine]:
        target: Target = artifact.target
        backend = BACKENDS[target]
        key = (artifact.files[0], backend, attempt)
        if key not in self._done:
            path = self.folder / artifact.files[0]
            if target == "tensorrt":
                path = judged_graph(path)
            self._done[key] = self._judge(artifact, path, backend, gate, None)
        return self._done[key]

    def _emulated(
        self, artifact: Artifact, emulated: ir.Model, gate: Gate, attempt: int
    ) -> tuple[ScoreMap, Parity]:
        key = (artifact.precision, "emulated", attempt)
        if key not in self._done:
            with tempfile.TemporaryDirectory(prefix="sspcab-") as scratch:
                path = Path(scratch) / "emulated.onnx"
                save_graph(emulated, path)
                self._done[key] = self._judge(artifact, path, "onnxruntime", gate, EMULATED)
        score_map, parity, _ = self._done[key]
        return score_map, parity

    def _judge(
        self, artifact: Artifact, path: Path, backend: str, gate: Gate, name: str | None
    ) -> tuple[ScoreMap, Parity, GraphEngine]:
        manifest, total = self.manifest, len(self.judged)
        threshold = manifest.decision.threshold
        staged = Bundle(self.folder, manifest, digest="")
        with ExitStack() as stack:
            engine = stack.enter_context(
                load_engine(
                    backend,
                    path,
                    manifest.inputs,
                    manifest.outputs,
                    precision=artifact.precision,
                    single=manifest.front_end.kind in ENTRY_A_FRAME,
                )
            )

            def detector(score_map: ScoreMap) -> Detector:
                mapped = msgspec.structs.replace(artifact, score_map=score_map)
                front_end = open_front_end(manifest, mapped, threshold, self.folder)
                return Detector(staged, mapped, engine, front_end, threshold)

            def unit(score_map: ScoreMap) -> UnitFrontEnd:
                return open_unit(manifest, msgspec.structs.replace(artifact, score_map=score_map), threshold)

            score_map = ScoreMap()
            on = f"{engine.backend} {engine.version}"
            on = on if name is None else name.format(engine=on)
            if artifact.precision != "fp32" and self.fit:
                self.say.stage(f"scores of {artifact.name} on the fit pictures ({on})")
                plain = unit(score_map)
                own = []
                for number, one in enumerate(self.fit, 1):
                    own.append(unit_score(engine, plain, one.entry)[0])
                    self.say.step(number, len(self.fit))
                score_map = fit_score_map(own, [one.score for one in self.fit], self.tolerance)
            self.say.stage(f"judging {artifact.name} ({on})")
            parity = judge_artifact(
                detector(score_map),
                unit(score_map),
                self.judged,
                gate,
                self.scene,
                on,
                lambda done: self.say.step(done, total),
            )
        return score_map, parity, engine
