"""What can be told of a camera's source before it is connected to: files, device nodes, pipelines."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.camera_address import CameraAddress
from sspcab_runtime.sources.gst import csi_pipeline
from sspcab_runtime.sources.live import open_stream
from sspcab_runtime.sources.streams import StreamOptions

__all__ = ["look_at"]

_INSPECT: Final = "gst-inspect-1.0"
_INSPECT_S: Final = 60.0
_CAPS: Final = re.compile(r"[A-Za-z]+/[A-Za-z0-9.+-]+")
_ELEMENT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def look_at(address: CameraAddress, options: StreamOptions) -> str:
    """What a source is, in words; nothing is connected to, and no camera is opened.

    A file is opened and its first frame decoded. A device has to be there and readable. Of a pipeline, every
    element has to be installed.

    Raises:
        SourceError: It is not there, or not what the daemon can read.
        MissingPackageError: It is a video, and PyAV is not installed.
    """
    if address.scheme == "file":
        return _look_at_file(address, options)
    if address.scheme == "v4l2":
        return _look_at_device(Path(address.device))
    if address.scheme == "csi":
        return _look_at_pipeline(csi_pipeline(address.sensor, options))
    if address.scheme == "gst":
        return _look_at_pipeline(address.pipeline)
    return "a camera in the network, which is not connected to here"


def _look_at_file(address: CameraAddress, options: StreamOptions) -> str:
    stream = open_stream(address, options)
    try:
        frame = next(iter(stream))
        fps = f", {stream.fps:g} frames/s" if stream.fps else ""
        return f"a video, {stream.codec} {frame.width}x{frame.height}{fps}"
    finally:
        stream.close()


def _look_at_device(device: Path) -> str:
    try:
        mode = device.stat().st_mode
    except OSError as error:
        raise SourceError(f"{device} cannot be read: {error.strerror}; is the camera plugged in?") from error
    if not stat.S_ISCHR(mode):
        raise SourceError(f"{device} is no device")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(
            f"{device} may not be opened by this user: add it to the group of the device (video)"
        )
    return "a device that is there"


def _look_at_pipeline(words: Sequence[str]) -> str:
    for program in ("gst-launch-1.0", _INSPECT):
        if shutil.which(program) is None:
            raise SourceError(f"{program} is not installed: apt-get install gstreamer1.0-tools")
    parts = enumerate(_parts(words), start=1)
    elements = [element for number, part in parts if (element := _element(number, part)) is not None]
    for element in dict.fromkeys(elements):
        if not _is_installed(element):
            raise SourceError(f"GStreamer has no element {element!r}: install the plug-in that holds it")
    return f"a pipeline of elements that are installed: {' ! '.join(elements)}"


def _parts(words: Sequence[str]) -> list[list[str]]:
    """What stands between the links of a pipeline."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "!":
            parts.append([])
        else:
            parts[-1].append(word)
    if not all(parts):
        raise SourceError("a pipeline has nothing before, between or behind two links (!)")
    return parts


def _element(number: int, part: Sequence[str]) -> str | None:
    """The element that a part begins with; None for caps and for what refers to an element by its name.

    What stands there instead is not shown: it might hold a password.
    """
    first = part[0]
    if _CAPS.match(first) or first.endswith("."):
        return None
    if _ELEMENT.fullmatch(first) is None:
        raise SourceError(
            f"part {number} of a pipeline does not begin with an element, as in fakesrc ! queue"
        )
    return first


def _is_installed(element: str) -> bool:
    try:
        done = subprocess.run(
            [_INSPECT, "--exists", element], capture_output=True, timeout=_INSPECT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{_INSPECT} gave no answer within {_INSPECT_S:g} s") from error
    return done.returncode == 0
