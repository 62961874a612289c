"""How many cameras this machine carries at a frame rate, by search on the real daemon."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sspcab_bench.film import make_film
from sspcab_bench.fleet import Fleet, run_fleet
from sspcab_edge.bundle import Bundle
from sspcab_runtime.setting import Setting
from sspcab_runtime.sources import open_source
from sspcab_runtime.turns import Running, pack_inputs

__all__ = [
    "AGE_INTERVALS",
    "SERVED",
    "Alone",
    "Density",
    "DensityOptions",
    "carried",
    "limit",
    "own_cpu_ms",
    "search",
]

SERVED = 0.98
"""A fleet is carried when at least this share of the frames that its cameras send get a verdict, ..."""

AGE_INTERVALS = 2.0
"""... and 99 of 100 of them are judged within so many frame intervals of the camera."""

_FILM_S = 12.0
_BUSY = 0.9
"""A share of its time from which on a part is the limit."""


@dataclass(frozen=True, slots=True)
class DensityOptions:
    """What to look for.

    Attributes:
        fps: Frames a second of each camera.
        width: Of the cameras' pictures. Also ``height``.
        seconds: How long each fleet is watched.
        most: More cameras are not tried.
        cameras: Only so many; None searches.
        backend: Of the runtime's table; None is the runtime's own choice.
        film: A video that every camera shows, at ``fps`` and its own size; None: one made of the parity pack.
    """

    fps: float = 15.0
    width: int = 1280
    height: int = 720
    seconds: float = 15.0
    most: int = 64
    cameras: int | None = None
    backend: str | None = None
    film: Path | None = None


@dataclass(frozen=True, slots=True)
class Alone:
    """The two heavy parts, each with the whole machine to itself.

    Attributes:
        decode_fps: Frames a second that one process decodes, as fast as it can.
        decode_cpu_ms: CPU milliseconds of one frame of it.
        engine_fps: Inferences a second of one frame each.
        engine_cpu_ms: CPU milliseconds of one of them.
    """

    decode_fps: float
    decode_cpu_ms: float
    engine_fps: float
    engine_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Density:
    """The answer.

    Attributes:
        carries: Most cameras that are carried; 0 where one is too many.
        limit: What ends it: see :func:`limit`.
        alone: Of decoder and engine.
        fleets: All that were tried, in that order.
    """

    carries: int
    limit: str
    alone: Alone
    fleets: tuple[Fleet, ...]


def carried(fleet: Fleet) -> bool:
    """Whether the machine carries it: see :data:`SERVED` and :data:`AGE_INTERVALS`."""
    wanted = fleet.cameras * fleet.fps
    return fleet.served_fps >= SERVED * wanted and fleet.age_p99_ms <= AGE_INTERVALS * 1e3 / fleet.fps


def own_cpu_ms(fleet: Fleet, alone: Alone) -> float:
    """CPU milliseconds of a decoded frame outside of decoder and engine.

    The decoder's share of a capture process is what it takes alone. What the engine takes is not subtracted
    from the worker: it takes more of a busy machine; the worker itself says what it spends outside of it.
    """
    cores = fleet.cores["supervisor"] + fleet.cores["capture"] + fleet.worker_own_cores
    return max(0.0, 1e3 * cores / fleet.captured_fps - alone.decode_cpu_ms)


def limit(fleet: Fleet, alone: Alone, cores: int) -> str:
    """Which part of the daemon ends it, of a fleet that is not carried.

    ``engine`` where inferences alone would fill :data:`_BUSY` of the time that the cores leave; ``decode``
    where decoding takes more of the cores than inference; ``nothing found`` where cores are left.
    """
    engine = fleet.served_fps * alone.engine_cpu_ms / 1e3
    decode = fleet.captured_fps * alone.decode_cpu_ms / 1e3
    if sum(fleet.cores.values()) < _BUSY * cores and fleet.served_fps < _BUSY * alone.engine_fps:
        return "nothing found: cores are left"
    return "engine" if engine >= decode else "decode"


def search(
    bundle: Bundle, options: DensityOptions, cores: int, progress: Callable[[str], None] = lambda text: None
) -> Density:
    """Try one camera, then twice as many until they are not carried, then halve the gap.

    Raises:
        EdgeError: The film cannot be made or read; the daemon does not start.
    """
    with tempfile.TemporaryDirectory(prefix="sspcab-density-") as name:
        folder = Path(name)
        film = options.film or _made(bundle, folder / "film.mkv", options, progress)
        fleets: list[Fleet] = []

        def attempt(cameras: int) -> bool:
            fleet = run_fleet(
                bundle.path, film, folder / str(len(fleets)), cameras=cameras, fps=options.fps,
                seconds=options.seconds, backend=options.backend,
            )  # fmt: skip
            fleets.append(fleet)
            progress(
                f"{cameras} cameras: {fleet.served_fps:.1f} of {cameras * fleet.fps:.0f} frames a second, "
                f"age p99 {fleet.age_p99_ms:.0f} ms: {'carried' if carried(fleet) else 'not carried'}"
            )
            return carried(fleet)

        if options.cameras is not None:
            good = options.cameras if attempt(options.cameras) else 0
            bad = None if good else options.cameras
        else:
            good, bad = _search(attempt, options.most)
        progress("measuring decoder and engine alone")
        alone = _alone(bundle, film, fleets[0], options.seconds / 3)
        ended = "the search" if bad is None else limit(_of(fleets, bad), alone, cores)
        return Density(good, ended, alone, tuple(fleets))


def _made(bundle: Bundle, film: Path, options: DensityOptions, progress: Callable[[str], None]) -> Path:
    progress(f"making a film of {_FILM_S:g} s, {options.width}x{options.height}")
    make_film(bundle, film, width=options.width, height=options.height, fps=options.fps, seconds=_FILM_S)
    return film


def _search(attempt: Callable[[int], bool], most: int) -> tuple[int, int | None]:
    """The largest number that succeeds and the smallest that failed, None where ``most`` succeeds."""
    good, bad = 0, None
    number = 1
    while bad is None or bad - good > 1:
        if attempt(number):
            good = number
            if good == most:
                return good, None
        else:
            bad = number
        number = min(most, 2 * good) if bad is None else (good + bad) // 2
    return good, bad


def _of(fleets: list[Fleet], cameras: int) -> Fleet:
    return next(fleet for fleet in reversed(fleets) if fleet.cameras == cameras)


def _alone(bundle: Bundle, film: Path, fleet: Fleet, seconds: float) -> Alone:
    frames, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        source = open_source(str(film))
        try:
            frames += sum(1 for _ in source)
        finally:
            source.close()
    decode_s, decode_cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    artifact = next(one for one in bundle.manifest.artifacts if one.name == fleet.artifact)
    inputs = pack_inputs(bundle)
    with Running(bundle, Setting(artifact, fleet.backend), inputs) as running:
        running.turn(0.5)
        cpu = time.process_time()
        turn = running.turn(seconds)
        calls = len(turn.streams_ms[0]) + 1
        engine_cpu_s = time.process_time() - cpu
    return Alone(frames / decode_s, 1e3 * decode_cpu_s / frames, turn.fps, 1e3 * engine_cpu_s / calls)
