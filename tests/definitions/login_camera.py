"""A camera that wants a login, by the definitions of RFC 7616 and RFC 7617: MJPEG over HTTP on loopback."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import urllib.parse
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["LoginCamera"]

_FUNCTIONS = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


class LoginCamera:
    """Serves ``body`` to who logs in.

    Args:
        challenges: Its ``WWW-Authenticate`` headers; each ``NONCE`` in them becomes the valid nonce.
        user: Also ``password``: who may see it.
        body: What it serves, as ``multipart/x-mixed-replace``.

    Attributes:
        logins: The ``Authorization`` header of each request, None without one.
        stale: How many right answers are called stale, with a new nonce.
    """

    def __init__(self, challenges: Sequence[str], user: str, password: str, body: bytes) -> None:
        self.logins: list[str | None] = []
        self.stale, self.nonce = 0, "one"
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization")
                camera.logins.append(given)
                fine = given is not None and camera._fine(given, self.path)
                old = fine and camera.stale > 0
                if fine and not old:
                    self.send_response(200)
                    self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
                    self.end_headers()
                    self.wfile.write(body)
                    return
                if old:
                    camera.stale -= 1
                    camera.nonce += "+"
                self.send_response(401)
                for challenge in challenges:
                    stale = ", stale=true" if old and challenge.startswith("Digest") else ""
                    self.send_header("WWW-Authenticate", challenge.replace("NONCE", camera.nonce) + stale)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                del arguments

        self._user, self._password = user, password
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}/video?channel=1"

    def close(self) -> None:
        """It is gone."""
        self._server.shutdown()
        self._server.server_close()

    def _fine(self, given: str, target: str) -> bool:
        if given.startswith("Basic "):
            return base64.b64decode(given[6:]) == f"{self._user}:{self._password}".encode()
        found = re.findall(r"([a-z]+\*?)=(?:\"((?:[^\"\\]|\\.)*)\"|([^ ,]+))", given)
        values = {name: re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in found}
        algorithm = values.get("algorithm", "MD5")
        function = _FUNCTIONS[algorithm.upper().removesuffix("-SESS")]

        def digest(*parts: str) -> str:
            return hashlib.new(function, ":".join(parts).encode()).hexdigest()

        user = values.get("username", "").encode("latin-1").decode()
        if "username*" in values:
            user = urllib.parse.unquote(values["username*"].removeprefix("UTF-8''"))
        expected = digest(self._user, values["realm"]) if values.get("userhash") == "true" else self._user
        first = digest(self._user, values["realm"], self._password)
        if algorithm.lower().endswith("-sess"):
            first = digest(first, values["nonce"], values["cnonce"])
        second = digest("GET", values["uri"], *([digest("")] if values.get("qop") == "auth-int" else []))
        middle = [values[name] for name in ("nc", "cnonce", "qop")] if "qop" in values else []
        response = digest(first, values["nonce"], *middle, second)
        return (values["response"], values["nonce"], values["uri"], user) == (
            response, self.nonce, target, expected,
        )  # fmt: skip
