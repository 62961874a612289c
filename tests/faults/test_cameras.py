"""Cameras that die, freeze, repeat themselves and lie: reported in time, and never scored meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from definitions.fake_camera import FakeCamera, noisy_scene
from definitions.films import interlaced_film
from definitions.running_daemon import RunningDaemon, wait_for
from definitions.tiny_bundle import HEIGHT, WIDTH


def test_killed_and_back(tmp_path: Path, toml: str, camera: FakeCamera, scale: int) -> None:
    """C1: down within 3 s of the kill, scored within 5 s of the return."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        before = daemon.descriptors()
        for cycle in range(2 * scale):
            port, frame = camera.port, camera.frame
            camera.kill()
            down_s = wait_for(lambda: daemon.camera()["state"] == "down", 3, "down")
            time.sleep(2)
            scored = daemon.camera()["scored"]
            camera.__init__(frame, port=port)  # type: ignore[misc]
            back_s = wait_for(lambda before=scored: daemon.camera()["scored"] > before, 5, "scored again")  # type: ignore[misc]
            print(f"cycle {cycle}: down after {down_s:.1f} s, scored {back_s:.1f} s after the return")
            wait_for(lambda: daemon.camera()["state"] == "fine", 3, "fine")
        wait_for(lambda: daemon.descriptors() <= before, 5, "no descriptors more than before")
        kinds = [(event["kind"], event["phase"], event["reason"]) for event in daemon.events()]
        assert kinds.count(("camera", "opened", "lost")) == 2 * scale
        assert kinds.count(("camera", "closed", "lost")) == 2 * scale
        daemon.stop()


def test_a_stalled_stream(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C3: TCP stays open and nothing comes: flagged within stall_s + 1, nothing stale is scored."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        camera.mode = "freeze"
        flagged_s = wait_for(lambda: daemon.camera()["state"] == "down", 2.0 + 1.0, "flagged")
        scored = daemon.camera()["scored"]
        time.sleep(1.5)
        assert daemon.camera()["scored"] == scored
        camera.mode = "fine"
        wait_for(lambda: daemon.camera()["scored"] > scored, 8, "scored again")
        print(f"flagged after {flagged_s:.1f} s")
        assert not [event for event in daemon.events() if event["kind"] == "anomaly"]
        daemon.stop()


def test_the_same_picture_again_and_again(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C4: frozen is flagged, nothing is scored while it is, and it is over soon after something moves."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        camera.mode = "same"
        wait_for(lambda: "frozen" in daemon.camera()["faults"], 2.0 + 1.5, "frozen")
        time.sleep(0.3)
        scored = daemon.camera()["scored"]
        time.sleep(1.5)
        assert daemon.camera()["scored"] == scored
        camera.mode = "fine"
        cleared_s = wait_for(lambda: daemon.camera()["state"] == "fine", 2, "cleared")
        print(f"cleared after {cleared_s:.1f} s")
        daemon.stop()


def test_a_camera_that_never_answers(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C5 and C2: the daemon is ready without it, the wait for it is bounded, and no child is left over."""
    camera.mode = "silent"
    with RunningDaemon(tmp_path, toml) as daemon:
        wait_for(lambda: any("READY=1" in text for text in daemon.said()), 15, "ready")
        wait_for(lambda: daemon.camera()["reconnects"] >= 1, 12, "tried again")
        camera.mode = "fine"
        wait_for(lambda: daemon.camera()["scored"] > 3, 12, "scored")
        daemon.stop()


def test_truncated_pictures_are_counted(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C6: every damaged frame is counted, the sound ones are scored."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        camera.mode = "truncate"
        time.sleep(0.8)
        camera.mode = "fine"
        time.sleep(0.5)
        wait_for(lambda: daemon.camera()["bad"] == camera.cut, 3, "all damaged frames counted")
        assert camera.cut > 5
        assert daemon.camera()["state"] == "fine"
        daemon.stop()


@pytest.mark.parametrize("mode", ["huge", "redirect", "401"])
def test_what_is_refused(tmp_path: Path, toml: str, camera: FakeCamera, mode: str) -> None:
    """C9 and N4: headers of 400 megapixels are refused before decoding, redirects are not followed."""
    canary = FakeCamera(camera.frame)
    camera.mode, camera.elsewhere = mode, canary.uri
    try:
        with RunningDaemon(tmp_path, toml) as daemon:
            wait_for(lambda: bool(camera.asked), 15, "asked")
            words = {"huge": "20000x20000", "redirect": "redirects are not followed", "401": "a password"}[
                mode
            ]
            wait_for(daemon.answers, 15, "a page")
            wait_for(lambda: words in daemon.camera()["message"], 10, words)
            assert daemon.camera()["scored"] == 0
            daemon.stop()
        assert canary.asked == 0
    finally:
        canary.kill()


def test_frames_that_change_their_size(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C7: a new connection within a second or so, no fault, and the same picture scores the same after."""
    scene, large = camera.frame, noisy_scene(8 * HEIGHT, 8 * WIDTH)
    same = scene(7)
    camera.frame = lambda number: same
    text = toml.replace("frozen_s = 2.0", "frozen_s = 0")
    with RunningDaemon(tmp_path, text) as daemon:
        daemon.wait_ready()
        before = daemon.camera()["score"]
        for frame, width in ((large, 8 * WIDTH), ((lambda number: same), 4 * WIDTH)):
            scored = daemon.camera()["scored"]
            camera.frame = frame
            wait_for(lambda width=width: daemon.camera()["width"] == width, 3, "the new size")  # type: ignore[misc]
            gap_s = wait_for(lambda scored=scored: daemon.camera()["scored"] > scored + 2, 3, "scored")  # type: ignore[misc]
            print(f"{width} pixels wide: scored again after {gap_s:.1f} s more")
        time.sleep(0.6)
        assert daemon.camera()["score"] == pytest.approx(before, abs=1e-5)
        assert daemon.events() == []
        daemon.stop()


def test_an_engine_that_is_too_slow(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    """C10: the age of frames stays within two intervals of the slow rate, and all are accounted for."""
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        daemon.fault("slow", "0.5")
        time.sleep(5.5)
        assert daemon.camera()["fps"] < 4, "the engine is not slow: this test would show nothing"
        ages = []
        for _ in range(8):
            time.sleep(0.25)
            found = daemon.camera()
            ages.append(found["frame_age_ms"])
            waiting = found["captured"] - found["scored"] - found["dropped"] - found["faulty"]
            assert 0 <= waiting <= 2
        assert max(ages) <= 2 * 550, ages
        daemon.stop()


def test_an_interlaced_film_is_named(tmp_path: Path, toml: str, camera: FakeCamera) -> None:
    film = interlaced_film(tmp_path / "film.ts")
    with RunningDaemon(tmp_path, toml.replace(camera.uri, str(film))) as daemon:
        daemon.wait_ready()
        assert daemon.camera()["colour"].endswith("interlaced: both fields of a frame are judged as one")
        daemon.stop()
