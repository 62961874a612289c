"""The seams of the runtime: small protocols, and the values that pass between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sspcab_edge.ports import Array, Port

__all__ = [
    "CameraSource",
    "Engine",
    "Frame",
    "FrontEnd",
    "LiveSource",
    "Request",
    "ScoredObject",
    "Source",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, good until the frame's verdict is there: the memory may be used again.
        index: Position in its source, from 0.
        source: The source's URI or path.
        monotonic_s: Monotonic clock when it was decoded, in seconds.
        wall_s: Wall clock (Unix time) when it was decoded, in seconds.
        path: The file it came from, where there is one.
        converted: What decoding had to convert, in words, or None.
        gap: It does not follow the frame before it: it is of another recording, or much is missing.
    """

    pixels: npt.NDArray[np.uint8]
    index: int
    source: str
    monotonic_s: float
    wall_s: float
    path: str | None = None
    converted: str | None = None
    gap: bool = False


@dataclass(frozen=True, slots=True)
class ScoredObject:
    """One object in a frame.

    Attributes:
        box: (left, top, right, bottom) in pixels of the frame, right and bottom outside of it.
        score: On the source's scale.
    """

    box: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says of one frame.

    Attributes:
        score: On the source's scale, higher is more anomalous; None while a front-end warms up.
        threshold: Of the bundle or the site; None where there is none.
        anomalous: ``score > threshold``; None where either is missing.
        map: (h, w) float32 that covers the whole frame, at any resolution; None for hosts that do not
            localise.
        objects: What was judged in the frame, the highest score first; None for front-ends that look for no
            objects.
        ignored: Objects that were seen and not judged, because a frame may hold only so many.
    """

    score: float | None
    threshold: float | None
    anomalous: bool | None
    map: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    objects: tuple[ScoredObject, ...] | None = None
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What one frame asks of an engine.

    Attributes:
        inputs: Array by port name. Without any, the engine is not asked, and merging gets no outputs.
        batch: Most entries along the first axis of one engine call; None: all at once. What is more is run in
            several calls.
        context: What the front-end wants to know again when it merges the outputs. Nobody else looks at it.
        frame: The frame that it is about, where that is an earlier one than was pushed, as front-ends that
            look ahead have it; None: the one that was pushed.
    """

    inputs: Mapping[str, Array]
    batch: int | None = None
    context: object = None
    frame: Frame | None = None


class Engine(Protocol):
    """An artifact loaded on a backend, ready to infer. A context manager; closing twice is fine.

    Any number of threads may share it.
    """

    @property
    def backend(self) -> str:
        """Name of the backend, as in ``onnxruntime``."""

    @property
    def version(self) -> str:
        """Version of the backend's library."""

    @property
    def device(self) -> str:
        """What it runs on, in words that tell devices apart."""

    @property
    def inputs(self) -> Sequence[Port]:
        """Ports that :meth:`infer` wants."""

    @property
    def outputs(self) -> Sequence[Port]:
        """Ports that :meth:`infer` gives."""

    @property
    def max_batch(self) -> int | None:
        """Largest N, or None where any goes."""

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the graph once.

        Raises:
            InputError: Names, dtypes or shapes do not fit the ports.
            EngineError: The backend failed.
        """

    def close(self) -> None:
        """Release the backend's resources."""

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FrontEnd(Protocol):
    """Turns camera frames into a graph's inputs, and its outputs into verdicts."""

    @property
    def remembers(self) -> bool:
        """Whether verdicts depend on earlier frames, so that it serves one stream alone.

        One that remembers nothing may be used by any number of threads at the same time.
        """

    def push(self, frame: Frame) -> Request | None:
        """What the frame asks of the engine, or None where no verdict follows from it (yet).

        A front-end that looks ahead asks about an earlier frame, and so gives None first. One that warms up
        asks nothing of the engine (no inputs), and merges a verdict without score.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
            PictureError: The frame does not show what the camera was set up for.
        """

    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
        """The verdict of the frame whose request, with this ``context``, was answered by ``outputs``."""

    def reset(self) -> None:
        """Forget earlier frames, after a gap or a reconnect."""


class Source(Protocol):
    """Frames in order. Iterating decodes; a picture that cannot be decoded raises and may be skipped.

    ``__next__`` raises PictureError for one bad picture (iteration may go on) and SourceError when the
    source is lost.
    """

    @property
    def uri(self) -> str:
        """How the source was named."""

    @property
    def count(self) -> int | None:
        """How many frames it will give, where that is known."""

    def __iter__(self) -> Iterator[Frame]: ...

    def __next__(self) -> Frame: ...

    def close(self) -> None:
        """Release files and decoders."""


@runtime_checkable
class CameraSource(Source, Protocol):
    """A source that leaves out what comes damaged, and counts it."""

    @property
    def damaged(self) -> int:
        """Frames so far that came damaged."""


@runtime_checkable
class LiveSource(Source, Protocol):
    """A source that does not wait: frames that nobody takes in time are dropped and counted."""

    @property
    def received(self) -> int:
        """Frames so far, dropped ones included."""

    @property
    def dropped(self) -> int:
        """Frames so far that a newer one took the place of, or that nobody wanted any more."""

    def stop(self) -> None:
        """Receive no more; what waits is dropped."""
