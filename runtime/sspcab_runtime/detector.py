"""A bundle, opened and proved, that gives verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Artifact
from sspcab_edge.protocols import Engine, Frame, FrontEnd, Source, Verdict
from sspcab_runtime import pipeline
from sspcab_runtime.engines.table import choose, open_engine
from sspcab_runtime.frontends.table import open_front_end
from sspcab_runtime.replay import prove as prove_parity

__all__ = ["Detector"]


class Detector:
    """An artifact of a bundle on an engine, ready to judge frames. A context manager.

    ::

        with Detector.open("bundle") as detector:
            verdict = detector(frame)

    Attributes:
        bundle: The bundle, every file of which was checked.
        artifact: What runs.
        engine: What it runs on.
        front_end: How frames become inputs and outputs verdicts.
        threshold: Judging the scores, or None.
    """

    def __init__(
        self,
        bundle: Bundle,
        artifact: Artifact,
        engine: Engine,
        front_end: FrontEnd,
        threshold: float | None,
    ) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.engine = engine
        self.front_end = front_end
        self.threshold = threshold
        self._calls = 0

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str | None = None,
        precision: str | None = None,
        target: str | None = None,
        threads: int | None = None,
        threshold: float | None = None,
        prove: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detector:
        """Check a bundle's files, load one artifact, and make sure that it gives the right verdicts here.

        Args:
            path: The bundle's folder.
            backend: Which backend to use; None takes the first that is installed and has an artifact.
            precision: Which precision to run; None takes the manifest's first.
            target: Which target's artifact to run; None takes what the backend has.
            threads: For one inference; None leaves it to the backend.
            threshold: Instead of the bundle's, on its score scale.
            prove: Replay the parity pack unless this bundle, artifact, backend and device have an
                attestation. It proves the bundle with its own threshold.
            progress: Called with (inputs replayed, inputs in all) while the pack is replayed.

        Raises:
            BundleError: No bundle, or one whose files were changed.
            OptionError: The bundle has no such artifact, the backend is unknown, or an option is no number
                that makes sense.
            MissingPackageError: The backend is not installed.
            EngineError: The backend refuses the artifact.
            GateError: The artifact does not give the source's verdicts on this device.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise OptionError(f"threshold is {threshold}, expected a finite number")
        bundle = Bundle.open(path)
        artifact, chosen = choose(
            bundle.manifest.artifacts, backend=backend, precision=precision, target=target
        )
        judged_by = bundle.manifest.decision.threshold if threshold is None else threshold
        engine = open_engine(bundle, artifact, backend=chosen, threads=threads)
        try:
            if prove:
                prove_parity(bundle, artifact, engine, progress=progress)
            front_end = open_front_end(bundle.manifest, artifact, judged_by)
        except BaseException:
            engine.close()
            raise
        return cls(bundle, artifact, engine, front_end, judged_by)

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Verdict:
        """Judge one frame, (H, W, 3) uint8 RGB of any size.

        Raises:
            InputError: The frame has another shape or dtype.
            EngineError: The engine failed or is closed.
        """
        frame = Frame(pixels, self._calls, "", time.monotonic(), time.time())
        self._calls += 1
        inputs = self.front_end.push(frame)
        if inputs is None:
            return Verdict(score=None, threshold=self.threshold, anomalous=None)
        return self.front_end.merge(self.engine.infer(inputs))

    def stream(self, source: Source) -> Generator[pipeline.Result | pipeline.Failure, None, None]:
        """Judge every frame of a source, overlapped: see :func:`sspcab_runtime.pipeline.stream`."""
        return pipeline.stream(self, source)

    def close(self) -> None:
        """Release the engine; closing twice is fine."""
        self.engine.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
