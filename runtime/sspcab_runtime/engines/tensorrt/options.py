"""What a plan is built for: batch sizes, memory and effort."""

from __future__ import annotations

from dataclasses import dataclass

from sspcab_edge.errors import OptionError

__all__ = ["PlanOptions"]

_MAX_LEVEL = 5


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of a plan; each is part of the key it is cached by.

    Attributes:
        min_batch: Smallest N of the profile, where the graph leaves N free.
        opt_batch: The N that the plan is tuned for.
        max_batch: Largest N; buffers are allocated for it once.
        workspace_mb: Scratch memory that a layer may ask for, in MiB.
        optimization_level: 0 (quick build) to 5 (slow build, fastest plan).

    Raises:
        OptionError: Not 1 <= min <= opt <= max, no workspace, or no such level.
    """

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 4
    workspace_mb: int = 1024
    optimization_level: int = 3

    def __post_init__(self) -> None:
        sizes = (self.min_batch, self.opt_batch, self.max_batch)
        if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
            raise OptionError(f"the batch profile is {sizes}, expected 1 <= min <= opt <= max")
        if self.workspace_mb < 1:
            raise OptionError(f"the workspace is {self.workspace_mb} MiB, expected 1 or more")
        if not 0 <= self.optimization_level <= _MAX_LEVEL:
            raise OptionError(
                f"the optimization level is {self.optimization_level}, expected 0 to {_MAX_LEVEL}"
            )
