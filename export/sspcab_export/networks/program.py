"""A network that is a program: ``torch.export`` (.pt2), TorchScript, or a whole module that was pickled.

Loading such a file runs what is in it, so it is loaded only where the user vouches for its very bytes, and
only in a child process, which never gets anything from here but pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from sspcab_edge.errors import CheckpointError, GraphError, HostError, OptionError
from sspcab_edge.manifest import OtherRounding
from sspcab_export.checkpoints.kinds import PROGRAM_NAMES, ProgramKind
from sspcab_export.networks.base import Expected
from sspcab_export.networks.wire import Ended, Message, receive, send

__all__ = ["ProgramNetwork", "load_program"]

MAX_BYTES = 4 * 1024**3
"""Largest program that is read, in bytes."""


class ProgramNetwork:
    """A program in a child process. The process ends with this object.

    Args:
        data: The program's bytes.
        kind: What they are.
        where: Its file.
        place: Dotted path of a pickled module in it; None for other kinds.

    Raises:
        HostError: The program cannot be loaded, or does not take one picture.
    """

    def __init__(self, data: bytes, kind: ProgramKind, where: str, place: str | None = None) -> None:
        self.where = where
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        environment = {
            **os.environ, "OMP_WAIT_POLICY": "PASSIVE", "ORT_DISABLE_TELEMETRY": "1", "PYTHONSAFEPATH": "1",
        }  # fmt: skip
        self._child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "sspcab_export.networks.program_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        self._close = weakref.finalize(self, _end, self._child, self._log)
        try:
            described = self._ask(Message({"do": "load", "kind": kind, "place": place}, blob=data)).head
        except HostError:
            self.close()
            raise
        sizes = [described.get(name) for name in ("channels", "height", "width", "batch")]
        known = [size if isinstance(size, int) and size > 0 else None for size in sizes]
        self.expected = Expected(known[0], known[1], known[2], known[3])

    def run(self, picture: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
        """(N, C, H, W) float32 -> what it gives, by name.

        Raises:
            HostError: It cannot be run on such pictures, or ended itself.
        """
        return self._ask(Message({"do": "run"}, {"picture": picture})).arrays

    def run_otherwise(
        self, pictures: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[list[Mapping[str, npt.NDArray[np.float32]]], OtherRounding]:
        """What :meth:`run` gives for each, in float64 where the program allows it.

        Raises:
            HostError: It cannot be run on such pictures, or ended itself.
        """
        answers = [self._ask(Message({"do": "run otherwise"}, {"picture": one})) for one in pictures]
        exact = all(answer.head.get("rounding") == "float64" for answer in answers)
        return [answer.arrays for answer in answers], "float64" if exact else "other-order"

    def graph(self, size: Sequence[int], batch: int | None) -> ir.Model:
        """The program as torch's exporter turns it into ONNX, in the child.

        Raises:
            GraphError: It cannot.
        """
        answer = self._ask(Message({"do": "graph", "size": list(size), "batch": batch}))
        try:
            return ir.serde.deserialize_model(onnx.load_model_from_string(answer.blob))
        except (DecodeError, ir.serde.SerdeError, ValueError, TypeError) as error:
            raise GraphError(f"{self.where}: its process gave no ONNX model: {error}") from error

    def close(self) -> None:
        """End the process; twice is fine."""
        self._close()

    def _ask(self, message: Message) -> Message:
        asked = str(message.head["do"])
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        if not self._close.alive:
            raise HostError(
                f"{self.where} ended its own process before, it cannot be asked any more ({asked})"
            )
        try:
            send(stdin, message)
            answer = receive(stdout)
        except Ended as error:
            said = self._last_words()
            self.close()
            raise HostError(f"{self.where} ended its own process ({asked}){said}") from error
        text = answer.head.get("error")
        if text is not None:
            kind = GraphError if asked == "graph" else HostError
            raise kind(f"{self.where}: {text}")
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5)
        self._log.seek(0)
        lines = self._log.read()[-4000:].decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else f", exit status {self._child.returncode}"


def _end(child: subprocess.Popen[bytes], log: Any) -> None:
    child.kill()
    child.wait()
    streams: list[Any] = [child.stdin, child.stdout, log]
    for stream in streams:
        with contextlib.suppress(OSError):
            stream.close()


def load_program(
    path: Path, kind: ProgramKind, trust: str | None, place: str | None = None
) -> ProgramNetwork:
    """Start a program that the user vouches for.

    Args:
        path: Its file.
        kind: As :func:`~sspcab_export.checkpoints.kinds.program_kind` tells, or ``module``.
        trust: ``sha256:`` and the digest of the file.
        place: Dotted path of a pickled module in it; None for other kinds.

    Raises:
        CheckpointError: No trust is given, or it is in other bytes; or the file is too large.
        OptionError: ``trust`` is no such digest.
        HostError: The program cannot be loaded.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {MAX_BYTES}")
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if trust is None:
        raise CheckpointError(
            f"{path} is a {PROGRAM_NAMES[kind]} program: loading it runs what is in it. Save the weights "
            "instead, torch.save(model.state_dict()), and give --factory; or, if you know where the file "
            f"comes from, vouch for it: --trust {digest}"
        )
    name, _, value = trust.partition(":")
    if name != "sha256" or len(value) != 64 or not set(value.lower()) <= set("0123456789abcdef"):
        raise OptionError(f"trust {trust!r} is not understood: expected sha256: and 64 hexadecimal digits")
    if trust.lower() != digest:
        raise CheckpointError(f"{path} has {digest}, expected {trust}: it is not the file you vouched for")
    return ProgramNetwork(data, kind, str(path), place)
