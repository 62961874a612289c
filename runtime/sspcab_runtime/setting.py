"""How an artifact is run: on which backend, computing in what, with how many threads and streams."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sspcab_edge.bundle import Bundle
from sspcab_edge.manifest import Artifact
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.engines.table import open_engine
from sspcab_runtime.machine import read_cpu

__all__ = ["Setting", "open_engines"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run one artifact.

    Attributes:
        artifact: What runs.
        backend: What runs it.
        hint: What the backend computes in where the graph names no lower precision; None is what the export
            judged.
        threads: Of one inference. None leaves it to the backend; with several streams it shares the cores
            that this process may use among them.
        streams: Inferences at the same time, each on an engine of its own.
    """

    artifact: Artifact
    backend: str
    hint: str | None = None
    threads: int | None = None
    streams: int = 1

    def __str__(self) -> str:
        parts = [f"{self.artifact.name} on {self.backend}"]
        if self.hint is not None:
            parts.append(f"hint {self.hint}")
        if self.threads is not None:
            parts.append(f"threads {self.threads}")
        if self.streams > 1:
            parts.append(f"streams {self.streams}")
        return ", ".join(parts)

    @property
    def threads_each(self) -> int | None:
        """Threads that each engine is opened with."""
        if self.threads is not None or self.streams == 1:
            return self.threads
        return max(1, read_cpu().count // self.streams)


def open_engines(
    bundle: Bundle,
    setting: Setting,
    first: Callable[[GraphEngine], object] | None = None,
    *,
    single: bool = True,
) -> tuple[GraphEngine, ...]:
    """The engines of a setting, one per stream; ``first`` is called with the first before the others open.

    ``single`` says that no caller gathers several frames into one call.

    Raises:
        OptionError: The backend does not run the artifact or has no such hint, or ``threads`` < 1.
        MissingPackageError: The backend is not installed.
        EngineError: The backend refuses the artifact.
    """
    engines: list[GraphEngine] = []
    with ExitStack() as opened:
        for number in range(setting.streams):
            engine = open_engine(
                bundle,
                setting.artifact,
                backend=setting.backend,
                threads=setting.threads_each,
                hint=setting.hint,
                single=single,
            )
            engines.append(opened.enter_context(engine))
            if number == 0 and first is not None:
                first(engine)
        opened.pop_all()
    return tuple(engines)
