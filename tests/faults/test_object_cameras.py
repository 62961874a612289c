"""A camera whose objects are judged beside one that is judged whole: C1, C7 and I1 of the fault matrix."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from definitions.fake_camera import FakeCamera, noisy_scene
from definitions.running_daemon import RunningDaemon, wait_for
from definitions.tiny_objects import make_object_bundle

HIGH, WIDE = 144, 192
Pixels = npt.NDArray[np.uint8]


def passing(height: int = HIGH, width: int = WIDE) -> Callable[[int], Pixels]:
    """A still scene in which a bright square walks to and fro."""
    still = noisy_scene(height, width)
    side = height // 6

    def frame(number: int) -> Pixels:
        picture = still(number).copy()
        place = abs((number * 5) % (2 * (width - side)) - (width - side))
        patch = np.random.default_rng(1).integers(170, 256, (side, side, 3), dtype=np.uint8)
        picture[height // 2 : height // 2 + side, place : place + side] = cv2.blur(patch, (3, 3))
        return picture

    return frame


@pytest.fixture
def objects() -> Iterator[FakeCamera]:
    made = FakeCamera(passing(), fps=15)
    yield made
    made.kill()


@pytest.fixture
def both(tmp_path: Path, toml: str, objects: FakeCamera) -> str:
    """The configuration of the whole-frame camera, and one of objects besides."""
    bundle = make_object_bundle(tmp_path / "objects", height=HIGH, width=WIDE)
    return (
        toml
        + f"""
[bundles.objects]
path = "{bundle.path}"
infer_s = 1.0
replay_s = 1.0
[cameras.two]
source = "{objects.uri}"
bundle = "objects"
read_s = 2.0
open_s = 2.0
[cameras.two.integrity]
stall_s = 2.0
frozen_s = 0
[cameras.two.alarm]
threshold = 10.0
cool_down_s = 0.0
needed = 1
of = 1
"""
    )


def workers(daemon: RunningDaemon) -> dict[str, int | None]:
    return {one["name"]: one["pid"] for one in daemon.status()["workers"]}


def rate_of(daemon: RunningDaemon, seconds: float) -> float:
    """Frames of the whole-frame camera scored a second, from one renewal of the status to another."""
    start, before = renewed(daemon)
    time.sleep(seconds)
    end, after = renewed(daemon)
    return (after - before) / (end - start)


def renewed(daemon: RunningDaemon) -> tuple[float, int]:
    """When the count of scored frames changes, and to what."""
    before = daemon.camera("one")["scored"]
    wait_for(lambda: daemon.camera("one")["scored"] != before, 5, "more frames scored")
    return time.monotonic(), int(daemon.camera("one")["scored"])


def test_a_lost_object_camera_comes_back_and_the_other_goes_on(
    tmp_path: Path, both: str, objects: FakeCamera
) -> None:
    """C1: down within 3 s, scored within 5 s of the return; the whole-frame camera keeps its rate."""
    with RunningDaemon(tmp_path, both) as daemon:
        daemon.wait_ready()
        wait_for(lambda: daemon.camera("two")["scored"] > 5, 10, "objects scored")
        assert daemon.camera("two")["score"] > 0
        usual = rate_of(daemon, 2.0)
        for _ in range(2):
            port, frame = objects.port, objects.frame
            objects.kill()
            down_s = wait_for(lambda: daemon.camera("two")["state"] == "down", 3, "down")
            rate = rate_of(daemon, 2.0)
            scored = daemon.camera("two")["scored"]
            objects.__init__(frame, fps=15, port=port)  # type: ignore[misc]
            back_s = wait_for(lambda scored=scored: daemon.camera("two")["scored"] > scored, 5, "scored")  # type: ignore[misc]
            print(
                f"down after {down_s:.1f} s, scored {back_s:.1f} s after, the other at {rate:.1f} fps, "
                f"before {usual:.1f}"
            )
            assert rate > 0.8 * usual
        daemon.stop()


def test_object_frames_that_change_their_size(tmp_path: Path, both: str, objects: FakeCamera) -> None:
    """C7: objects are scored again soon, and the still scene scores as before."""
    with RunningDaemon(tmp_path, both) as daemon:
        daemon.wait_ready()
        wait_for(lambda: daemon.camera("two")["scored"] > 5, 10, "objects scored")
        for frame, width in ((passing(2 * HIGH, 2 * WIDE), 2 * WIDE), (passing(), WIDE)):
            scored = daemon.camera("two")["scored"]
            objects.frame = frame
            wait_for(lambda width=width: daemon.camera("two")["width"] == width, 3, "the new size")  # type: ignore[misc]
            gap_s = wait_for(lambda scored=scored: daemon.camera("two")["scored"] > scored + 2, 3, "scored")  # type: ignore[misc]
            print(f"{width} pixels wide: scored again after {gap_s:.1f} s more")
        still = noisy_scene(HIGH, WIDE)(7)
        objects.frame = lambda number: still
        wait_for(lambda: daemon.camera("two")["score"] == pytest.approx(0.0, abs=1e-5), 3, "nothing moves")
        assert [event for event in daemon.events() if event["camera"] == "two"] == []
        daemon.stop()


def test_an_object_worker_is_killed_again_and_again(tmp_path: Path, both: str, scale: int) -> None:
    """I1: another one serves within 2 s of each kill; the other bundle's worker is not touched."""
    with RunningDaemon(tmp_path, both) as daemon:
        daemon.wait_ready()
        wait_for(lambda: daemon.camera("two")["scored"] > 5, 10, "objects scored")
        other, slowest = workers(daemon)["tiny"], 0.0
        for _ in range(2 * scale):
            old = workers(daemon)["objects"]
            assert old
            os.kill(old, signal.SIGKILL)
            scored = daemon.camera("two")["scored"]

            def again(before: int = scored, killed: int = old) -> bool:
                now = workers(daemon)["objects"]
                return now not in (killed, None) and daemon.camera("two")["scored"] > before

            slowest = max(slowest, wait_for(again, 10, "serving again"))
            time.sleep(3.2)
        assert workers(daemon)["tiny"] == other
        print(f"slowest: {slowest:.2f} s from kill to verdict")
        daemon.stop()


def test_an_alarm_shows_the_object(tmp_path: Path, both: str, objects: FakeCamera) -> None:
    """An alarm's event says where the worst object is; the page's picture is drawn."""
    text = both.replace("[cameras.two.alarm]\nthreshold = 10.0", "[cameras.two.alarm]\nthreshold = 0.5")
    with RunningDaemon(tmp_path, text) as daemon:
        daemon.wait_ready()
        wait_for(lambda: any(e["camera"] == "two" for e in daemon.events()), 10, "an alarm")
        (first, *_) = [event for event in daemon.events() if event["camera"] == "two"]
        assert (first["kind"], first["phase"]) == ("anomaly", "opened")
        assert first["objects"]
        left, top, right, bottom = first["objects"][0]["box"]
        assert 0 <= left < right <= WIDE
        assert top <= HIGH // 2 + 12 <= bottom
        assert first["objects"][0]["score"] >= 0.5
        daemon.stop()
