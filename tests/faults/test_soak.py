"""Hours in small: memory, descriptors, threads and latency of a daemon that just goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from definitions.fake_camera import FakeCamera, noisy_scene
from definitions.running_daemon import RunningDaemon, wait_for
from definitions.tiny_bundle import HEIGHT, WIDTH

CAMERAS, FPS = 4, 22.0


@pytest.fixture
def cameras() -> Iterator[list[FakeCamera]]:
    """Four that cycle through 32 noisy frames."""
    scenes = [noisy_scene(4 * HEIGHT, 4 * WIDTH, seed) for seed in range(CAMERAS)]
    frames = [[scene(number) for number in range(32)] for scene in scenes]
    made = [FakeCamera(lambda number, mine=mine: mine[number % 32], FPS) for mine in frames]  # type: ignore[misc]
    yield made
    for camera in made:
        camera.kill()


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [one for child in (task / "children").read_text().split() for one in family(int(child))]
    return found


def held(pid: int) -> tuple[float, int, int]:
    """Unshared memory in MiB, descriptors and threads of a family."""
    memory = descriptors = threads = 0
    for one in family(pid):
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
        memory += int(lines["RssAnon"].split()[0])
        threads += int(lines["Threads"])
        descriptors += len(list(Path(f"/proc/{one}/fd").iterdir()))
    return memory / 1024, descriptors, threads


def test_nothing_grows(tmp_path: Path, toml: str, cameras: list[FakeCamera], scale: int) -> None:
    """R1: memory, descriptors and threads stay, and latency does."""
    seconds = 20.0 if scale == 1 else 1320.0
    one = toml[toml.index("[cameras.one]") :]
    head = toml[: toml.index("[cameras.one]")].replace("replay_s = 1.0", "replay_s = 10.0")
    old = one[one.index("http://") : one.index("/video") + 6]
    tables = [
        one.replace("cameras.one", f"cameras.c{number}").replace(old, camera.uri)
        for number, camera in enumerate(cameras)
    ]
    with RunningDaemon(tmp_path, head + "".join(tables)) as daemon:
        daemon.wait_ready(60)
        time.sleep(10)  # caches fill
        shm = sorted(path.name for path in Path("/dev/shm").iterdir())
        begin, samples, ages = time.monotonic(), [], []
        first = sum(camera["scored"] for camera in daemon.status()["cameras"])
        _, descriptors, threads = held(daemon.pid)
        next_held = 0.0
        while (now := time.monotonic() - begin) < seconds:
            status = daemon.status()
            assert status["ready"], status
            ages += [camera["frame_age_ms"] for camera in status["cameras"]]
            if now >= next_held:
                next_held += seconds / 200
                scored = sum(camera["scored"] for camera in status["cameras"]) - first
                samples.append((scored, held(daemon.pid)[0]))
            time.sleep(0.1)
        frames = samples[-1][0]
        counts, memory = np.array(samples, float).T
        slope = float(np.polyfit(counts, memory, 1)[0]) * 1e5
        tenth = len(ages) // 10
        early, late = (float(np.percentile(part, 99)) for part in (ages[:tenth], ages[-tenth:]))

        def no_more() -> bool:
            now = held(daemon.pid)[1:]
            return now[0] <= descriptors and now[1] <= threads

        print(
            f"{frames} frames in {seconds:.0f} s; memory {samples[0][1]:.1f} to {samples[-1][1]:.1f} MiB,"
            f" {slope:+.3f} MiB per 100,000 frames; frame age p99 {early:.1f} ms, then {late:.1f} ms;"
            f" {descriptors} descriptors and {threads} threads, now {held(daemon.pid)[1:]}"
        )
        assert frames > seconds * CAMERAS * FPS * 0.8
        wait_for(no_more, 10, "no more descriptors and threads than before")
        assert sorted(path.name for path in Path("/dev/shm").iterdir()) == shm
        if scale > 1:
            assert frames >= 100_000
            assert slope <= 1.0
            assert late <= 1.2 * early
        daemon.stop()
