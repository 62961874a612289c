"""A bundle, opened and proved, that gives verdicts."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, InputError, OptionError
from sspcab_edge.manifest import Artifact
from sspcab_edge.protocols import Engine, Frame, FrontEnd, Source, Verdict
from sspcab_runtime import pipeline
from sspcab_runtime.calls import answer
from sspcab_runtime.frontends.table import open_front_end
from sspcab_runtime.opening import open_first, wanted_settings
from sspcab_runtime.sources.pictures import at_bit_depth
from sspcab_runtime.tuning import read_tuning

__all__ = ["Detector"]

_LOG = logging.getLogger(__name__)


class Detector:
    """An artifact of a bundle on an engine, ready to judge frames. A context manager.

    ::

        with Detector.open("bundle") as detector:
            verdict = detector(frame)

    Any number of threads may share a detector that judges single frames. One that judges videos remembers the
    frames of one stream: a second caller at the same time is refused, and needs a detector of its own.

    Attributes:
        bundle: The bundle, every file of which was checked.
        artifact: What runs.
        engine: What it runs on; the first, where there are several streams.
        engines: All of them: what a stream uses at the same time.
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
        others: Sequence[Engine] = (),
    ) -> None:
        self.bundle = bundle
        self.artifact = artifact
        self.engine = engine
        self.engines: Sequence[Engine] = (engine, *others)
        self.front_end = front_end
        self.threshold = threshold
        self._indices = itertools.count()
        self._stream = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str | None = None,
        precision: str | None = None,
        target: str | None = None,
        threads: int | None = None,
        hint: str | None = None,
        streams: int | None = None,
        threshold: float | None = None,
        prove: bool = True,
        fallback: bool = False,
        tuned: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Detector:
        """Check a bundle's files, load one artifact, and make sure that it gives the right verdicts here.

        An artifact that does not give the source's verdicts on this device is passed over for the next one
        that fits ``backend``, ``precision``, ``target`` and ``hint``, with a warning in the log.

        Args:
            path: The bundle's folder.
            backend: Which backend to use; None takes the first that is installed and has an artifact.
            precision: Which precision to run; None takes the manifest's first.
            target: Which target's artifact to run; None takes what the backend has.
            threads: For one inference; None leaves it to the backend, or shares the cores among streams.
            hint: What the backend computes in where the graph names no lower precision; None is what the
                export judged.
            streams: Inferences at the same time in :meth:`stream`; None is one.
            threshold: Instead of the bundle's, on its score scale.
            prove: Replay the parity pack unless this bundle, artifact, backend and device have an
                attestation. It proves the bundle with its own threshold.
            fallback: Where a backend cannot run here, go on with the next artifact, with a warning in the
                log; after those that fit ``backend`` and ``target``, with all others of ``precision``.
            tuned: Where none of backend, precision, target, threads, hint and streams is given, run what
                ``sspcab-edge tune`` found on this device.
            progress: Called with (inputs replayed, inputs in all) while the pack is replayed.

        Raises:
            BundleError: No bundle, or one whose files were changed.
            OptionError: The bundle has no such artifact, the backend is unknown, or an option is no number
                that makes sense.
            MissingPackageError: The backend is not installed.
            EngineError: The backend refuses the artifact.
            GateError: No artifact that fits gives the source's verdicts on this device.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise OptionError(f"threshold is {threshold}, expected a finite number")
        if streams is not None and streams < 1:
            raise OptionError(f"streams is {streams}, expected 1 or more")
        bundle = Bundle.open(path)
        settings = wanted_settings(
            bundle.manifest.artifacts,
            backend=backend,
            precision=precision,
            target=target,
            hint=hint,
            threads=threads,
            streams=streams,
            fallback=fallback,
        )
        pinned = (backend, precision, target, hint, threads, streams) != (None,) * 6
        found = read_tuning(bundle) if tuned and not pinned else None
        if found is not None:
            _LOG.info("tuned for %s on this device: %s", found.objective, found.setting)
            settings = (found.setting, *(setting for setting in settings if setting != found.setting))
        setting, engines = open_first(bundle, settings, prove=prove, fallback=fallback, progress=progress)
        judged_by = bundle.manifest.decision.threshold if threshold is None else threshold
        try:
            front_end = open_front_end(bundle.manifest, setting.artifact, judged_by, bundle.path)
        except BaseException:
            for engine in engines:
                engine.close()
            raise
        return cls(bundle, setting.artifact, engines[0], front_end, judged_by, engines[1:])

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> Verdict:
        """Judge one frame, (H, W, 3) uint8 RGB of any size.

        Where the front-end looks ahead, the verdict is that of the frame before; without score at first.

        Raises:
            InputError: The frame has another shape or dtype; or it is of a second stream, at the same time,
                for a front-end that remembers one.
            PictureError: The frame does not show what the camera was set up for.
            EngineError: The engine failed or is closed.
        """
        if not isinstance(pixels, np.ndarray):
            raise InputError(
                f"a frame is {type(pixels).__name__}, expected a NumPy array (H, W, 3) uint8 RGB: of a PIL "
                'image, numpy.asarray(image.convert("RGB"))'
            )
        frame = Frame(pixels, next(self._indices), "", time.monotonic(), time.time())
        with self._one_stream():
            request = self.front_end.push(frame)
            if request is None:
                return Verdict(score=None, threshold=self.threshold, anomalous=None)
            outputs = answer(self.engine, request) if request.inputs else {}
            return self.front_end.merge(outputs, request.context)

    def stream(self, source: Source) -> Generator[pipeline.Result | pipeline.Failure, None, None]:
        """Judge every frame of a source, overlapped: see :func:`sspcab_runtime.pipeline.stream`.

        Image files are read with the bit depth of the bundle.

        Raises:
            InputError: As it says there; or there is another stream, for a front-end that remembers one.
        """
        source = at_bit_depth(source, self.bundle.manifest.preprocess.bit_depth)
        with self._one_stream():
            yield from pipeline.stream(self, source)

    @contextmanager
    def _one_stream(self) -> Iterator[None]:
        """Refuse a second caller while another's frames are in the memory of the front-end."""
        if not self.front_end.remembers:
            yield
            return
        if not self._stream.acquire(blocking=False):
            raise InputError(
                f"the detector of {self.bundle.path} is judging another stream, and remembers the frames of "
                "one: open a detector for each stream"
            )
        try:
            yield
        finally:
            self._stream.release()

    def __reduce__(self) -> NoReturn:
        raise EngineError(
            f"the detector of {self.bundle.path} cannot be pickled or copied: open the bundle in the process "
            "that uses it"
        )

    def close(self) -> None:
        """Release the engines; closing twice is fine."""
        with ExitStack() as closing:
            for engine in self.engines:
                closing.callback(engine.close)

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
