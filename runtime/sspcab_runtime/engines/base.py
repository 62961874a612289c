"""What all engines share: ports and inputs checked, clocks, warm-up, closing."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np

from sspcab_edge.errors import EngineError, InputError, OptionError
from sspcab_edge.ports import Array, Port, check_inputs
from sspcab_runtime.machine import PROC, cpu_device

__all__ = ["GraphEngine", "GraphPort"]


@dataclass(frozen=True, slots=True)
class GraphPort:
    """A port as a loaded graph describes it: names it answers to, NumPy dtype, sizes (None where free)."""

    names: frozenset[str]
    dtype: str
    shape: tuple[int | None, ...]


class GraphEngine(ABC):
    """An artifact loaded on a backend. Implements :class:`sspcab_edge.protocols.Engine`.

    Construction ends with one inference on zeros: the first one allocates memory and picks kernels, which
    takes many times longer than those that follow, and what cannot run at all fails here and not on the
    first camera frame.

    A backend sets the class attributes and implements the six methods below :meth:`close`. Any number of
    threads may share an engine: their calls take turns, and each gets its own results and clocks. An engine
    belongs to the process that made it: in one that was forked off, and as a pickle, it says so.

    Attributes:
        settings: What was set that verdicts may depend on, in words: the hint, unless a backend knows better.
            What was proved for one of them says nothing of another.

    Args:
        path: The file to load.
        inputs: Ports the graph must have.
        outputs: Ports the graph must have.
        precision: Of the artifact, as in ``fp32``.
        threads: For one inference; None leaves it to the backend.
        hint: What the backend computes in where the graph names no lower precision, by the backend's own name
            for it (:attr:`hints`); None is what the export judged.
        single: Only one entry of the batch will be asked for in a call. A backend that computes faster for a
            size that it knows may then take no more; :attr:`max_batch` says so.
        proc: Root of ``/proc``.

    Raises:
        MissingPackageError: The backend's package is not installed.
        EngineError: The backend refuses the graph, or its ports are not those asked for.
        OptionError: ``threads`` is less than 1, or the backend has no such hint.
    """

    backend: str
    targets: tuple[str, ...]
    package: str
    extra: str
    hints: tuple[str, ...] = ()
    version: str

    def __init__(
        self,
        path: Path,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        *,
        precision: str,
        threads: int | None = None,
        hint: str | None = None,
        single: bool = False,
        proc: Path = PROC,
    ) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"threads is {threads}, expected 1 or more")
        if hint is not None and hint not in self.hints:
            known = ", ".join(self.hints) or "none"
            raise OptionError(f"{self.backend} has no precision hint {hint!r}: expected {known}")
        self.path = path
        self.inputs: Sequence[Port] = tuple(inputs)
        self.outputs: Sequence[Port] = tuple(outputs)
        self.device = cpu_device(proc)
        self.settings = hint or ""
        self._single = single
        self._most: int | None = None
        self._clocks = threading.local()
        self._turn = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._load(precision, threads, hint)
        try:
            self._check_ports("input", self.inputs, self._graph_inputs())
            self._check_ports("output", self.outputs, self._graph_outputs())
            self._warm_up()
        except BaseException:
            self.close()
            raise

    @property
    def max_batch(self) -> int | None:
        """Largest N: what a port or the backend fixes it to, or None where it is free."""
        sizes = [self._most, *(port.shape[0] for port in self.inputs if port.shape)]
        return min((size for size in sizes if isinstance(size, int)), default=None)

    @property
    def stages_ms(self) -> Mapping[str, float]:
        """Clocks of the calling thread's latest :meth:`infer`, in milliseconds: ``copy_in``, ``infer``,
        ``copy_out``. Waiting for other threads is part of none."""
        stages: Mapping[str, float] = getattr(self._clocks, "stages_ms", {})
        return stages

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Run the graph once; the arrays it gives stay valid. Callers on several threads take turns.

        Raises:
            InputError: Names, dtypes or shapes do not fit the ports.
            EngineError: The backend failed, or the engine is closed or of another process.
        """
        if os.getpid() != self._process:  # a fork copies neither the backend's threads nor a free lock
            raise EngineError(
                f"the {self.backend} engine of {self.path} was opened before this process was forked: open "
                "it in the process that uses it, or start that one with the method spawn"
            )
        self._require_open()
        begun = time.perf_counter()
        check_inputs(self.inputs, inputs)
        if self._most is not None and any(len(array) > self._most for array in inputs.values()):
            raise InputError(f"the {self.backend} engine of {self.path} takes {self._most} entry a call")
        contiguous = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        checking = time.perf_counter() - begun
        with self._turn:
            self._require_open()
            start = time.perf_counter()
            self._copy_in(contiguous)
            copied = time.perf_counter()
            self._run()
            ran = time.perf_counter()
            outputs = self._copy_out()
            end = time.perf_counter()
        self._clocks.stages_ms = {
            "copy_in": (checking + copied - start) * 1e3,
            "infer": (ran - copied) * 1e3,
            "copy_out": (end - ran) * 1e3,
        }
        return outputs

    def close(self) -> None:
        """Release the backend's resources, after the call that runs; closing twice is fine.

        In a process that was forked off nothing is released: the resources are those of the first one.
        """
        if os.getpid() != self._process:
            return
        with self._turn:
            if not self._closed:
                self._closed = True
                self._release()

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError(f"the {self.backend} engine of {self.path} is closed")

    def __reduce__(self) -> NoReturn:
        raise EngineError(
            f"the {self.backend} engine of {self.path} cannot be pickled or copied: open the bundle in the "
            "process that uses it"
        )

    def __enter__(self) -> GraphEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _load(self, precision: str, threads: int | None, hint: str | None) -> None:
        """Import the backend, load :attr:`path`, set :attr:`version`.

        One that is built for a single entry because ``_single`` is set says so in ``_most``.
        """

    @abstractmethod
    def _graph_inputs(self) -> Sequence[GraphPort]:
        """Inputs as the loaded graph has them."""

    @abstractmethod
    def _graph_outputs(self) -> Sequence[GraphPort]:
        """Outputs as the loaded graph has them."""

    @abstractmethod
    def _copy_in(self, inputs: Mapping[str, Array]) -> None:
        """Hand over contiguous, checked arrays."""

    @abstractmethod
    def _run(self) -> None:
        """Run the graph on what was handed over."""

    @abstractmethod
    def _copy_out(self) -> Mapping[str, Array]:
        """Results by port name, in memory that the next run does not touch."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the backend's objects."""

    def _check_ports(self, kind: str, ports: Sequence[Port], graph: Sequence[GraphPort]) -> None:
        """Raise EngineError unless the graph has exactly ``ports``."""
        wanted = [port.name for port in ports]
        got = sorted(min(port.names, default="(unnamed)") for port in graph)
        if len(graph) != len(ports):
            raise EngineError(f"{self.path} has {kind}s {got}, expected {wanted}")
        for port in ports:
            match = next((candidate for candidate in graph if port.name in candidate.names), None)
            if match is None:
                raise EngineError(f"{self.path} has {kind}s {got}, expected {wanted}")
            if match.dtype != port.dtype:
                raise EngineError(
                    f"{kind} {port.name} of {self.path} is {match.dtype}, expected {port.dtype}"
                )
            if len(match.shape) != len(port.shape) or not all(map(_size_fits, port.shape, match.shape)):
                raise EngineError(
                    f"{kind} {port.name} of {self.path} has shape {match.shape}, expected {port.shape}"
                )

    def _warm_up(self) -> None:
        zeros = {
            port.name: np.zeros([1 if isinstance(size, str) else size for size in port.shape], port.dtype)
            for port in self.inputs
        }
        outputs = self.infer(zeros)
        for port in self.outputs:
            array = outputs[port.name]
            if array.dtype.name != port.dtype or not port.fits(array.shape):
                raise EngineError(
                    f"output {port.name} of {self.path} is {array.dtype.name} {array.shape}, "
                    f"expected {port.dtype} {port.shape}"
                )


def _size_fits(wanted: int | str, got: int | None) -> bool:
    """A size asked for by name must be free in the graph; one asked for by number may be."""
    return got is None if isinstance(wanted, str) else got in (wanted, None)
