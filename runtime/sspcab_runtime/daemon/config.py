"""What ``edge.toml`` can say, as types. Reading it, with errors by line and key, is ``config_file``.

Durations are in seconds and end in ``_s``, sizes in mebibytes and end in ``_mb``. A secret is never written
here: ``token = "file:/etc/sspcab/token"``, ``"credential:NAME"`` (systemd) or ``"env:NAME"``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "AlarmConfig",
    "BundleConfig",
    "CameraConfig",
    "Config",
    "DriftConfig",
    "EvidenceConfig",
    "IntegrityConfig",
    "JsonLinesConfig",
    "ModbusConfig",
    "MqttConfig",
    "MqttTriggerConfig",
    "SinkConfig",
    "StoreConfig",
    "TriggerConfig",
    "WebConfig",
    "WebhookConfig",
    "ZoneConfig",
]

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Secret = Annotated[str, Meta(pattern=r"^(file|credential|env):.+$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: frozen, and a key that nobody knows is an error."""


class BundleConfig(_Table, frozen=True, kw_only=True):
    """``[bundles.NAME]``: a bundle and how it runs.

    Attributes:
        path: Its folder; relative to the configuration's own.
        backend: None takes what ``sspcab-edge tune`` found here, or the first that is installed.
        precision: None takes likewise.
        threads: Of one inference.
        batch: Most frames of several cameras in one engine call, and no more than cameras; 1 never batches.
        memory_mb: Address space that the worker may take beyond what it has after loading; it is restarted
            where it grows beyond that.
        infer_s: A worker that needs longer for one call is killed.
        replay_s: How often parity samples are replayed while it runs.
    """

    path: str
    backend: str | None = None
    precision: str | None = None
    threads: Count | None = None
    batch: Count = 4
    memory_mb: Count = 1024
    infer_s: Positive = 5.0
    replay_s: Positive = 60.0


class IntegrityConfig(_Table, frozen=True, kw_only=True):
    """``[cameras.NAME.integrity]``: when a camera is at fault. A check set to 0 is off.

    Attributes:
        stall_s: No frame for so long: ``stalled``, and the capture process is replaced.
        frozen_s: The same picture for so long: ``frozen``.
        black: A mean luma (0 to 255) below this, with hardly any contrast: ``black``.
        saturated: A share of clipped pixels above this: ``saturated``.
        blurred: A sharpness below this share of the camera's own normal: ``blurred``.
        moved: A shift against the reference view of more than this share of the width: ``moved``.
        hold_s: A fault is over when this long nothing was found.
    """

    stall_s: NotNegative = 10.0
    frozen_s: NotNegative = 15.0
    black: NotNegative = 8.0
    saturated: Share = 0.6
    blurred: Share = 0.25
    moved: Share = 0.05
    hold_s: NotNegative = 1.0


class ZoneConfig(_Table, frozen=True, kw_only=True):
    """``[[cameras.NAME.alarm.zones]]``: a part of the frame with an alarm of its own.

    Attributes:
        name: As it appears in events.
        corners: (x, y) each as a share of the frame's width and height, 0 to 1; three or more.
        threshold: Instead of the camera's.
    """

    name: Name
    corners: Annotated[tuple[tuple[Share, Share], ...], Meta(min_length=3)]
    threshold: float | None = None


class AlarmConfig(_Table, frozen=True, kw_only=True):
    """``[cameras.NAME.alarm]``: from verdicts to alarms.

    Attributes:
        threshold: Instead of the bundle's, on its score scale.
        smoothing_s: Time constant of the exponential mean over scores; 0 takes each as it is.
        needed: The alarm opens when so many ...
        of: ... of the latest so many frames are above the threshold.
        clear: It closes when ``of`` frames in a row are below this share of the way from the normal score to
            the threshold (hysteresis); 1 is the threshold itself.
        cool_down_s: After closing, none opens for so long.
        min_area: Share of the map (0 to 1) that has to be above the threshold, in one connected piece.
        zones: Each with an alarm of its own; none: the whole frame.
        max_open_s: An alarm that is still open is closed and, if need be, opened again.
    """

    threshold: float | None = None
    smoothing_s: NotNegative = 0.0
    needed: Count = 2
    of: Count = 3
    clear: Share = 0.8
    cool_down_s: NotNegative = 5.0
    min_area: Share = 0.0
    zones: tuple[ZoneConfig, ...] = ()
    max_open_s: Positive = 3600.0


class DriftConfig(_Table, frozen=True, kw_only=True):
    """``[cameras.NAME.drift]``: whether normal scores still look as they did when the threshold was fitted.

    Attributes:
        window_s: How much of the past is compared; 0 watches nothing.
        level: A warning needs this much evidence (p value) in two windows in a row.
    """

    window_s: NotNegative = 3600.0
    level: Annotated[float, Meta(gt=0, lt=1)] = 0.001


class TriggerConfig(_Table, frozen=True, kw_only=True):
    """``[cameras.NAME.trigger]``: parts on a line, of a camera whose mode is ``triggered``.

    Attributes:
        channel: Who may trigger.
        deadline_s: A part is answered by then, where the trigger does not say otherwise.
        delay_s: From trigger to the earliest exposure that shows the part.
        waiting: Most parts that may wait; one more is answered ``no decision`` at once.
    """

    channel: Literal["http", "mqtt", "modbus"] = "http"
    deadline_s: Positive = 1.0
    delay_s: NotNegative = 0.0
    waiting: Count = 64


class CameraConfig(_Table, frozen=True, kw_only=True):
    """``[cameras.NAME]``.

    Attributes:
        source: URI: ``rtsp(s)://``, ``http(s)://`` (MJPEG), ``v4l2:///dev/videoN``, ``csi://N``,
            ``gst:PIPELINE``, ``file://`` or a path (a video, looped). It holds no password.
        user: For the camera, with ``password``.
        password: Secret.
        bundle: Name of a bundle of this file.
        mode: ``live``: the newest frame wins. ``triggered``: every part counts.
        fps: Most frames a second that are judged; None judges what the engine can.
        width: For ``v4l2``, ``csi``: what to ask the camera for. Also ``height``.
        transport: Of RTSP.
        open_s: Time to open it.
        read_s: Longest wait of the decoder for data, before it is opened again.
        max_pixels: Larger frames are refused before they are decoded.
        colour: Matrix and range of a stream that does not state its own: ``auto`` takes BT.709 for 720 lines
            and more, else BT.601, both limited.
    """

    source: str
    bundle: Name
    user: str | None = None
    password: Secret | None = None
    mode: Literal["live", "triggered"] = "live"
    fps: Positive | None = None
    width: Count | None = None
    height: Count | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    open_s: Positive = 10.0
    read_s: Positive = 5.0
    max_pixels: Annotated[int, Meta(ge=4096, le=100_000_000)] = 8_500_000
    colour: Literal["auto", "bt601", "bt709", "bt601-full", "bt709-full"] = "auto"
    integrity: IntegrityConfig = IntegrityConfig()
    alarm: AlarmConfig = AlarmConfig()
    drift: DriftConfig = DriftConfig()
    trigger: TriggerConfig = TriggerConfig()


class StoreConfig(_Table, frozen=True, kw_only=True):
    """``[store]``: the outbox.

    Attributes:
        max_mb: Of the database; delivered events go first, alarms last; parts have a quarter at most.
        memory: Events held in memory while the disk is full; more are counted and dropped.
    """

    max_mb: Count = 256
    memory: Count = 1000


class EvidenceConfig(_Table, frozen=True, kw_only=True):
    """``[evidence]``: pictures of events. The oldest go where there is no room.

    Attributes:
        keep: What is kept of an event.
        before_s: Of the clip, before the alarm opened.
        after_s: Of the clip, after it closed.
        clip_fps: Frames a second of the clip.
        max_mb: Of all evidence.
    """

    keep: tuple[Literal["frame", "overlay", "clip"], ...] = ("frame", "overlay", "clip")
    before_s: NotNegative = 5.0
    after_s: NotNegative = 5.0
    clip_fps: Annotated[float, Meta(gt=0, le=30)] = 2.0
    max_mb: Count = 512


class MqttConfig(_Table, frozen=True, kw_only=True, tag_field="kind", tag="mqtt"):
    """``[sinks.NAME]`` of ``kind = "mqtt"``: QoS 1, at ``TOPIC/CAMERA/KIND``.

    ``tls`` verifies the broker by ``ca`` (a file) or the system's authorities. Passwords without TLS are
    refused beyond loopback.
    """

    host: str
    port: Port | None = None
    topic: str = "sspcab"
    client_id: str | None = None
    user: str | None = None
    password: Secret | None = None
    tls: bool = False
    ca: str | None = None
    keep_alive_s: Annotated[int, Meta(ge=5, le=600)] = 20


class WebhookConfig(_Table, frozen=True, kw_only=True, tag_field="kind", tag="webhook"):
    """``kind = "webhook"``: a POST per event; 2xx acknowledges, 400, 413 and 422 set it aside."""

    url: str
    token: Secret | None = None
    ca: str | None = None
    timeout_s: Positive = 5.0


class JsonLinesConfig(_Table, frozen=True, kw_only=True, tag_field="kind", tag="jsonl"):
    """``kind = "jsonl"``: a line per event, synced; a file that is full is renamed to ``.1``."""

    path: str
    max_mb: Count = 64


SinkConfig = MqttConfig | WebhookConfig | JsonLinesConfig


class WebConfig(_Table, frozen=True, kw_only=True):
    """``[web]``: page, API, metrics and health.

    Attributes:
        listen: HOST:PORT. Beyond loopback it is refused without ``certificate`` and ``key``.
        token: Secret; by default made at first start, in ``token`` below the state folder.
        control: Secret; needed to trigger parts. Without it the ordinary token is enough on loopback only.
        hosts: Names that a browser may call this by, besides ``listen``'s (against DNS rebinding).
    """

    listen: str = "127.0.0.1:8787"
    token: Secret | None = None
    control: Secret | None = None
    certificate: str | None = None
    key: Secret | None = None
    hosts: tuple[str, ...] = ()


class MqttTriggerConfig(_Table, frozen=True, kw_only=True):
    """``[mqtt_trigger]``: triggers from ``TOPIC/CAMERA/trigger``, answered at ``TOPIC/CAMERA/decision``."""

    host: str
    port: Port | None = None
    topic: str = "sspcab"
    client_id: str | None = None
    user: str | None = None
    password: Secret | None = None
    tls: bool = False
    ca: str | None = None


class ModbusConfig(_Table, frozen=True, kw_only=True):
    """``[modbus]``: triggers over Modbus/TCP.

    Attributes:
        listen: HOST:PORT.
        units: The unit number of each triggered camera.
        trusted_network: Whether to listen beyond this machine: Modbus has neither passwords nor encryption.
    """

    units: dict[Name, Annotated[int, Meta(ge=1, le=247)]]
    listen: str = "127.0.0.1:5020"
    trusted_network: bool = False


class Config(_Table, frozen=True, kw_only=True):
    """The whole file.

    Attributes:
        state: Folder of everything that is kept; relative to the file's own.
        files: Folder below which ``file`` sources may lie; by default the configuration's own.
    """

    bundles: dict[Name, BundleConfig]
    cameras: dict[Name, CameraConfig]
    state: str = "state"
    files: str | None = None
    store: StoreConfig = StoreConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    sinks: dict[Name, SinkConfig] = {}
    web: WebConfig | None = WebConfig()
    mqtt_trigger: MqttTriggerConfig | None = None
    modbus: ModbusConfig | None = None
