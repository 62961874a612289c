"""Where a camera is: the one place that decides which addresses are allowed.

What is not named here is refused: FFmpeg and GStreamer would otherwise open files, sockets and programs by
names that look like addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from sspcab_edge.errors import OptionError
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import printable
from sspcab_edge.shown_address import may_hold_login, shown_address

__all__ = ["HOST", "SCHEMES", "CameraAddress", "camera_address"]

SCHEMES = ("rtsp", "rtsps", "http", "https", "file", "v4l2", "csi", "gst")

_DEVICE = re.compile(r"/dev/video[0-9]{1,3}")
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f:.]{2,45}")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")


@dataclass(frozen=True, slots=True)
class CameraAddress:
    """An address that may be opened.

    Attributes:
        scheme: What opens it.
        display: The address, safe to show: it holds no secret.
        host: Of a network camera. Also ``port`` (None: the scheme's own) and ``path`` with its query.
        file: Of ``file``, resolved.
        device: Of ``v4l2``.
        sensor: Of ``csi``.
        pipeline: Of ``gst``, as its words.
    """

    scheme: Literal["rtsp", "rtsps", "http", "https", "file", "v4l2", "csi", "gst"]
    display: str
    host: str = ""
    port: int | None = None
    path: str = ""
    file: Path | None = None
    device: str = ""
    sensor: int = 0
    pipeline: tuple[str, ...] = ()


def camera_address(
    source: str, files: Path | None = None, login: str = "user = and password = beside it"
) -> CameraAddress:
    """Check the address of a camera.

    Args:
        source: As in ``[cameras.NAME] source``.
        files: Folder below which files may lie; None allows any.
        login: How a user and a password are given, for the message that refuses those in an address.

    Raises:
        OptionError: It is of no kind that is allowed; the text never shows what might be a password.
    """
    if not source or any(ord(letter) < 32 or ord(letter) == 127 for letter in source) or len(source) > 4096:
        raise OptionError("a camera's source is empty, too long or has control characters")
    found = _SCHEME.match(source)
    scheme = found.group(1).lower() if found else "file"
    if found and scheme == "gst":
        return _gst(source)
    if found and (scheme not in SCHEMES or found.group(2) is None):
        raise OptionError(f"a camera cannot be {scheme}: expected one of {', '.join(SCHEMES)}, or a path")
    if scheme == "file":
        return _file(source, files)
    if scheme == "v4l2":
        device = source.split("://", 1)[1]
        if _DEVICE.fullmatch(device) is None:
            raise OptionError("a V4L2 camera is v4l2:///dev/videoN")
        return CameraAddress("v4l2", source, device=device)
    if scheme == "csi":
        sensor = source.split("://", 1)[1]
        if re.fullmatch(r"[0-9]{1,2}", sensor) is None:
            raise OptionError("a CSI camera is csi://N, with the number of its sensor")
        return CameraAddress("csi", source, sensor=int(sensor))
    return _network(source, scheme, login)


def _network(source: str, scheme: str, login: str) -> CameraAddress:
    if may_hold_login(source) or "\\" in source:
        raise OptionError(
            f"a {scheme} camera's source holds a user, an @ or a backslash: write {login}, @ of a path as %40"
        )
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError:  # its text may hold a part of a password
        raise OptionError(
            f"a {scheme} camera's source is no URL: expected {scheme}://HOST[:PORT]/PATH"
        ) from None
    host = parts.hostname or ""
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if HOST.fullmatch(host) is None or _PATH.fullmatch(path) is None or parts.fragment or port == 0:
        raise OptionError(
            f"a {scheme} camera's source is {scheme}://HOST[:PORT]/PATH of plain characters (others as %XX)"
        )
    shown = f"[{host}]" if ":" in host else host
    display = f"{scheme}://{shown}{'' if port is None else f':{port}'}{path}"
    return CameraAddress(scheme, shown_address(display), host=host, port=port, path=path or "/")  # type: ignore[arg-type]


def _file(source: str, files: Path | None) -> CameraAddress:
    if source.startswith(("-", "|")) or "\\" in source:
        raise OptionError("a camera's file begins with '-' or '|', or has a backslash")
    name = local_path(source)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in str(name)):
        raise OptionError("a camera's file has control characters in its name")
    path = (name if files is None else files / name).resolve()
    if files is not None and not path.is_relative_to(files.resolve()):
        raise OptionError(f"{printable(name)} lies outside of {files}, where the files of cameras are")
    return CameraAddress("file", shown_address(printable(path)), file=path)


def _gst(source: str) -> CameraAddress:
    import shlex

    try:
        words = tuple(shlex.split(source[len("gst:") :]))
    except ValueError as error:
        raise OptionError(f"a GStreamer pipeline cannot be read: {error}") from error
    if not words or words[0].startswith("-"):
        raise OptionError("a GStreamer camera is gst:ELEMENT ! ELEMENT ..., and begins with an element")
    if any(word.split("=")[0].strip() in ("fdsink", "filesink", "shmsink") for word in words):
        raise OptionError("a GStreamer camera ends without a sink: frames are taken by the daemon")
    return CameraAddress("gst", shown_address(source), pipeline=words)
