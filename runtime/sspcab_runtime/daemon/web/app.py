"""Routes: who asks, what for, and the answer."""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sspcab_runtime.daemon.parts import PartDecision, Trigger
from sspcab_runtime.daemon.status import Observed
from sspcab_runtime.daemon.web import pages
from sspcab_runtime.daemon.web.auth import COOKIE, Guard
from sspcab_runtime.daemon.web.metrics import render_metrics

__all__ = ["make_app"]

_MOST_BODY = 65536
_BODY_S = 10.0
_OPEN = ("/healthz", "/login", "/static/style.css", "/static/refresh.js")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "webm": "video/webm",
}
_MOST_PART = 128
_LONGEST_S = 60.0


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What triggers a part."""

    part: str
    deadline_ms: float | None = None


class _Again(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sent again: of one sink or all, from one Unix time to another."""

    sink: str | None = None
    since_s: float | None = None
    until_s: float | None = None


def make_app(
    observed: Observed, guard: Guard, hosts: frozenset[str], *, tls: bool, deadlines: dict[str, float]
) -> ASGIApp:
    """The application.

    Args:
        observed: The daemon.
        guard: Who may come in.
        hosts: Names that this is called by.
        tls: Whether cookies travel over TLS only.
        deadlines: Default seconds for a part, by triggered camera.
    """

    async def cameras(request: Request) -> Response:
        status = observed.status()
        scores = {camera.name: observed.scores(camera.name) for camera in status.cameras}
        shown = {camera.name: observed.shown(camera.name) for camera in status.cameras}
        return _page(request, "Cameras", pages.cameras_page(status, shown, scores), status)

    async def camera(request: Request) -> Response:
        status = observed.status()
        name = request.path_params["name"]
        found = next((one for one in status.cameras if one.name == name), None)
        if found is None:
            return _none()
        events = await run_in_threadpool(observed.events, 20, None, name)
        page = pages.camera_page(found, observed.shown(name), observed.scores(name), events)
        return _page(request, name, page, status)

    async def events(request: Request) -> Response:
        found = await run_in_threadpool(observed.events, *_paging(request))
        page = pages.events_page(found, request.query_params.get("camera"))
        return _page(request, "Events", page, observed.status(), live="before" not in request.query_params)

    async def event(request: Request) -> Response:
        row = request.path_params["row"]
        found = await run_in_threadpool(observed.events, 1, row + 1, None) if row < 2**62 else []
        if not found or found[0][0] != row:
            return _none()
        return _page(request, f"Event {row}", pages.event_page(*found[0]), observed.status(), live=False)

    async def health(request: Request) -> Response:
        status = observed.status()
        return _page(request, "Health", pages.health_page(status), status)

    async def picture(request: Request) -> Response:
        number = request.query_params.get("number", "")
        wanted = int(number) if number.isdecimal() and len(number) < 19 else None
        try:
            data = await run_in_threadpool(observed.picture, request.path_params["name"], wanted)
        except KeyError:
            return _none()
        return _none() if data is None else Response(data, media_type="image/jpeg")

    async def evidence(request: Request) -> Response:
        path = request.path_params["path"]
        data = await run_in_threadpool(observed.evidence, path)
        if data is None:
            return _none()
        return Response(data, media_type=_TYPES.get(path.rpartition(".")[2], "application/octet-stream"))

    async def login(request: Request) -> Response:
        if request.method == "GET":
            return HTMLResponse(pages.login_page(wrong=False))
        body = await _read(request)
        given = parse_qs((body or b"").decode("utf-8", "replace")).get("token", [""])[0]
        scope = guard.by_token(given.strip())
        if scope is None:
            guard.count_wrong(_address(request.scope))
            return HTMLResponse(pages.login_page(wrong=True), 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, guard.session(scope), max_age=43200, httponly=True, samesite="strict", secure=tls
        )
        return answer

    async def static(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        data = files("sspcab_runtime.daemon.web").joinpath(name).read_bytes()
        return Response(data, media_type=_TYPES[name.rpartition(".")[2]])

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok") if observed.alive() else PlainTextResponse("stuck", 503)

    async def readyz(request: Request) -> Response:
        status = observed.status()
        return _json(
            {"schema": 1, "ready": status.ready, "state": status.state, "problems": status.problems},
            200 if status.ready else 503,
        )

    async def metrics(request: Request) -> Response:
        return Response(render_metrics(observed), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def api_status(request: Request) -> Response:
        return _json(observed.status())

    async def api_cameras(request: Request) -> Response:
        return _json({"schema": 1, "cameras": observed.status().cameras})

    async def api_scores(request: Request) -> Response:
        try:
            return _json({"schema": 1, "scores": list(observed.scores(request.path_params["name"]))})
        except KeyError:
            return _none()

    async def api_events(request: Request) -> Response:
        found = await run_in_threadpool(observed.events, *_paging(request))
        return _json({"schema": 1, "events": [{"row": row, "event": one} for row, one in found]})

    async def api_parts(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in deadlines:
            return _none()
        received_s = time.monotonic()
        body = await _read(request)
        if body is None:
            return _error(413, f"a body has at most {_MOST_BODY} bytes and arrives within {_BODY_S:g} s")
        try:
            asked = msgspec.json.decode(body, type=_Body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _error(400, f'expected {{"part": "..."}}: {error}')
        within_s = deadlines[name] if asked.deadline_ms is None else asked.deadline_ms / 1e3
        if not (asked.part.isprintable() and 0 < len(asked.part) <= _MOST_PART):
            return _error(400, f"a part's name has 1 to {_MOST_PART} printable characters")
        if not 0 < within_s <= _LONGEST_S:
            return _error(400, f"a deadline is more than 0 and at most {_LONGEST_S * 1e3:g} ms")
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[PartDecision] = loop.create_future()

        def settle(decision: PartDecision) -> None:
            if not decided.done():
                decided.set_result(decision)

        def answer(decision: PartDecision) -> None:
            loop.call_soon_threadsafe(settle, decision)

        observed.trigger(
            Trigger(camera=name, part=asked.part, received_s=received_s, deadline_s=received_s + within_s),
            answer,
        )
        try:
            decision = await asyncio.wait_for(decided, within_s + 5)
        except asyncio.TimeoutError:
            return _error(503, "the daemon does not answer")
        return _json({"schema": 1, **msgspec.to_builtins(decision)})

    async def api_redeliver(request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return _error(413, f"a body has at most {_MOST_BODY} bytes and arrives within {_BODY_S:g} s")
        try:
            asked = msgspec.json.decode(body or b"{}", type=_Again)
            again = await run_in_threadpool(observed.redeliver, asked.sink, asked.since_s, asked.until_s)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _error(400, f"expected sink, since_s, until_s, or none of them: {error}")
        except KeyError:
            return _none()
        if again is None:
            return _error(503, "storage does not answer")
        return _json({"schema": 1, "events": again})

    routes = [
        Route("/", cameras), Route("/cameras/{name}", camera), Route("/events", events),
        Route("/events/{row:int}", event), Route("/health", health), Route("/picture/{name}.jpg", picture),
        Route("/evidence/{path:path}", evidence), Route("/login", login, methods=["GET", "POST"]),
        Route("/static/style.css", static), Route("/static/refresh.js", static), Route("/healthz", healthz),
        Route("/readyz", readyz), Route("/metrics", metrics), Route("/api/status", api_status),
        Route("/api/cameras", api_cameras), Route("/api/cameras/{name}/scores", api_scores),
        Route("/api/events", api_events), Route("/api/cameras/{name}/parts", api_parts, methods=["POST"]),
        Route("/api/redeliver", api_redeliver, methods=["POST"]),
    ]  # fmt: skip
    return _Door(Starlette(routes=routes), guard, hosts)


class _Door:
    """Lets in who may: host, token or session, scope, and where a form comes from."""

    def __init__(self, app: ASGIApp, guard: Guard, hosts: frozenset[str]) -> None:
        self._app, self._guard, self._hosts = app, guard, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refuse(Request(scope))

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        await (self._app if refused is None else refused)(scope, receive, with_headers)

    def _refuse(self, request: Request) -> Response | None:
        headers, path, address = request.headers, request.url.path, _address(request.scope)
        if headers.get("host", "").lower() not in self._hosts:
            return _error(421, "this is called by another name")
        if path == "/healthz":
            return None
        if self._guard.locked(address):
            return _error(429, "too many wrong tokens: wait a minute")
        if path in _OPEN:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        cookie = request.cookies.get(COOKIE)
        if token:
            allowed = self._guard.by_token(token.strip()) if kind.lower() == "bearer" else None
            if allowed is None:
                self._guard.count_wrong(address)
        else:
            allowed = self._guard.by_session(cookie) if cookie else None
        if allowed is None:
            if "text/html" in headers.get("accept", "") and request.method == "GET":
                return RedirectResponse("/login", 303) if not token else _error(401, "the token is wrong")
            return _error(401, "a token is needed: Authorization: Bearer TOKEN")
        if request.method not in ("GET", "HEAD"):
            if allowed != "control":
                return _error(403, "this token only lets read")
            if not token and headers.get("origin", "") not in {
                f"{request.url.scheme}://{host}" for host in self._hosts
            }:
                return _error(403, "a form of another site")
        return None


def _page(request: Request, title: str, main: str, status: Any, *, live: bool = True) -> Response:
    if request.headers.get("x-part") == "main":
        return HTMLResponse(pages.badge(status) + main)
    return HTMLResponse(pages.frame(title, main, status, live=live))


def _paging(request: Request) -> tuple[int, int | None, str | None]:
    given = request.query_params
    limit, before = given.get("limit", "50"), given.get("before", "")
    most = min(500, int(limit)) if limit.isdecimal() and len(limit) < 6 else 50
    return most, int(before) if before.isdecimal() and len(before) < 19 else None, given.get("camera")


async def _read(request: Request) -> bytes | None:
    """The body; None where it is too large or too slow."""
    body = b""

    async def take() -> bytes | None:
        nonlocal body
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY:
                return None
        return body

    try:
        return await asyncio.wait_for(take(), _BODY_S)
    except asyncio.TimeoutError:
        return None


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("?",))[0])


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"schema": 1, "error": message}, status)


def _none() -> Response:
    return _error(404, "there is no such thing")
