"""Is the second slower than the first? Of two reports, or of two bundles timed in pairs in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sspcab_bench.inputs import endless_frames
from sspcab_bench.phases import latency, stream
from sspcab_bench.summary import Interval, median_interval
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import InputError
from sspcab_edge.protocols import Engine
from sspcab_runtime.detector import Detector
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.opening import open_first, wanted_settings
from sspcab_runtime.setting import Setting
from sspcab_runtime.tuning import Objective

__all__ = [
    "Change",
    "Contender",
    "EndToEnd",
    "PairedChange",
    "compare_paired",
    "compare_reports",
    "read_report",
    "slower_by",
    "take_turns",
]

_KEY = ("target", "precision", "backend", "threads", "streams", "batch")
_LOWER = ("p50", "p99")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in two reports.

    Attributes:
        what: Which result: artifact, backend and how it ran.
        figure: ``fps``, or ``p50`` or ``p99`` of the latency in milliseconds.
        before: In the first report. Also ``after``, in the second.
        slower: How many times slower the second is; below 1 where it is faster.
        judged: Whether a limit applies to it: p99 of a short run wanders too much for that.
    """

    what: str
    figure: Literal["fps", "p50", "p99"]
    before: float
    after: float
    slower: float
    judged: bool


def read_report(path: Path) -> dict[str, Any]:
    """A report of the bundle suite.

    Raises:
        InputError: There is none.
    """
    try:
        report = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no report: {error}") from error
    if (
        not isinstance(report, dict)
        or report.get("schema") != 1
        or not isinstance(report.get("results"), list)
    ):
        raise InputError(f"{path} is no report of sspcab-bench: expected schema 1 with results")
    for result in report["results"]:
        latency_ms = result.get("latency_ms") if isinstance(result, dict) else None
        figures = [] if not isinstance(latency_ms, dict) else [latency_ms.get(name) for name in _LOWER]
        if not figures or not all(_positive(figure) for figure in (*figures, result.get("fps"))):
            raise InputError(f"{path} is no report of a bundle: a result has no fps, p50 and p99 above 0")
    return report


def _positive(figure: object) -> bool:
    return isinstance(figure, int | float) and 0 < figure < float("inf")


def compare_reports(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Figures of all results that both have, in the order of the second.

    Raises:
        InputError: They have none in common.
    """
    old = {tuple(result.get(key) for key in _KEY): result for result in before["results"]}
    changes = []
    for new in after["results"]:
        key = tuple(new.get(name) for name in _KEY)
        if key not in old:
            continue
        threads = "" if new.get("threads") is None else f", {new['threads']} threads"
        what = f"{new.get('target')}-{new.get('precision')} on {new.get('backend')}{threads}"
        first, second = old[key]["fps"], new["fps"]
        changes.append(Change(what, "fps", first, second, first / second, True))
        for name in _LOWER:
            first, second = old[key]["latency_ms"][name], new["latency_ms"][name]
            changes.append(Change(what, name, first, second, second / first, name == "p50"))  # type: ignore[arg-type]
    if not changes:
        raise InputError("the two reports have no result in common: same artifact, backend, threads expected")
    return changes


class Contender(Protocol):
    """What takes turns."""

    def cost_ms(self, seconds: float) -> float:
        """Run for about ``seconds``; milliseconds of a frame."""


class EndToEnd:
    """A bundle's own parity pack, from file to verdict, through the runtime's pipeline. A context manager.

    Args:
        bundle: What runs.
        settings: How, the first of them that runs here.
        objective: ``latency`` times one frame at a time, ``fps`` all stages overlapped.
        source: URI of frames; None: the parity pack.
        fallback: Pass over settings whose backend cannot run here.

    Attributes:
        setting: That was taken.
        detector: That runs.

    Raises:
        EdgeError: It cannot be opened.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: Sequence[Setting],
        objective: Objective,
        *,
        source: str | None = None,
        fallback: bool = False,
    ) -> None:
        frames = endless_frames(bundle, source)
        self._closing = ExitStack()
        self.setting, engines = open_first(bundle, settings, fallback=fallback)
        for engine in engines:
            self._closing.callback(engine.close)
        threshold, artifact = bundle.manifest.decision.threshold, self.setting.artifact
        front_end = open_front_end(bundle.manifest, artifact, threshold, bundle.path)
        self._objective = objective
        self.detector = self._closing.enter_context(
            Detector(bundle, artifact, engines[0], front_end, threshold, engines[1:])
        )
        self._source = self._closing.enter_context(closing(frames))

    @classmethod
    def chosen(
        cls, bundle: Bundle, backend: str | None, objective: Objective, source: str | None = None
    ) -> EndToEnd:
        """A bundle on ``backend``, or as the runtime would choose where that is None."""
        settings = wanted_settings(bundle.manifest.artifacts, backend=backend)
        return cls(bundle, settings, objective, source=source, fallback=backend is None)

    def run_on(self, engine: Engine) -> None:
        """Put another engine in place of all; who made it closes it."""
        self.detector.engine, self.detector.engines = engine, (engine,)

    def cost_ms(self, seconds: float) -> float:
        """Median milliseconds from decoding to verdict, or milliseconds per frame of the stream."""
        if self._objective == "latency":
            return latency(self.detector, self._source, _ignore, seconds)[0].p50
        return 1e3 / stream(self.detector, self._source, _ignore, seconds)

    def close(self) -> None:
        """Release everything."""
        self._closing.close()

    def __enter__(self) -> EndToEnd:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _ignore(result: object) -> None:
    """Verdicts are not looked at here: the two may be different detectors."""


@dataclass(frozen=True, slots=True)
class PairedChange:
    """The second against the first.

    Attributes:
        first_ms: Median cost of a frame. Also ``second_ms``.
        ratios: Of each pair, second over first.
        slower: Their median, with the interval of at least 95 %.
    """

    first_ms: float
    second_ms: float
    ratios: tuple[float, ...]
    slower: Interval


def compare_paired(
    first: Contender,
    second: Contender,
    *,
    pairs: int,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
) -> PairedChange:
    """``second`` against ``first``: see :func:`take_turns`.

    Raises:
        EdgeError: One of them failed.
    """
    before, after = take_turns((first, second), rounds=pairs, seconds=seconds, progress=progress)
    return PairedChange(statistics.median(before), statistics.median(after), *slower_by(before, after))


def slower_by(first: Sequence[float], second: Sequence[float]) -> tuple[tuple[float, ...], Interval]:
    """Each round's ratio, second over first, and their median with its interval."""
    ratios = tuple(after / before for before, after in zip(first, second, strict=True))
    return ratios, median_interval(ratios)


def take_turns(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[float]]:
    """Costs of each, one a round, of turns of ``seconds`` in alternating order; a round more does not count.

    What disturbs the machine disturbs neighbours alike, so only turns of one round are to be compared.

    Raises:
        EdgeError: One of them failed.
    """
    costs: list[list[float]] = [[] for _ in contenders]
    order = list(range(len(contenders)))
    for done in range(rounds + 1):
        for which in order if done % 2 else reversed(order):
            cost_ms = contenders[which].cost_ms(seconds)
            if done:
                costs[which].append(cost_ms)
        progress(done)
    return costs
