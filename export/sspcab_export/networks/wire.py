"""Messages between the exporter and the child process that runs a program: JSON, float32 arrays, bytes.

Nothing here can carry code: the child is not trusted, whatever it answers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import numpy.typing as npt

__all__ = ["Ended", "Message", "receive", "send"]

_LENGTH = struct.Struct("<QQ")
_MAX_HEAD = 1 << 20
_MAX_BODY = 8 << 30


class Ended(Exception):
    """The other side is gone, or does not keep to the form."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is said at once.

    Attributes:
        head: Plain values.
        arrays: float32, by name.
        blob: Bytes.
    """

    head: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    blob: bytes = b""


def send(stream: IO[bytes], message: Message) -> None:
    """Write a message.

    Raises:
        Ended: Nobody reads any more.
    """
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in message.arrays.items()}
    shapes = [[name, list(array.shape)] for name, array in arrays.items()]
    head = json.dumps({"head": dict(message.head), "arrays": shapes}).encode()
    body = sum(array.nbytes for array in arrays.values()) + len(message.blob)
    try:
        stream.write(_LENGTH.pack(len(head), body) + head)
        for array in arrays.values():
            stream.write(array.data)
        stream.write(message.blob)
        stream.flush()
    except (BrokenPipeError, ValueError) as error:
        raise Ended from error


def receive(stream: IO[bytes]) -> Message:
    """Read a message.

    Raises:
        Ended: The stream ends, or holds something else.
    """
    head_size, body_size = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if head_size > _MAX_HEAD or body_size > _MAX_BODY:
        raise Ended
    try:
        return _parsed(stream, _exactly(stream, head_size), body_size)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise Ended from error


def _parsed(stream: IO[bytes], text: bytes, left: int) -> Message:
    parsed = json.loads(text)
    shapes = [(str(name), tuple(int(size) for size in shape)) for name, shape in parsed["arrays"]]
    head = dict(parsed["head"])
    arrays = {}
    for name, shape in shapes:
        size = 4 * math.prod(shape)
        if min(shape, default=0) < 0 or size > left:
            raise Ended
        arrays[name] = np.frombuffer(_exactly(stream, size), np.float32).reshape(shape)
        left -= size
    return Message(head, arrays, _exactly(stream, left))


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if data is None or len(data) != size:
        raise Ended
    return bytes(data)
