"""What a measurement happened in: the machine, what else ran on it, its temperature and its power."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from sspcab_bench.caveats import about_load, about_machine, about_throttling
from sspcab_bench.load import Load, load_between, read_cpu_times
from sspcab_bench.machine import PROC, ROOT, SYS, read_machine
from sspcab_bench.sensors import Sensors, Watch, Watched, summarise_samples

__all__ = ["Surroundings"]


class Surroundings:
    """Looks before, while and after something is measured. A context manager, for one use.

    ::

        with Surroundings() as around:
            measure()
        print(around.warnings())

    Attributes:
        machine: As it was before.
        load: What else ran meanwhile; None until the end, and where the kernel does not say.
        watched: What sensors said meanwhile; None until the end.

    Args:
        proc: Where the kernel tells of processes. Also ``sys`` and ``root``: of another machine's tree.
    """

    def __init__(self, proc: Path = PROC, sys: Path = SYS, root: Path = ROOT) -> None:
        self._proc = proc
        self.machine = read_machine(proc, sys, root)
        self.load: Load | None = None
        self.watched: Watched | None = None
        self._watch = Watch(Sensors(sys))
        self._before = read_cpu_times(proc)

    def __enter__(self) -> Surroundings:
        self._watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.__exit__(kind, error, trace)
        self.load = load_between(self._before, read_cpu_times(self._proc))
        self.watched = summarise_samples(self._watch.samples)

    def warnings(self, threads: int | None = None) -> list[str]:
        """What a reader has to know of it; ``threads`` are those of one inference, where that was told."""
        throttling = [] if self.watched is None else about_throttling(self.watched)
        return [*about_machine(self.machine, threads), *about_load(self.load), *throttling]
