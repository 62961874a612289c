"""What each choice is worth: forms of the block, precisions, backends and threads, measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sspcab_bench.compare import EndToEnd, slower_by, take_turns
from sspcab_bench.summary import Interval
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import OptionError
from sspcab_runtime.engines import backends_for, installed
from sspcab_runtime.setting import Setting
from sspcab_runtime.tuning import Objective

__all__ = ["Choice", "Measured", "choices", "run_ablation"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run one bundle."""

    bundle: Bundle
    setting: Setting

    @property
    def form(self) -> str:
        """Of the bundle's blocks; ``none`` where it has no block."""
        forms = {block.form for block in self.bundle.manifest.blocks}
        return ", ".join(sorted(forms)) or "none"


@dataclass(frozen=True, slots=True)
class Measured:
    """A choice, and what it costs.

    Attributes:
        choice: What ran.
        cost_ms: Milliseconds of a frame, median of the rounds.
        times_first: Its cost over that of the first choice: below 1 is faster.
    """

    choice: Choice
    cost_ms: float
    times_first: Interval


def choices(
    bundles: Sequence[Bundle],
    *,
    backends: Sequence[str] = (),
    precisions: Sequence[str] = (),
    threads: Sequence[int | None] = (None,),
) -> list[Choice]:
    """Every artifact of every bundle on every backend that is installed and runs it, or those asked for.

    Raises:
        OptionError: There are fewer than two.
    """
    found = [
        Choice(bundle, Setting(artifact, backend, None, count))
        for bundle in bundles
        for artifact in bundle.manifest.artifacts
        if not precisions or artifact.precision in precisions
        for backend in backends_for(artifact.target)
        if (backend in backends if backends else installed(backend))
        for count in threads
    ]
    if len(found) < 2:
        raise OptionError(
            f"there is {len(found)} way to run that, and an ablation compares two or more: "
            "give more bundles, backends, precisions or threads"
        )
    return found


def run_ablation(
    found: Sequence[Choice],
    *,
    objective: Objective,
    source: str | None = None,
    rounds: int,
    seconds: float,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Measured]:
    """Time all choices in turns; all are loaded at the same time.

    Raises:
        EdgeError: One cannot be opened, is not the detector that it should be, or failed.
    """
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(EndToEnd(choice.bundle, (choice.setting,), objective, source=source))
            for choice in found
        ]
        costs = take_turns(contenders, rounds=rounds, seconds=seconds, progress=progress)
    return [
        Measured(choice, statistics.median(series), slower_by(costs[0], series)[1])
        for choice, series in zip(found, costs, strict=True)
    ]
