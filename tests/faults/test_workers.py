"""Workers that are killed, hang and lie."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from definitions.fake_camera import FakeCamera
from definitions.running_daemon import RunningDaemon, wait_for


def test_killed_again_and_again(tmp_path: Path, toml: str, scale: int) -> None:
    """I1: another worker serves within 2 s of each kill."""
    with RunningDaemon(tmp_path, toml.replace("infer_s = 1.0", "infer_s = 5.0")) as daemon:
        daemon.wait_ready()
        slowest = 0.0
        for _ in range(5 * scale):
            worker = daemon.worker()
            assert worker["pid"], (worker, daemon.log)
            os.kill(worker["pid"], signal.SIGKILL)
            scored = daemon.camera()["scored"]

            def again(before: int = scored, old: int = worker["pid"]) -> bool:
                return daemon.worker()["pid"] not in (old, None) and daemon.camera()["scored"] > before

            try:
                slowest = max(slowest, wait_for(again, 10, "serving again"))
            except AssertionError:
                print(daemon.log, daemon.status())
                raise
            time.sleep(3.2)
        print(f"slowest of {5 * scale}: {slowest:.2f} s from kill to verdict")
        daemon.stop()


def test_a_worker_that_hangs(tmp_path: Path, toml: str) -> None:
    """I2: found by its deadline and replaced; not ready in between."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        old = daemon.worker()["pid"]
        os.kill(old, signal.SIGSTOP)
        daemon.fault("hang", "")  # the next worker is not there before somebody looked
        found_s = wait_for(lambda: daemon.worker()["state"] != "ready", 3, "found")
        assert daemon.request("/readyz")[0] == 503
        daemon.fault("hang", None)
        wait_for(
            lambda: daemon.worker()["state"] == "ready" and daemon.worker()["pid"] != old, 10, "replaced"
        )
        print(f"found after {found_s:.1f} s")
        wait_for(lambda: not Path(f"/proc/{old}").exists(), 2, "reaped")
        daemon.stop()


def test_a_short_outage_is_seen(tmp_path: Path, toml: str) -> None:
    """A worker that is replaced at once: who asks meanwhile is told that it is not ready."""
    with RunningDaemon(tmp_path, toml.replace("infer_s = 1.0", "infer_s = 5.0")) as daemon:
        daemon.wait_ready()
        asked: list[tuple[float, int, float]] = []

        def again(old: int) -> bool:
            begin = time.monotonic()
            asked.append((begin, daemon.request("/readyz")[0], time.monotonic()))
            return daemon.worker()["pid"] not in (old, None) and daemon.worker()["state"] == "ready"

        daemon.fault("slow", "0.05")
        for _ in range(3):
            old = daemon.worker()["pid"]
            os.kill(old, signal.SIGKILL)
            wait_for(partial(again, old), 20, "serving again")
            time.sleep(3.2)
        events = [event for event in daemon.events() if event["reason"] == "killed"]
        opened, closed = (
            [event["monotonic_s"] for event in events if event["phase"] == phase]
            for phase in ("opened", "closed")
        )
        assert len(opened) == len(closed) == 3
        outages = list(zip(opened, closed, strict=True))
        meanwhile = [
            code
            for begin, code, end in asked
            if any(since + 0.1 < begin and end < until for since, until in outages)
        ]
        assert meanwhile
        assert set(meanwhile) == {503}
        daemon.stop()


def test_wrong_answers(tmp_path: Path, toml: str) -> None:
    """I3: a replay finds them; nothing is published from then on until another worker is proved."""
    with RunningDaemon(tmp_path, toml.replace("threshold = 10.0", "threshold = 1.5")) as daemon:
        daemon.wait_ready()
        daemon.fault("shift", "0.25")
        found_s = wait_for(lambda: not daemon.status()["ready"], 1.0 + 1.5, "found")
        scored, events = daemon.camera()["scored"], len(daemon.events())
        daemon.fault("shift", "5")  # had it been published, it would be an alarm
        time.sleep(4)
        assert daemon.camera()["scored"] == scored
        anomalies = [event for event in daemon.events()[events:] if event["kind"] == "anomaly"]
        assert anomalies == []
        daemon.fault("shift", None)
        wait_for(lambda: daemon.camera()["scored"] > scored, 40, "scored again")
        print(f"found after {found_s:.1f} s, replays every 1 s")
        daemon.stop()


def test_a_new_bundle_takes_over(tmp_path: Path, toml: str) -> None:
    """SIGHUP: another worker proves itself beside the old one, then serves; a bad bundle changes nothing."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        old = daemon.worker()["pid"]
        os.kill(daemon.pid, signal.SIGHUP)
        wait_for(lambda: daemon.worker()["pid"] != old, 15, "another worker")
        assert daemon.worker()["state"] == "ready"
        daemon.stop()


def test_a_failed_swap_leaves_the_old_one(
    tmp_path: Path, toml: str, bundle: Path, camera: FakeCamera
) -> None:
    """A damaged bundle never reaches an engine, and the old worker goes on."""
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    with RunningDaemon(tmp_path, toml.replace(str(bundle), str(copy))) as daemon:
        daemon.wait_ready()
        old = daemon.worker()["pid"]
        model = copy / "model.fp32.onnx"
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(bytes(data))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_for(lambda: any(event["reason"] == "swap" for event in daemon.events()), 15, "an event")
        assert daemon.worker()["pid"] == old
        assert daemon.status()["ready"]
        scored = daemon.camera()["scored"]
        wait_for(lambda: daemon.camera()["scored"] > scored, 2, "still scoring")
        daemon.stop()
