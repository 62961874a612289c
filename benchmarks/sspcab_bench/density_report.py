"""The report of the density suite, as JSON and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sspcab_bench.density import Density, DensityOptions, carried, own_cpu_ms
from sspcab_bench.machine import Machine
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_runtime.tables import table

__all__ = ["density_json", "density_text"]


def density_json(
    bundle: Bundle,
    found: Density,
    options: DensityOptions,
    around: Surroundings,
    *,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """Frames a second, milliseconds and cores, as the keys say."""
    return {
        **head_json(around, bundle),
        "fps": options.fps,
        "width": options.width,
        "height": options.height,
        "carries": found.carries,
        "limit": found.limit,
        "alone": asdict(found.alone),
        "results": [
            {**asdict(fleet), "own_cpu_ms": own_cpu_ms(fleet, found.alone), "carried": carried(fleet)}
            for fleet in found.fleets
        ],
        "warnings": list(warnings),
    }


def density_text(
    bundle: Bundle, found: Density, options: DensityOptions, machine: Machine, *, warnings: Sequence[str]
) -> str:
    """For a terminal."""
    rows = [
        (
            str(fleet.cameras), f"{fleet.cameras * fleet.fps:.0f}", f"{fleet.captured_fps:.1f}",
            f"{fleet.served_fps:.1f}", str(fleet.dropped), f"{fleet.age_p99_ms:.0f}",
            *(f"{cores:.2f}" for cores in fleet.cores.values()),
            f"{own_cpu_ms(fleet, found.alone):.2f}", "yes" if carried(fleet) else "no",
        )
        for fleet in found.fleets
    ]  # fmt: skip
    first, alone = found.fleets[0], found.alone
    kind = f"{options.width}x{options.height} H.264 at {options.fps:g} frames a second"
    answer = (
        f"{found.carries} cameras of {kind}"
        if found.carries
        else f"not even {first.cameras} cameras of {kind}"
    )
    return "\n".join(
        [
            title(bundle),
            *machine_lines(machine),
            "",
            f"the daemon with {first.artifact} on {first.backend}; cores kept busy by its parts; own: CPU "
            "outside of decoder and engine",
            table(
                ("cameras", "sent/s", "decoded/s", "judged/s", "dropped", "age p99 ms",
                 *(f"{part} cores" for part in first.cores), "own ms/frame", "carried"),
                rows,
                right=range(10),
            ),
            "",
            f"alone   decoder {alone.decode_fps:.1f} frames a second ({alone.decode_cpu_ms:.1f} ms CPU), "
            f"engine {alone.engine_fps:.1f} ({alone.engine_cpu_ms:.1f} ms CPU)",
            f"carries {answer}",
            f"limit   {found.limit}",
            *warning_lines(warnings),
        ]
    )  # fmt: skip
