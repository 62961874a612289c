"""The pages, as text. Every value that comes from elsewhere is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.status import CameraStatus, DaemonStatus, Score, Shown
from sspcab_runtime.tables import apart

__all__ = [
    "badge",
    "camera_page",
    "cameras_page",
    "event_page",
    "events_page",
    "frame",
    "health_page",
    "login_page",
]

_GAP_S = 2.0
"""Scores that are further apart are not joined by a line."""

_TONES = {"fine": "good", "starting": "soft", "fault": "warn", "down": "bad", "ready": "good", "wrong": "bad",
          "degraded": "bad", "failed": "bad", "silent": "bad", "disarmed": "warn",
          "retrying": "warn"}  # fmt: skip


def frame(title: str, main: str, status: DaemonStatus, *, live: bool = True) -> str:
    """A whole page around its main part."""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)} - sspcab</title>
<link rel="stylesheet" href="/static/style.css"><script src="/static/refresh.js" defer></script>
<noscript><meta http-equiv="refresh" content="5"></noscript></head><body>
<header><strong>sspcab</strong><nav><a href="/">Cameras</a><a href="/events">Events</a>
<a href="/health">Health</a></nav>{badge(status)}</header>
<main{" data-live" if live else ""}>{main}</main></body></html>"""


def badge(status: DaemonStatus) -> str:
    """The whole in one word, that of its worst part, and why: a link to all reasons."""
    reason = escape(status.problems[0]) if status.problems else ""
    shown = f'<span class="reason">{reason}</span>' if reason else ""
    return (
        f'<a class="state" href="/health" title="{reason}">'
        f'<span class="badge {_TONES.get(status.state, "bad")}">{escape(status.state)}</span>{shown}</a>'
    )


def login_page(wrong: bool) -> str:
    """Where a token is asked for."""
    notice = '<p class="bad">That token is wrong.</p>' if wrong else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sspcab</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/static/style.css"></head><body>
<form class="login" method="post" action="/login"><strong>sspcab</strong>{notice}
<label>Token <input name="token" type="password" autocomplete="current-password" autofocus></label>
<button>Log in</button><span class="soft">It is in the file <code>token</code> of the state folder.</span>
</form></body></html>"""


def cameras_page(
    status: DaemonStatus, shown: dict[str, Shown | None], scores: dict[str, Sequence[Score]]
) -> str:
    """A card for each camera: its picture, and what is said beside it, are of one frame."""
    cards = "".join(_card(one, shown[one.name], scores[one.name]) for one in status.cameras)
    return f'{_notices(status)}<h1>Cameras</h1><div class="cards">{cards}</div>'


def camera_page(
    camera: CameraStatus, shown: Shown | None, scores: Sequence[Score], events: Sequence[tuple[int, Event]]
) -> str:
    """One camera: its picture, timeline, numbers and events."""
    facts = [
        ("State", _badge(camera.state)),
        ("Faults", escape(", ".join(camera.faults)) or "none"),
        ("Message", escape(camera.message)),
        ("Mode", camera.mode),
        ("Bundle", escape(camera.bundle)),
        ("Frames", f"{camera.width or '?'} x {camera.height or '?'}, {escape(camera.colour or '?')}"),
        ("Scored", f"{camera.scored} of {camera.captured}, {camera.fps:.1f} a second"),
        ("Not scored", f"{camera.dropped} dropped, {camera.skipped} left out, {camera.faulty} at fault, "
                       f"{camera.bad} damaged"),
        ("Frame age", "-" if camera.frame_age_ms is None else f"{camera.frame_age_ms:.0f} ms"),
        ("Score of this frame", escape(_figures(shown))),
        ("Connected again", str(camera.reconnects)),
        ("Parts", ", ".join(f"{escape(name)} {count}" for name, count in camera.parts.items()) or "-"),
    ]  # fmt: skip
    rows = "".join(f"<tr><th>{name}</th><td class=num>{value}</td></tr>" for name, value in facts)
    return (
        f"<h1>{escape(camera.name)} {_verdict(camera, shown)}</h1>"
        f"<div class=wide>{_picture(camera, shown)}</div>"
        f"{_timeline(scores, camera.threshold)}<h2>Facts</h2><table>{rows}</table>"
        f"<h2>Events</h2>{_events(events)}"
    )


def events_page(events: Sequence[tuple[int, Event]], camera: str | None) -> str:
    """The latest events, newest first."""
    older = ""
    if events:
        which = f"&camera={escape(camera)}" if camera else ""
        older = f'<p><a href="/events?before={events[-1][0]}{which}">Older</a></p>'
    return f"<h1>Events</h1>{_events(events)}{older}"


def event_page(row: int, event: Event) -> str:
    """One event with its evidence."""
    shown = ""
    if event.evidence is not None:
        for what in ("overlay", "frame"):
            path = getattr(event.evidence, what)
            if path:
                shown += f'<p class=wide><img src="/evidence/{escape(path)}" alt="{what}"></p>'
        if event.evidence.clip:
            shown += (
                f'<p class=wide><video controls src="/evidence/{escape(event.evidence.clip)}"></video></p>'
            )
    peak = "-" if event.peak is None else f"{_number(event.peak.score)} in frame {event.peak.frame}"
    facts = [
        ("When", _time(event.wall_s)), ("Camera", escape(event.camera)), ("Number", str(event.seq)),
        ("Kind", f"{event.kind} {event.phase}: {escape(event.reason)}"), ("Message", escape(event.message)),
        ("Score, threshold", f"{_number(event.score)}, {_number(event.threshold)}"), ("Peak", peak),
        ("Zone", escape(event.zone or "-")),
        ("Lasted", "-" if event.duration_s is None else f"{event.duration_s:.1f} s"),
        ("Judged by", f"{escape(event.artifact or '-')} of {escape(event.bundle or '-')}"),
        ("Event", escape(event.event_id)),
    ]  # fmt: skip
    rows = "".join(f"<tr><th>{name}</th><td class=num>{value}</td></tr>" for name, value in facts)
    return f"<h1>Event {row}</h1>{shown}<table>{rows}</table>"


def health_page(status: DaemonStatus) -> str:
    """Bundles, store, sinks."""
    workers = "".join(
        f"<tr><td>{escape(w.name)}</td><td>{_badge(w.state)}</td><td>{escape(w.artifact or '-')} on "
        f"{escape(w.backend or '-')}</td><td class=num>{_number(w.infer_ms)} ms</td>"
        f"<td class=num>{w.replays} replays, {w.restarts} restarts</td><td>{escape(w.message)}</td></tr>"
        for w in status.workers
    )
    sinks = "".join(
        f"<tr><td>{escape(s.name)}</td><td>{escape(s.kind)}</td><td>{_badge(s.state)}</td>"
        f"<td class=num>{s.delivered} delivered, {s.queued} waiting, {s.refused} refused, "
        f"{s.quarantined} damaged</td>"
        f"<td>{escape(s.message)}</td></tr>"
        for s in status.sinks
    )
    store = status.store
    lost = ", ".join(f"{count} {escape(why)}" for why, count in store.dropped.items() if count) or "none"
    heat = "" if status.temperature_c is None else f", {status.temperature_c:.0f} °C"
    return (
        f"{_notices(status)}<h1>Health</h1><p class=soft>Version {escape(status.version)}, running for "
        f"{status.uptime_s / 3600:.1f} h{heat}</p><h2>Bundles</h2><table><tr><th>Bundle</th><th>State</th>"
        f"<th>Runs</th><th>Inference</th><th>Proofs</th><th></th></tr>{workers}</table>"
        f"<h2>Events</h2><table><tr><th>State</th><th>Generated</th><th>Stored</th><th>In memory</th>"
        f"<th>Dropped</th></tr><tr><td>{_badge(store.state)}</td><td class=num>{store.generated}</td>"
        f"<td class=num>{store.stored}</td><td class=num>{store.memory}</td><td>{lost}</td></tr></table>"
        f"<h2>Sinks</h2><table><tr><th>Sink</th><th>Kind</th><th>State</th><th></th><th></th></tr>{sinks}</table>"
    )


def _card(camera: CameraStatus, shown: Shown | None, scores: Sequence[Score]) -> str:
    name = escape(camera.name)
    state = "" if camera.state == "fine" else _badge(camera.state)
    when = "" if shown is None else time.strftime("%H:%M:%S", time.localtime(shown.wall_s))
    return (
        f'<div class="card"><a href="/cameras/{name}">{_picture(camera, shown)}</a><div class="in">'
        f'<div class="row"><a href="/cameras/{name}"><strong>{name}</strong></a>{state}'
        f'{_verdict(camera, shown)}<span class="right num soft">{camera.fps:.1f} fps</span></div>'
        f'<div class="row soft num">{escape(_figures(shown))}<span class="right">{when}</span></div>'
        f"{_timeline(scores, camera.threshold)}</div></div>"
    )


def _picture(camera: CameraStatus, shown: Shown | None) -> str:
    if shown is None:
        return '<div class="none">no picture yet</div>'
    return (
        f'<img src="/picture/{escape(camera.name)}.jpg?number={shown.picture}" '
        'alt="latest frame with heat map">'
    )


def _verdict(camera: CameraStatus, shown: Shown | None) -> str:
    """That of the frame that is shown; green only while its camera is fine."""
    if shown is None:
        return ""
    if shown.score is None:
        return f'<span class="badge warn">not judged: {escape(shown.fault)}</span>'
    if shown.anomalous is None:
        tone, word = "soft", "no threshold"
    else:
        tone, word = ("bad", "anomalous") if shown.anomalous else ("good", "normal")
    if camera.state != "fine":
        return f'<span class="badge soft">last: {word}</span>'
    alarm = '<span class="badge bad">alarm</span>' if shown.alarm else ""
    return f'<span class="badge {tone}">{word}</span>{alarm}'


def _figures(shown: Shown | None) -> str:
    """As the picture has them."""
    if shown is None or shown.score is None:
        return "-"
    score, threshold = apart(shown.score, shown.threshold)
    return f"score {score}" + ("" if shown.threshold is None else f", threshold {threshold}")


def _timeline(scores: Sequence[Score], threshold: float | None) -> str:
    """Scores over time as SVG, with the threshold."""
    if len(scores) < 2:
        return ""
    values = [score.score for score in scores] + ([] if threshold is None else [threshold])
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 1.0
    low, high = low - room, high + room
    begin, end = scores[0].wall_s, scores[-1].wall_s

    def y(value: float) -> float:
        return 90 - 90 * (value - low) / (high - low)

    parts: list[list[str]] = [[]]
    for before, score in zip([scores[0], *scores], scores, strict=False):
        if score.wall_s - before.wall_s > _GAP_S:
            parts.append([])
        x = 600 * (score.wall_s - begin) / max(end - begin, 1e-9)
        parts[-1].append(f"{x:.1f},{y(score.score):.1f}")
    lines = "".join(f'<polyline class="score" points="{" ".join(part)}"/>' for part in parts)
    line = ""
    if threshold is not None:
        line = f'<line class="threshold" x1="0" x2="600" y1="{y(threshold):.1f}" y2="{y(threshold):.1f}"/>'
    return (
        f'<svg class="line" viewBox="0 0 600 90" preserveAspectRatio="none" role="img" '
        f'aria-label="scores of the latest {end - begin:.0f} seconds">{line}{lines}</svg>'
    )


def _events(events: Sequence[tuple[int, Event]]) -> str:
    if not events:
        return '<p class="soft">None yet.</p>'
    rows = ""
    for row, event in events:
        tone = {"anomaly": "bad", "camera": "warn", "system": "warn"}[event.kind]
        picture = ""
        if event.evidence is not None and event.evidence.overlay:
            picture = (
                f'<a href="/events/{row}"><img src="/evidence/{escape(event.evidence.overlay)}" alt=""></a>'
            )
        rows += (
            f'<tr><td class=num><a href="/events/{row}">{_time(event.wall_s)}</a></td>'
            f"<td>{escape(event.camera)}</td>"
            f'<td><span class="badge {tone}">{event.kind} {event.phase}</span></td><td>{escape(event.reason)}'
            f"{' in ' + escape(event.zone) if event.zone else ''}</td>"
            f"<td class=num>{_number(event.score)}</td><td>{escape(event.message)}</td>"
            f"<td>{picture}</td></tr>"
        )
    return (
        "<table><tr><th>When</th><th>Camera</th><th>What</th><th>Reason</th><th>Score</th><th></th><th></th></tr>"
        f"{rows}</table>"
    )


def _notices(status: DaemonStatus) -> str:
    return "".join(f'<div class="notice">{escape(problem)}</div>' for problem in status.problems)


def _badge(state: str) -> str:
    return f'<span class="badge {_TONES.get(state, "soft")}">{escape(state)}</span>'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _time(wall_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall_s))
