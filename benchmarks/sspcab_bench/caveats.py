"""What a reader has to know before he believes a figure, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable

from sspcab_bench.artifact import Measured
from sspcab_bench.figures import figure
from sspcab_bench.load import Load
from sspcab_bench.machine import Machine
from sspcab_bench.sensors import Watched
from sspcab_bench.summary import COV_LIMIT, Statistics

__all__ = [
    "about_bounds",
    "about_load",
    "about_machine",
    "about_order",
    "about_stability",
    "about_throttling",
]

OTHER_CORES = 0.2
"""Load by other processes that is worth a warning, in cores."""

STEAL_CORES = 0.05
"""Time taken by the hypervisor that is worth a warning, in cores."""


COPY_SHARE = 0.25
"""Time of copies, over that of the inference, that is worth a warning."""

IMPOSSIBLE = 1.05
"""Frames a second of the stream, over those of its engine alone, that nothing but a disturbance explains."""


def about_machine(machine: Machine, threads: int | None) -> list[str]:
    """Settings of the machine under which figures are not what the hardware can do."""
    warnings = []
    slower = [governor for governor in machine.governors if governor != "performance"]
    if slower:
        warnings.append(
            f"the frequency governor is {', '.join(slower)}, not performance: clocks follow the load, "
            "and so do these figures"
        )
    if threads is None and machine.usable_cores < machine.affinity_cores:
        warnings.append(
            f"control groups allow {machine.cpu_limit:.3g} of {machine.affinity_cores} cores, which backends "
            f"do not know: give --threads {machine.usable_cores}"
        )
    return warnings


def about_load(load: Load | None) -> list[str]:
    """What else ran meanwhile."""
    warnings = []
    if load is not None and load.other_cores > OTHER_CORES:
        warnings.append(
            f"other processes kept {load.other_cores:.1f} cores busy meanwhile: these figures are too slow"
        )
    if load is not None and load.steal_cores > STEAL_CORES:
        warnings.append(
            f"the hypervisor took {load.steal_cores:.2f} cores away meanwhile: these figures are too slow"
        )
    return warnings


def about_throttling(watched: Watched) -> list[str]:
    """What the hardware says of having slowed itself down."""
    if not watched.throttled:
        return []
    events = watched.throttle_events
    causes = [*watched.cooling, *([f"{events} over-current events"] if events else [])]
    return [f"the hardware throttled: {', '.join(causes)}"]


def about_stability(series: Iterable[tuple[str, Statistics]]) -> list[str]:
    """Named series that vary more than a steady machine's would."""
    return [
        f"{name} is unstable: coefficient of variation {statistics.cov:.0%}, stable up to {COV_LIMIT:.0%} "
        f"(median {figure(statistics.p50)} ms, longest {figure(statistics.max)} ms)"
        for name, statistics in series
        if not statistics.stable
    ]


def about_bounds(results: Iterable[Measured]) -> list[str]:
    """Where frames a second do not follow the engine, but what is done around it."""
    warnings = []
    for result in results:
        means = {stage: statistics.mean for stage, statistics in result.stages.items()}
        ahead = means.get("decode", 0.0) + means.get("prepare", 0.0)
        copies = means.get("copy_in", 0.0) + means.get("copy_out", 0.0)
        infer = means.get("infer", 0.0)
        on = f"{result.artifact} on {result.backend}"
        if ahead > infer:
            warnings.append(
                f"{on} is decode-bound: decoding and preparing take {figure(ahead)} ms, "
                f"the engine {figure(infer)} ms"
            )
        if copies > COPY_SHARE * infer:
            warnings.append(
                f"{on} is copy-bound: copies take {figure(copies)} ms, the engine {figure(infer)} ms"
            )
    return warnings


def about_order(results: Iterable[Measured]) -> list[str]:
    """Figures that cannot both be right: a stream is no faster than its engine."""
    return [
        f"{result.artifact} on {result.backend}: the stream was faster ({figure(result.fps)} frames a "
        f"second) than the engine alone ({figure(result.engine_fps)}), so the machine changed its speed in "
        "between"
        for result in results
        if result.fps > IMPOSSIBLE * result.engine_fps
    ]
