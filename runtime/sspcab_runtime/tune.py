"""Finding the fastest way to run a bundle on this device, among those that pass its gate.

Every artifact, backend and hint is proved first, by the replay of the parity pack; what does not pass is not
timed. Then settings are halved: a short measurement of each, the slower half goes, the rest is measured
again. The last few are timed in turns, and one of them replaces the default only when it is faster by more
than 3 %.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Literal

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, EngineError, GateError, MissingPackageError
from sspcab_edge.manifest import Artifact
from sspcab_runtime.engines.table import candidates, engine_class, open_engine
from sspcab_runtime.machine import cpu_device, memory_mb, read_cpu
from sspcab_runtime.replay import prove
from sspcab_runtime.setting import Setting
from sspcab_runtime.tuning import Objective
from sspcab_runtime.turns import Inputs, Running, Turn, in_turns, pack_inputs

__all__ = ["Row", "Tuned", "fastest", "tune"]

MARGIN = 0.03
"""How much faster than the default a setting has to be to replace it."""

CHALLENGERS = 2
"""Settings that are timed against the default in the end."""

ROUNDS = 11
"""Rounds of that."""

MAX_STREAMS = 8
"""Most inferences at the same time that are tried: each holds the whole network in memory."""

_TURNS = 3
"""Turns of one look at a setting."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one setting.

    Attributes:
        setting: The setting.
        state: ``chosen``, ``slower``; ``refused`` by the gate; ``not available``: the backend cannot run it.
        reason: One line, for the last two.
        ms: Median duration of an inference in milliseconds, of the last time it was measured.
        fps: Inferences a second of all its streams, likewise.
    """

    setting: Setting
    state: Literal["chosen", "slower", "refused", "not available"]
    reason: str | None = None
    ms: float | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found.

    Attributes:
        objective: What was to be best.
        default: What runs without tuning: the first setting that passes.
        chosen: What is best; the default, unless another is faster by more than 3 %.
        speed_up: How many times as fast ``chosen`` is as ``default``, by their paired turns.
        rows: Every setting that was looked at, in order of preference.
    """

    objective: Objective
    default: Setting
    chosen: Setting
    speed_up: float
    rows: tuple[Row, ...]


Say = Callable[[int, int, str], None]
"""Told of progress: steps done, steps in all as far as is known, and what is being done."""


def tune(
    bundle: Bundle,
    *,
    objective: Objective = "latency",
    seconds: float = 0.5,
    backends: Sequence[str] = (),
    precision: str | None = None,
    progress: Say = lambda done, total, what: None,
) -> Tuned:
    """Measure every setting that passes the gate here, and choose.

    Args:
        bundle: The bundle.
        objective: ``latency``: the median time of one inference; ``fps``: inferences a second, with several
            at the same time.
        seconds: At least so long for each look at a setting.
        backends: Only these; none is all that are installed.
        precision: Only this one.
        progress: Told of every step.

    Raises:
        OptionError: The bundle has no such artifact.
        MissingPackageError: A backend that was asked for is not installed, or none is.
        BundleError: The parity pack cannot be read.
        GateError: No setting passes the gate.
        EngineError: No setting runs; or one stopped while it was timed against another.
    """
    artifacts = bundle.manifest.artifacts
    for backend in backends:
        candidates(artifacts, backend=backend, precision=precision)
    search = _Search(bundle, objective, seconds, pack_inputs(bundle), progress)
    for artifact, backend in candidates(artifacts, precision=precision):
        if not backends or backend in backends:
            search.admit(settings_of(artifact, backend, objective, read_cpu().count))
    search.look(list(search.turns))
    measured = [setting for setting, turns in search.turns.items() if turns]
    if not measured:
        raise _nothing(search.out.values())
    default = measured[0]
    chosen, speed_up = search.decide(default, search.halve(measured[1:]))
    return Tuned(objective, default, chosen, speed_up, search.rows(chosen))


def settings_of(artifact: Artifact, backend: str, objective: Objective, cores: int) -> list[Setting]:
    """Every setting of an artifact on a backend that is worth a look, the default first.

    Threads are powers of two and all cores. Several streams share the cores; only frames a second gain.
    """
    doubling = sorted({2**n for n in range(cores.bit_length()) if 2**n <= cores} | {cores})
    ways: list[tuple[int | None, int]] = [(None, 1), *((threads, 1) for threads in doubling)]
    if objective == "fps":
        ways += [(None, streams) for streams in doubling if 1 < streams <= MAX_STREAMS]
    hints = (None, *engine_class(backend).hints)
    return [Setting(artifact, backend, hint, *way) for hint in hints for way in ways]


@dataclass(slots=True)
class _Search:
    """One tuning: the turns of what was admitted, rows of what is out, and the order of preference."""

    bundle: Bundle
    objective: Objective
    seconds: float
    inputs: Inputs
    progress: Say
    turns: dict[Setting, list[Turn]] = field(default_factory=dict)
    out: dict[Setting, Row] = field(default_factory=dict)
    order: list[Setting] = field(default_factory=list)

    def admit(self, settings: Sequence[Setting]) -> None:
        """Admit the settings of one artifact on one backend whose hint passes the gate.

        A hint that names what the backend computes in anyway is the default once more and is left out.
        """
        seen: set[str] = set()
        for _, grouped in groupby(settings, lambda setting: setting.hint):
            group = list(grouped)
            self.order += group
            first = group[0]
            try:
                with open_engine(
                    self.bundle, first.artifact, backend=first.backend, hint=first.hint, single=True
                ) as engine:
                    if engine.settings in seen:
                        continue
                    seen.add(engine.settings)
                    say = partial(self._say_replay, first)
                    prove(self.bundle, first.artifact, engine, progress=say)
                    on_cpu = engine.device == cpu_device()
            except GateError as error:
                self.out[first] = Row(first, "refused", str(error))
            except (EngineError, MissingPackageError) as error:
                self.out[first] = Row(first, "not available", str(error))
            else:
                self.turns.update({setting: [] for setting in group if on_cpu or setting.threads is None})

    def _say_replay(self, setting: Setting, done: int, total: int) -> None:
        self.progress(done, total, f"parity inputs: {setting}")

    def look(self, settings: Sequence[Setting]) -> None:
        """Measure settings shortly, one after the other; those that cannot run are out."""
        for number, setting in enumerate(settings):
            self.progress(number, len(settings), f"measuring {setting}")
            try:
                self._look_at(setting)
            except EngineError as error:
                del self.turns[setting]
                self.out[setting] = Row(setting, "not available", str(error))

    def _look_at(self, setting: Setting) -> None:
        needed_mb = 2 * setting.artifact.size_bytes * setting.streams / 1e6
        memory = memory_mb()
        if setting.streams > 1 and memory is not None and needed_mb > memory[1]:
            raise EngineError(f"it may need {needed_mb:.0f} MB of memory, {memory[1]} MB are free")
        with Running(self.bundle, setting, self.inputs) as running:
            begin = time.perf_counter()
            while time.perf_counter() - begin < self.seconds:
                self.turns[setting].append(running.turn(self.seconds / _TURNS))

    def _cost_ms(self, setting: Setting) -> float:
        """The best turn: disturbances only slow down."""
        return min(turn.cost_ms(self.objective) for turn in self.turns[setting])

    def halve(self, settings: Sequence[Setting]) -> list[Setting]:
        """The fastest few, measured again whenever half of the others has gone."""
        left = list(settings)
        while len(left) > CHALLENGERS:
            kept = sorted(left, key=self._cost_ms)[: max(CHALLENGERS, (len(left) + 1) // 2)]
            left = [setting for setting in left if setting in kept]
            if len(left) > CHALLENGERS:
                self.look(left)
                left = [setting for setting in left if setting in self.turns]
        return left

    def decide(self, default: Setting, challengers: Sequence[Setting]) -> tuple[Setting, float]:
        """Time the last few in turns: which one it is, and how many times as fast as the default.

        Raises:
            EngineError: One of them stopped.
        """
        if not challengers:
            return default, 1.0
        settings = [default, *challengers]
        with ExitStack() as opened:
            runnings = [
                opened.enter_context(Running(self.bundle, setting, self.inputs)) for setting in settings
            ]
            timed = in_turns(
                runnings,
                seconds=self.seconds / _TURNS,
                rounds=ROUNDS,
                progress=lambda done: self.progress(done, ROUNDS, "rounds of the last few"),
            )
        self.turns.update(zip(settings, timed, strict=True))
        costs = {
            setting: [turn.cost_ms(self.objective) for turn in turns]
            for setting, turns in zip(settings, timed, strict=True)
        }
        return fastest(default, costs)

    def rows(self, chosen: Setting) -> tuple[Row, ...]:
        """What became of every setting."""
        rows = dict(self.out)
        for setting, turns in self.turns.items():
            rows[setting] = Row(
                setting,
                "chosen" if setting == chosen else "slower",
                ms=statistics.median(turn.median_ms for turn in turns),
                fps=statistics.median(turn.fps for turn in turns),
            )
        return tuple(rows[setting] for setting in self.order if setting in rows)


def fastest(default: Setting, costs: Mapping[Setting, Sequence[float]]) -> tuple[Setting, float]:
    """The setting with the least cost against the default, and how many times as fast it is.

    Args:
        default: Wins against whatever is not faster by more than :data:`MARGIN`.
        costs: Milliseconds by setting, the default among them; entries of one position were taken in turns.
    """
    ratios = {
        setting: statistics.median(own / other for own, other in zip(series, costs[default], strict=True))
        for setting, series in costs.items()
        if setting != default
    }
    best = min(ratios, key=lambda setting: ratios[setting])
    return (best, 1 / ratios[best]) if ratios[best] < 1 - MARGIN else (default, 1.0)


def _nothing(rows: Iterable[Row]) -> EdgeError:
    found = list(rows)
    kind = GateError if any(row.state == "refused" for row in found) else EngineError
    reasons = "; ".join(f"{row.setting}: {row.reason}" for row in found)
    return kind(f"no setting of the bundle can be used here: {reasons}")
