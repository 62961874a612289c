"""Events: what the daemon tells the world, as one JSON object each.

An anomaly is two of them with one ``event_id``: ``opened`` when the alarm is raised, ``closed`` when it is
over, with the peak. Faults of a camera and of the daemon are events of their own kinds, never anomalies.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sspcab_runtime.daemon.found import FoundObject

__all__ = [
    "SCHEMA",
    "SEVERITIES",
    "SYSTEM",
    "Event",
    "EventKind",
    "EvidenceFiles",
    "Peak",
    "decode_event",
    "encode_event",
]

SCHEMA = 1

EventKind = Literal["anomaly", "camera", "system"]

SYSTEM = "-"
"""``camera`` of an event that belongs to no camera."""

SEVERITIES: dict[EventKind, int] = {"anomaly": 2, "camera": 1, "system": 1}
"""Where room is short, events of a lower severity go first."""


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worst frame of an anomaly so far."""

    score: float
    frame: int
    wall_s: float
    monotonic_s: float


class EvidenceFiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paths relative to the evidence folder; None for what is not kept or could not be written."""

    frame: str | None = None
    overlay: str | None = None
    clip: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One message.

    Attributes:
        kind: ``anomaly``; ``camera`` (a fault of one camera); ``system`` (of the daemon).
        phase: ``opened`` and ``closed`` share an ``event_id``; ``noted`` stands alone.
        event_id: What tells one occurrence from all others.
        camera: Its name, or :data:`SYSTEM`.
        seq: Rises by one with each event of a camera, over restarts and boots; 0 until the store gives it.
        reason: In one word what happened: ``score``; a camera fault such as ``frozen``; ``storage``, ...
        message: For people, one line.
        boot_id: Of the machine; monotonic times compare within it.
        wall_s: Unix time.
        monotonic_s: Seconds.
        clock_synchronised: Whether ``wall_s`` can be believed; None where that is not known.
        bundle: Digest of the bundle that judged, or None.
        artifact: What ran, such as ``onnx-int8``.
        threshold: That the scores were judged by.
        score: Of the frame that opened or closed it (smoothed scores decide; this is the frame's own).
        frame: Number of that frame since its capture began.
        zone: Name of the zone, where the camera has zones.
        peak: The worst frame up to now.
        duration_s: From opening to closing.
        evidence: Where to look.
        objects: The worst of that frame, where the bundle looks for objects.
    """

    schema: int = SCHEMA
    kind: EventKind
    phase: Literal["opened", "closed", "noted"]
    event_id: str
    camera: str
    seq: int = 0
    reason: str
    message: str = ""
    boot_id: str
    wall_s: float
    monotonic_s: float
    clock_synchronised: bool | None = None
    bundle: str | None = None
    artifact: str | None = None
    threshold: float | None = None
    score: float | None = None
    frame: int | None = None
    zone: str | None = None
    peak: Peak | None = None
    duration_s: float | None = None
    evidence: EvidenceFiles | None = None
    objects: tuple[FoundObject, ...] | None = None

    @property
    def severity(self) -> int:
        """How much it matters: see :data:`SEVERITIES`."""
        return SEVERITIES[self.kind]


def encode_event(event: Event) -> bytes:
    """One line of JSON, keys in a fixed order."""
    return msgspec.json.encode(event)


def decode_event(data: bytes) -> Event:
    """The inverse of :func:`encode_event`.

    Raises:
        msgspec.DecodeError: It is no event.
    """
    return msgspec.json.decode(data, type=Event)
