"""What passes between the supervisor and its children, as small tagged messages.

A capture process is one connection to one camera: it opens, gives frames, and ends when the camera is lost;
whoever started it starts the next. A worker is one bundle on one engine: it proves itself, then judges.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sspcab_edge.manifest import Quantiles
from sspcab_runtime.daemon.config import CameraConfig
from sspcab_runtime.daemon.found import FoundObject

__all__ = [
    "AddCamera",
    "Captured",
    "Ended",
    "Facts",
    "FromCapture",
    "FromWorker",
    "GeometryMessage",
    "Judge",
    "Judged",
    "JudgedFrame",
    "Opened",
    "Release",
    "RemoveCamera",
    "Replay",
    "Replayed",
    "Reset",
    "SlotFrame",
    "StartCapture",
    "StartWorker",
    "Stop",
    "ToCapture",
    "ToWorker",
    "WorkerEnded",
    "WorkerProgress",
    "WorkerReady",
]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The tag is the class's name."""


class GeometryMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A :class:`~sspcab_runtime.daemon.slots.Geometry` on its way."""

    count: int
    max_pixels: int
    max_map: int


# supervisor -> capture


class StartCapture(_Message, frozen=True, kw_only=True):
    """The first message to a capture process; the slots' descriptor comes with it.

    ``password`` is the secret itself: it travels over the socket, never over a command line or an
    environment. ``reference`` is the file of the camera's reference view: read where it exists, else made.
    """

    camera: str
    config: CameraConfig
    password: str | None
    geometry: GeometryMessage
    files: str
    reference: str | None


class Release(_Message, frozen=True, kw_only=True):
    """A slot is the capture process's again."""

    slot: int


class Stop(_Message, frozen=True, kw_only=True):
    """End, releasing everything. Also for workers."""


# capture -> supervisor


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What can be seen of a frame without knowing what it shows, measured on a small grey copy.

    Attributes:
        luma: Mean, 0 to 255.
        contrast: Standard deviation of the luma.
        clipped: Share of pixels at the upper end of the scale.
        sharpness: Share of energy in fine detail; see ``integrity.facts``.
        change: Mean absolute difference to the frame before, in levels; None for the first.
        shift: Against the reference view, as a share of the width; None where it was not measured or the
            pictures do not match at all.
    """

    luma: float
    contrast: float
    clipped: float
    sharpness: float
    change: float | None
    shift: float | None


class Opened(_Message, frozen=True, kw_only=True):
    """The camera answered; frames will follow. ``colour`` says how its colours are read, and why."""

    width: int
    height: int
    fps: float | None
    codec: str
    colour: str


class Captured(_Message, frozen=True, kw_only=True):
    """A frame lies in a slot, which is now the supervisor's.

    Attributes:
        number: Of the frame since this process began, counting all that were decoded.
        monotonic_s: When it was decoded. Also ``wall_s``.
        decode_ms: Time spent on decoding and converting it.
        dropped: Frames since the message before that found no free slot.
        skipped: Frames since the message before that the rate limit left out.
        bad: Frames since the message before that were damaged.
    """

    slot: int
    number: int
    height: int
    width: int
    monotonic_s: float
    wall_s: float
    decode_ms: float
    facts: Facts
    dropped: int = 0
    skipped: int = 0
    bad: int = 0


class Ended(_Message, frozen=True, kw_only=True):
    """The last message: why the camera is lost. ``size``: its frames are not what is allowed, or changed."""

    reason: Literal["lost", "refused", "timeout", "size", "finished", "configuration"]
    message: str


FromCapture = Opened | Captured | Ended
ToCapture = StartCapture | Release | Stop


# supervisor -> worker


class StartWorker(_Message, frozen=True, kw_only=True):
    """The first message to a worker.

    ``prove``: replay the parity pack even where an attestation remembers that it passed. ``avoid``: artifacts
    (by name, on backend) that failed here and are passed over.
    """

    bundle: str
    backend: str | None
    precision: str | None
    threads: int | None
    batch: int
    memory_mb: int
    prove: bool = False
    avoid: tuple[tuple[str, str], ...] = ()


class AddCamera(_Message, frozen=True, kw_only=True):
    """Frames of this camera will come; the slots' descriptor comes with it."""

    camera: str
    geometry: GeometryMessage
    threshold: float | None


class RemoveCamera(_Message, frozen=True, kw_only=True):
    """No more frames of this camera: forget its slots."""

    camera: str


class Reset(_Message, frozen=True, kw_only=True):
    """There is a gap in this camera's frames: its front-end forgets what came before."""

    camera: str


class SlotFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One frame to judge: it is the worker's until it answers."""

    camera: str
    slot: int
    number: int
    height: int
    width: int
    monotonic_s: float
    wall_s: float


class Judge(_Message, frozen=True, kw_only=True):
    """Judge these frames, in one engine call where that is faster. One request at a time."""

    request: int
    frames: tuple[SlotFrame, ...]


class Replay(_Message, frozen=True, kw_only=True):
    """Replay this many further inputs of the parity pack, in turn."""

    inputs: int


# worker -> supervisor


class WorkerProgress(_Message, frozen=True, kw_only=True):
    """It is alive and still preparing; ``status`` for people."""

    status: str


class WorkerReady(_Message, frozen=True, kw_only=True):
    """The bundle is proved on this device and frames may come.

    Attributes:
        bundle: Digest.
        threshold: Of the bundle. Scores of cameras with their own are judged by that.
        normal: Scores of normal pictures that the threshold was fitted on.
        heat: Values of the map without and with full heat, for overlays.
        batch: Frames per engine call that are worth it here, 1 or more.
        maps: Whether verdicts have maps.
        attested: Whether a valid attestation exists (without a threshold a bundle is never armed).
    """

    bundle: str
    model: str
    artifact: str
    backend: str
    device: str
    threshold: float | None
    normal: Quantiles | None
    heat: tuple[float, float] | None
    batch: int
    maps: bool
    attested: bool


class JudgedFrame(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of one frame; its map, if any, lies in the slot.

    ``fault`` is the reason why there is no verdict: ``moved`` (registration failed), ``size`` (not the
    bundle's frame), ``bad`` (anything else that is wrong with the picture). ``score`` None without a fault:
    the front-end is still warming up. ``objects`` has the worst, where it looks for any. A front-end that
    looks ahead speaks of the frame before this one, and is shown with this one.
    """

    camera: str
    slot: int
    number: int
    score: float | None
    map_height: int = 0
    map_width: int = 0
    fault: Literal["moved", "size", "bad"] | None = None
    message: str = ""
    objects: tuple[FoundObject, ...] | None = None


class Judged(_Message, frozen=True, kw_only=True):
    """The answer to :class:`Judge`: as many frames, in the same order, which are the supervisor's again.

    ``own_cpu_s`` is the CPU time of this worker outside of its engine so far.
    """

    request: int
    frames: tuple[JudgedFrame, ...]
    stages_ms: dict[str, float]
    own_cpu_s: float


class Replayed(_Message, frozen=True, kw_only=True):
    """The answer to :class:`Replay`; ``right``: all gave the verdicts that they must give."""

    right: bool
    inputs: int
    message: str = ""


class WorkerEnded(_Message, frozen=True, kw_only=True):
    """The last message: why it cannot go on.

    ``proof``: no artifact gives the source's verdicts here. ``bundle``: it is damaged. ``engine``: a backend
    is missing or failed. ``memory``: it grew beyond its budget.
    """

    reason: Literal["bundle", "proof", "engine", "memory", "configuration"]
    message: str
    artifact: str | None = None
    backend: str | None = None


ToWorker = StartWorker | AddCamera | RemoveCamera | Reset | Judge | Replay | Stop
FromWorker = WorkerProgress | WorkerReady | Judged | Replayed | WorkerEnded
