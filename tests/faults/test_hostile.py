"""Artifacts that were changed, and secrets that must not leak."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from definitions.fake_camera import FakeCamera
from definitions.running_daemon import RunningDaemon, wait_for
from sspcab_runtime.daemon.children import Child
from sspcab_runtime.daemon.messages import FromWorker, StartWorker, WorkerEnded, WorkerReady

_RIG = Path(__file__).parent / "rig" / "broken_engine"
_MODEL = "model.fp32.onnx"


def start_worker(bundle: Path, tmp_path: Path) -> WorkerReady | WorkerEnded:
    """What a worker says of a bundle in the end."""
    environment = {
        "PYTHONPATH": str(_RIG),
        "SSPCAB_TEST_FAULTS": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    child: Child[Any] = Child("sspcab_runtime.daemon.worker", FromWorker, environment)  # type: ignore[arg-type]
    try:
        child.wire.settimeout(30)
        child.send(
            StartWorker(
                bundle=str(bundle), backend=None, precision=None, threads=None, batch=1, memory_mb=512
            )
        )
        while True:
            message, _ = child.wire.receive()
            if isinstance(message, WorkerReady | WorkerEnded):
                return message
    finally:
        child.kill()
        child.wait(5)
        child.close()


def _truncate(model: Path, other: Path, chance: random.Random) -> None:
    model.write_bytes(model.read_bytes()[: chance.randrange(model.stat().st_size)])


def _flip(model: Path, other: Path, chance: random.Random) -> None:
    data = bytearray(model.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    model.write_bytes(bytes(data))


def _swap(model: Path, other: Path, chance: random.Random) -> None:
    shutil.copy(other, model)


def _nothing(model: Path, other: Path, chance: random.Random) -> None:
    model.write_bytes(b"")


def _folder(model: Path, other: Path, chance: random.Random) -> None:
    model.unlink()
    model.mkdir()


def _fifo(model: Path, other: Path, chance: random.Random) -> None:
    model.unlink()
    os.mkfifo(model)


def _device(model: Path, other: Path, chance: random.Random) -> None:
    model.unlink()
    model.symlink_to("/dev/zero")


def _link(model: Path, other: Path, chance: random.Random) -> None:
    copy = model.with_name("elsewhere.onnx")
    model.rename(copy)
    model.symlink_to(copy)


_CASES: list[Callable[[Path, Path, random.Random], None]] = [
    *[_truncate] * 3, *[_flip] * 3, _swap, _nothing, _folder, _fifo, _device, _link,
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(_CASES)))
def test_no_engine_sees_a_changed_file(bundle: Path, tmp_path: Path, number: int) -> None:
    """L1: refused by its hash, before any engine is made."""
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    other = tmp_path / "other.onnx"
    other.write_bytes((bundle / _MODEL).read_bytes() + b"\x00")
    _CASES[number](copy / _MODEL, other, random.Random(number))
    begin = time.monotonic()
    said = start_worker(copy, tmp_path)
    assert isinstance(said, WorkerEnded), said
    assert said.reason == "bundle"
    assert not (tmp_path / "opened").exists()
    assert time.monotonic() - begin < 10


def test_the_tripwire_works(bundle: Path, tmp_path: Path) -> None:
    said = start_worker(bundle, tmp_path)
    assert isinstance(said, WorkerReady)
    assert (tmp_path / "opened").exists()


SENTINEL = "s3ntinel/p@ss word"


def test_secrets_are_nowhere(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """N6: passwords in every field that takes one, everything failing, and 0 bytes of them anywhere."""
    (tmp_path / "secret").write_text(SENTINEL + "\n")
    (tmp_path / "secret").chmod(0o600)
    secret = f"file:{tmp_path / 'secret'}"
    text = toml.replace('bundle = "tiny"\n', f'bundle = "tiny"\nuser = "me"\npassword = "{secret}"\n')
    text += f"""
[cameras.two]
source = "rtsp://127.0.0.1:9/x"
bundle = "tiny"
user = "me"
password = "{secret}"
[sinks.broker]
kind = "mqtt"
host = "127.0.0.1"
port = 9
user = "me"
password = "{secret}"
[sinks.hook]
kind = "webhook"
url = "http://127.0.0.1:9/x"
token = "{secret}"
"""
    with RunningDaemon(tmp_path, text) as daemon:
        wait_for(daemon.answers, 15, "a page")
        wait_for(lambda: daemon.camera()["scored"] > 3, 15, "scored")
        camera.mode = "401"
        wait_for(lambda: len(daemon.events()) > 0, 10, "events")
        time.sleep(1)
        token = daemon.token
        places = {path: daemon.request(path)[1].decode("utf-8", "replace") for path in
                  ("/", "/cameras/one", "/cameras/two", "/events", "/health", "/metrics", "/api/status",
                   "/api/events")}  # fmt: skip
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                places[str(process)] = process.read_text(errors="replace")
            except OSError:
                continue
        daemon.stop()
        places["log"] = daemon.log
    for place, content in places.items():
        assert "s3ntinel" not in content, place
        assert token not in content, place
    assert "127.0.0.1:9" in places["log"]


def test_every_cut_and_every_bit(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 in one process: 64 lengths and 1,000 flipped bits, and ONNX Runtime is never asked."""
    import onnxruntime

    from sspcab_edge.bundle import Bundle
    from sspcab_edge.errors import BundleError
    from sspcab_runtime.opening import open_first, wanted_settings

    asked: list[object] = []
    real = onnxruntime.InferenceSession

    def session(*arguments: object, **options: object) -> object:
        asked.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    whole, model = (bundle / _MODEL).read_bytes(), copy / _MODEL

    def start() -> None:
        opened = Bundle.open(copy)
        for engine in open_first(opened, wanted_settings(opened.manifest.artifacts), fallback=False)[1]:
            engine.close()

    start()
    assert len(asked) == 1
    chance = random.Random(11)
    lengths = [round(part * (len(whole) - 1) / 63) for part in range(64)]
    flips = [(chance.randrange(len(whole)), chance.randrange(8)) for _ in range(1000)]
    for length in lengths:
        model.write_bytes(whole[:length])
        with pytest.raises(BundleError):
            start()
    for at, bit in flips:
        model.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(BundleError):
            start()
    assert len(asked) == 1
    print(f"{len(lengths)} lengths and {len(flips)} flips refused")
