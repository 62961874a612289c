"""Whether a backend really runs here, found out in a process of its own.

A library that is installed may still not load, or die of an instruction that the CPU lacks; the process that
asks survives that. ``python -m sspcab_runtime.engines.probe BACKEND`` prints one line of JSON.
"""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from sspcab_edge.errors import EdgeError, EngineError
from sspcab_edge.ports import Port
from sspcab_runtime.engines.table import ENGINES, load_engine

__all__ = ["TINY_ONNX", "Probe", "probe"]

TINY_ONNX = base64.b64decode(
    "CAgSADqWAQocCgZmcmFtZXMSAXgiBENhc3QqCQoCdG8YAaABAgo3CgF4EgVzY29yZSIJUmVkdWNlTWF4Kg8KBGF4ZXNAAUACQAOg"
    "AQcqDwoIa2VlcGRpbXMYAKABAhIEdGlueVohCgZmcmFtZXMSFwoVCAISEQoDEgFOCgIIAgoCCAIKAggDYhQKBXNjb3JlEgsKCQgB"
    "EgUKAxIBTkIECgAQEQ=="
)
"""A graph of contract 1 in little: frames uint8 (N, 2, 2, 3) -> Cast -> ReduceMax -> score float32 (N,).
tests/runtime/test_doctor.py makes it anew."""

_INPUTS = (Port(name="frames", dtype="uint8", shape=("N", 2, 2, 3), layout="NHWC", colour="RGB"),)
_OUTPUTS = (Port(name="score", dtype="float32", shape=("N",), layout="N"),)
_TIMEOUT_S = {"tensorrt": 600.0}
"""Seconds that a backend may take; 60 where it is not listed. TensorRT builds a plan first."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: the version that ran, or why it did not."""

    version: str | None = None
    error: str | None = None


def probe(backend: str, *, timeout_s: float | None = None) -> Probe:
    """Run a tiny graph on a backend, in another process; ``timeout_s`` None is what the backend needs.

    The outcome, whatever it is, is told by the result; nothing is raised.
    """
    timeout_s = _TIMEOUT_S.get(backend, 60.0) if timeout_s is None else timeout_s
    command = [sys.executable, "-m", "sspcab_runtime.engines.probe", backend]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Probe(error=f"it hung for {timeout_s:.0f} s")
    except OSError as error:
        return Probe(error=f"it could not be started: {error.strerror}")
    if done.returncode < 0:
        return Probe(error=f"it died of {signal.Signals(-done.returncode).name}")
    try:
        return msgspec.json.decode(done.stdout, type=Probe)
    except (msgspec.DecodeError, UnicodeDecodeError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return Probe(error=f"it failed: {last[0]}")


def _run(backend: str) -> Probe:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.onnx"
        path.write_bytes(TINY_ONNX)
        with load_engine(backend, path, _INPUTS, _OUTPUTS) as engine:
            scores = engine.infer({"frames": frames})["score"].tolist()
            if scores != [11.0, 23.0]:
                raise EngineError(f"{backend} computes {scores}, expected [11.0, 23.0]")
            return Probe(version=engine.version)


def _main(backend: str) -> None:
    try:
        found = _run(backend)
    except EdgeError as error:
        found = Probe(error=str(error))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ENGINES:
        sys.exit(f"usage: python -m sspcab_runtime.engines.probe {'|'.join(ENGINES)}")
    _main(sys.argv[1])
