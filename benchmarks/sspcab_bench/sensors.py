"""Temperature, power, clocks and throttling while something runs. Roots are arguments."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sspcab_bench.files import read_text

__all__ = ["Sample", "Sensors", "Watch", "Watched", "summarise_samples"]

_WHOLE = ("VDD_IN",)
"""The rail that feeds the whole module, where there is one (Orin Nano, Orin NX)."""

_PARTS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
"""Rails that add up to the module's power where there is none (AGX Orin); others hang below these."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    Attributes:
        at_s: Monotonic clock.
        temperatures_c: By thermal zone.
        clock_mhz: Highest of any core's, or None.
        rails_mw: Power by rail of INA3221 monitors, in milliwatts.
        throttle_events: Over-current events so far, or None where they are not counted.
        cooling: Names of throttling alerts that are active.
    """

    at_s: float
    temperatures_c: dict[str, float]
    clock_mhz: float | None
    rails_mw: dict[str, float]
    throttle_events: int | None
    cooling: tuple[str, ...]

    @property
    def hottest_c(self) -> float | None:
        """The highest temperature."""
        return max(self.temperatures_c.values(), default=None)

    @property
    def power_mw(self) -> float | None:
        """Of the whole module; None where its rails are not known to add up to that."""
        for rails in (_WHOLE, _PARTS):
            if all(rail in self.rails_mw for rail in rails):
                return sum(self.rails_mw[rail] for rail in rails)
        return None


class Sensors:
    """Reads what there is below ``sys``; what is not there is absent, and nothing fails."""

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._sys = sys

    def sample(self, at_s: float) -> Sample:
        """What the sensors say now."""
        return Sample(
            at_s, self._temperatures(), self._clock(), self._rails(), self._events(), self._cooling()
        )

    def _temperatures(self) -> dict[str, float]:
        found = {}
        for zone in sorted((self._sys / "class/thermal").glob("thermal_zone*")):
            value = _number(zone / "temp")
            if value is not None and value > 0:
                found[read_text(zone / "type").strip() or zone.name] = value / 1e3
        return found

    def _clock(self) -> float | None:
        files = (self._sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        clocks = [value / 1e3 for value in map(_number, files) if value is not None]
        return max(clocks, default=None)

    def _rails(self) -> dict[str, float]:
        rails = {}
        for monitor in self._monitors("ina3221"):
            for label in sorted(monitor.glob("in*_label")):
                channel = label.name.removeprefix("in").removesuffix("_label")
                name = read_text(label).strip()
                millivolts = _number(monitor / f"in{channel}_input")
                milliamperes = _number(monitor / f"curr{channel}_input")
                if name and millivolts is not None and milliamperes is not None:
                    rails[name] = millivolts * milliamperes / 1e3
        return rails

    def _events(self) -> int | None:
        counts = [
            value
            for monitor in self._monitors("soctherm_oc")
            for value in map(_number, monitor.glob("oc*_event_cnt"))
            if value is not None
        ]
        return int(sum(counts)) if counts else None

    def _cooling(self) -> tuple[str, ...]:
        active = []
        for device in sorted((self._sys / "class/thermal").glob("cooling_device*")):
            kind = read_text(device / "type").strip()
            if "throttle-alert" in kind and (_number(device / "cur_state") or 0) > 0:
                active.append(kind)
        return tuple(active)

    def _monitors(self, name: str) -> list[Path]:
        folders = sorted((self._sys / "class/hwmon").glob("hwmon*"))
        return [folder for folder in folders if read_text(folder / "name").strip() == name]


def _number(path: Path) -> float | None:
    try:
        return float(read_text(path))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen between two moments.

    Attributes:
        seconds: Between the first and the last sample.
        hottest_c: Highest temperature, or None.
        clock_mhz: Lowest of the highest clocks, or None.
        mean_power_mw: By time, or None where power is not told.
        energy_j: Of the whole module, or None.
        throttle_events: Over-current events meanwhile, or None.
        cooling: Throttling alerts that were active at any time.
    """

    seconds: float
    hottest_c: float | None
    clock_mhz: float | None
    mean_power_mw: float | None
    energy_j: float | None
    throttle_events: int | None
    cooling: tuple[str, ...]

    @property
    def throttled(self) -> bool:
        """Whether the hardware said that it slowed itself down."""
        return bool(self.cooling) or bool(self.throttle_events)

    def energy_per_frame_mj(self, frames: int) -> float | None:
        """Millijoules of a frame, idle power included."""
        return None if self.energy_j is None or frames == 0 else 1e3 * self.energy_j / frames


def summarise_samples(samples: list[Sample]) -> Watched:
    """Energy is power integrated by the trapezoidal rule.

    Raises:
        ValueError: There are no samples.
    """
    if not samples:
        raise ValueError("no samples to sum up")
    seconds = samples[-1].at_s - samples[0].at_s
    powers = [sample.power_mw for sample in samples]
    energy_j: float | None = None
    if len(samples) > 1 and all(power is not None for power in powers):
        energy_j = sum(
            (after.at_s - before.at_s) * ((before.power_mw or 0.0) + (after.power_mw or 0.0)) / 2e3
            for before, after in itertools.pairwise(samples)
        )
    events = [sample.throttle_events for sample in samples]
    first, last = events[0], events[-1]
    return Watched(
        seconds=seconds,
        hottest_c=max((s.hottest_c for s in samples if s.hottest_c is not None), default=None),
        clock_mhz=min((s.clock_mhz for s in samples if s.clock_mhz is not None), default=None),
        mean_power_mw=None if energy_j is None or seconds <= 0 else 1e3 * energy_j / seconds,
        energy_j=energy_j,
        throttle_events=None if first is None or last is None else last - first,
        cooling=tuple(sorted({name for sample in samples for name in sample.cooling})),
    )


class Watch:
    """Samples in a thread while something runs. A context manager; :attr:`samples` afterwards."""

    def __init__(
        self, sensors: Sensors, every_s: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sensors, self._every_s, self._clock = sensors, every_s, clock
        self.samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        self.samples.append(self._sensors.sample(self._clock()))
