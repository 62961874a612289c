"""Metrics in Prometheus's text form, from a status."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sspcab_edge.errors import MissingPackageError
from sspcab_runtime.daemon.status import DaemonStatus, Observed

__all__ = ["render_metrics"]


def render_metrics(observed: Observed) -> bytes:
    """All metrics as of now.

    Raises:
        MissingPackageError: prometheus_client is not installed.
    """
    try:
        prometheus = importlib.import_module("prometheus_client")
        core = importlib.import_module("prometheus_client.core")
    except ModuleNotFoundError as error:
        raise MissingPackageError("prometheus_client", "daemon", "the daemon") from error
    status = observed.status()

    class Collector:
        def collect(self) -> Iterator[Any]:
            yield from _families(core, status)

    registry = prometheus.CollectorRegistry()
    registry.register(Collector())
    return bytes(prometheus.generate_latest(registry))


def _families(core: Any, status: DaemonStatus) -> Iterator[Any]:
    def family(
        kind: str, name: str, text: str, labels: tuple[str, ...], rows: Sequence[tuple[tuple[str, ...], Any]]
    ) -> Any:
        made = getattr(core, f"{kind}MetricFamily")(f"sspcab_{name}", text, labels=labels)
        for values, number in rows:
            if number is not None:
                made.add_metric(list(values), float(number))
        return made

    cameras, workers, sinks = status.cameras, status.workers, status.sinks
    yield family("Gauge", "ready", "1 while nothing is wrong", (), [((), status.ready)])
    yield family("Gauge", "uptime_seconds", "since the daemon started", (), [((), status.uptime_s)])
    yield family("Gauge", "temperature_celsius", "hottest thermal zone", (), [((), status.temperature_c)])
    for name in ("captured", "scored", "dropped", "skipped", "bad", "faulty", "reconnects"):
        rows = [((c.name,), getattr(c, name)) for c in cameras]
        yield family(
            "Counter",
            f"frames_{name}" if name != "reconnects" else name,
            f"{name}, by camera",
            ("camera",),
            rows,
        )
    yield family("Gauge", "camera_up", "1 while frames come", ("camera",),
                 [((c.name,), c.state in ("fine", "fault")) for c in cameras])  # fmt: skip
    yield family("Gauge", "camera_fault", "1 while open", ("camera", "fault"),
                 [((c.name, fault), 1) for c in cameras for fault in c.faults])  # fmt: skip
    yield family("Gauge", "fps", "frames scored a second", ("camera",), [((c.name,), c.fps) for c in cameras])
    yield family("Gauge", "frame_age_seconds", "from decoding to verdict", ("camera",),
                 [((c.name,), _seconds(c.frame_age_ms)) for c in cameras])  # fmt: skip
    yield family("Gauge", "score", "latest", ("camera",), [((c.name,), c.score) for c in cameras])
    yield family("Gauge", "alarm", "1 while open", ("camera",), [((c.name,), c.alarm) for c in cameras])
    yield family("Counter", "parts", "decisions", ("camera", "decision"),
                 [((c.name, d), n) for c in cameras for d, n in c.parts.items()])  # fmt: skip
    yield family("Gauge", "worker_ready", "1 while proved", ("bundle",),
                 [((w.name,), w.state == "ready") for w in workers])  # fmt: skip
    yield family(
        "Counter", "worker_restarts", "of workers", ("bundle",), [((w.name,), w.restarts) for w in workers]
    )
    yield family(
        "Counter", "replays", "of parity samples", ("bundle",), [((w.name,), w.replays) for w in workers]
    )
    yield family("Gauge", "infer_seconds", "latest call", ("bundle",),
                 [((w.name,), _seconds(w.infer_ms)) for w in workers])  # fmt: skip
    store = status.store
    for name in ("generated", "stored"):
        yield family("Counter", f"events_{name}", name, (), [((), getattr(store, name))])
    yield family("Gauge", "events_in_memory", "while storage fails", (), [((), store.memory)])
    yield family(
        "Counter", "events_dropped", "by reason", ("reason",), [((r,), n) for r, n in store.dropped.items()]
    )
    for kind, name in (("Counter", "delivered"), ("Gauge", "refused"), ("Counter", "quarantined")):
        yield family(kind, f"sink_{name}", name, ("sink",), [((s.name,), getattr(s, name)) for s in sinks])
    yield family("Gauge", "state", "the worst part's word", ("state",), [((status.state,), 1)])
    yield family("Gauge", "sink_up", "1 while it takes events", ("sink",),
                 [((s.name,), s.state == "fine") for s in sinks])  # fmt: skip
    yield family("Gauge", "store_up", "1 while events are stored", (), [((), store.state == "fine")])
    yield family("Gauge", "sink_queued", "waiting", ("sink",), [((s.name,), s.queued) for s in sinks])
    threads = status.threads
    yield family("Gauge", "thread_up", "1 while it works", ("thread",),
                 [((t.name,), t.state == "fine") for t in threads])  # fmt: skip
    yield family("Counter", "thread_restarts", "by errors", ("thread",),
                 [((t.name,), t.restarts) for t in threads])  # fmt: skip
    yield family("Gauge", "open_files", "of the supervisor", (), [((), len(os.listdir("/proc/self/fd")))])
    running = Path("/proc/self/status").read_text().split("Threads:")[1].split()[0]
    yield family("Gauge", "threads", "of the supervisor", (), [((), running)])


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
