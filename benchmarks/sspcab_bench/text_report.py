"""Reports of all suites for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from sspcab_bench.artifact import Measured
from sspcab_bench.block_suite import BlockComparison, geometric_means
from sspcab_bench.figures import figure
from sspcab_bench.jetson import JetsonFacts
from sspcab_bench.machine import Machine
from sspcab_bench.summary import Interval, Statistics
from sspcab_bench.tuned_suite import LIMIT, TunedComparison
from sspcab_edge.bundle import Bundle
from sspcab_runtime.tables import number, table

__all__ = [
    "block_text",
    "bundle_text",
    "interval_text",
    "machine_lines",
    "title",
    "tuned_text",
    "warning_lines",
]


def bundle_text(
    bundle: Bundle, results: Sequence[Measured], machine: Machine, *, source: str, warnings: Sequence[str]
) -> str:
    """The report of the bundle suite, for a terminal."""
    names = [(result.artifact, f"{result.backend} {_short(result.version)}") for result in results]
    speed = table(
        ("artifact", "backend", "threads", "streams", "batch", "fps", "engine fps", "mean ms", "p50", "p90",
         "p95", "p99", "max", "CoV"),
        [
            (*name, "auto" if result.threads is None else str(result.threads), str(result.streams),
             str(result.batch), figure(result.fps),
             figure(result.engine_fps), *_latency_cells(result.latency), f"{result.latency.cov:.1%}")
            for name, result in zip(names, results, strict=True)
        ],
        right=range(2, 14),
    )  # fmt: skip
    stages = list(dict.fromkeys(stage for result in results for stage in result.stages))
    parts = table(
        ("artifact", "backend", *stages),
        [
            (*name, *(_mean(result.stages.get(stage)) for stage in stages))
            for name, result in zip(names, results, strict=True)
        ],
        right=range(2, 2 + len(stages)),
    )
    costs = table(
        ("artifact", "backend", "load s", "first infer ms", "peak RSS MiB", "frames", "checked",
         "score diff", "mJ a frame"),
        [
            (*name, figure(result.load_s), figure(result.first_infer_ms), figure(result.peak_rss_mb),
             str(result.latency.count), f"{result.checked} of {result.inputs}",
             number(result.max_abs_score_diff, 2), figure(result.energy_per_frame_mj))
            for name, result in zip(names, results, strict=True)
        ],
        right=range(2, 9),
    )  # fmt: skip
    return "\n".join(
        [
            title(bundle),
            *machine_lines(machine),
            "",
            f"latency of one frame at a time on {source}, from decoding to verdict; fps: stages overlapped",
            speed,
            "",
            "mean ms of its stages",
            parts,
            *_objects(results),
            "",
            "start, memory, and verdicts compared with the source's",
            costs,
            *warning_lines(warnings),
        ]
    )


def _objects(results: Sequence[Measured]) -> list[str]:
    """Objects in the frames that were judged, of the first result: they are the same for all."""
    frames = next((result.objects for result in results if result.objects), None)
    if frames is None:
        return []
    total = sum(frames.values())
    mean = sum(count * own for count, own in frames.items()) / total
    widest = max(frames.values())
    lines = [f"{n:>5}  {own:>7}  {'#' * max(1, round(40 * own / widest))}" for n, own in frames.items()]
    return ["", f"objects in a frame: {mean:.1f} on average, {max(frames)} at most", "count   frames", *lines]


def block_text(comparisons: Sequence[BlockComparison], machine: Machine, *, warnings: Sequence[str]) -> str:
    """The report of the block suite, for a terminal."""
    forms = list(
        dict.fromkeys(measured.form for comparison in comparisons for measured in comparison.measured)
    )
    rows = []
    for comparison in comparisons:
        p50 = {measured.form: measured.latency.p50 for measured in comparison.measured}
        medians = [figure(p50.get(form)) for form in forms]
        rows.append(
            (comparison.backend, str(comparison.shape), *medians, f"{comparison.speed_up.median:.2f}",
             interval_text(comparison.speed_up), str(comparison.rounds), f"{comparison.difference:.1e}")
        )  # fmt: skip
    speed = table(
        ("backend", "C@HxW", *(f"{form} ms" for form in forms), "speed-up", "95 % interval", "rounds",
         "difference"),
        rows,
        right=range(2, 6 + len(forms)),
    )  # fmt: skip
    means = [f"{backend}: {mean:.2f}" for backend, mean in geometric_means(comparisons).items()]
    dialects = ", ".join(sorted({comparison.dialect for comparison in comparisons}))
    threads = ", ".join(sorted({str(comparison.threads) for comparison in comparisons}))
    return "\n".join(
        [
            f"forms of the block: dialect {dialects}, k 1, d 1, fp32, batch 1, threads {threads}",
            *machine_lines(machine),
            "",
            "median ms, forms in turns; speed-up: reference over folded, median of the rounds' ratios",
            speed,
            "",
            f"geometric mean of the speed-ups  {', '.join(means)}",
            *warning_lines(warnings),
        ]
    )


def tuned_text(
    bundle: Bundle, comparison: TunedComparison, machine: Machine, *, warnings: Sequence[str]
) -> str:
    """The report of the tuning suite, for a terminal."""
    tuned = comparison.tuned
    rows = [
        (
            str(row.setting), figure(row.ms), "-" if row.fps is None else f"{row.fps:.1f}",
            figure(comparison.costs_ms.get(row.setting)),
            row.state if row.reason is None else f"{row.state}: {row.reason}",
        )
        for row in tuned.rows
    ]  # fmt: skip
    cost = "ms" if tuned.objective == "latency" else "ms/frame"
    ratio = comparison.median
    return "\n".join(
        [
            title(bundle),
            *machine_lines(machine),
            "",
            f"tuned for {tuned.objective}: ms and frames/s as tuning saw them, {cost} measured with patience",
            table(("setting", "ms", "frames/s", f"patient {cost}", "state"), rows, right=range(1, 4)),
            "",
            f"tuned   {tuned.chosen}",
            f"best    {comparison.best}",
            f"ratio   median {ratio.median:.3f}, 95 % interval {interval_text(ratio, 3)}, "
            f"mean {comparison.mean:.3f} of {len(comparison.pairs)} pairs",
            f"tuning  {'holds' if comparison.holds else 'fails'}: allowed up to {LIMIT:.2f}",
            *warning_lines(warnings),
        ]
    )


def title(bundle: Bundle) -> str:
    """Which bundle."""
    manifest = bundle.manifest
    size = f"{manifest.preprocess.width}x{manifest.preprocess.height}"
    return (
        f"{bundle.path}: {manifest.model.name}, host {manifest.host}, {size}, release {manifest.release}, "
        f"digest {bundle.digest[:12]}"
    )


def machine_lines(machine: Machine) -> list[str]:
    """Hardware and software, a line each."""
    hardware = [
        machine.board,
        machine.cpu,
        f"{machine.usable_cores} of {machine.logical_cores} cores",
        " ".join(machine.flags),
        *(f"governor {governor}" for governor in machine.governors),
        None if machine.clock_mhz is None else f"{machine.clock_mhz:.0f} MHz",
        None if machine.memory_mb is None else f"{machine.memory_mb} MiB",
        *machine.gpus,
    ]
    software = [
        machine.system,
        f"kernel {machine.kernel}",
        machine.container and f"in {machine.container}",
        f"Python {machine.python}",
    ]
    packages = [f"{name} {version}" for name, version in machine.packages.items()]
    groups = (hardware, _jetson_facts(machine.jetson), software, packages)
    return [", ".join(filter(None, facts)) for facts in groups if facts]


def _jetson_facts(jetson: JetsonFacts | None) -> list[str]:
    """What figures of a Jetson depend on, in words; what it does not tell is said to be unknown."""
    if jetson is None:
        return []
    pinned = {True: "clocks pinned", False: "clocks not pinned (jetson_clocks)", None: "clocks unknown"}
    return [
        f"Jetson Linux {jetson.l4t or 'unknown'}",
        f"JetPack {jetson.jetpack or 'unknown'}",
        f"power mode {jetson.power_mode or 'unknown'}",
        pinned[jetson.clocks_pinned],
    ]


def warning_lines(warnings: Sequence[str]) -> list[str]:
    """Warnings, below an empty line."""
    return ["", *(f"warning: {warning}" for warning in warnings)] if warnings else []


def _latency_cells(statistics: Statistics) -> list[str]:
    s = statistics
    return [figure(value) for value in (s.mean, s.p50, s.p90, s.p95, s.p99, s.max)]


def _mean(statistics: Statistics | None) -> str:
    return "-" if statistics is None else f"{statistics.mean:.3f}"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """Its ends; ``-`` where there were too few values."""
    if interval.low is None or interval.high is None:
        return "-"
    return f"{interval.low:.{digits}f} - {interval.high:.{digits}f}"


def _short(version: str) -> str:
    """A version without the build that OpenVINO appends."""
    return version.partition("-")[0]
