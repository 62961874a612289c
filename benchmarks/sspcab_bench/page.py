"""Reports as one HTML page that needs nothing beside it, and as Markdown; both read the JSON of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from sspcab_bench.figures import figure
from sspcab_bench.inputs import PACK
from sspcab_bench.plots import bars, curve, distribution, key, scatter

__all__ = ["html_page", "markdown"]

_FIGURES = ("mean", "p50", "p90", "p95", "p99", "max")


_CHECKED = {
    True: "Every verdict was compared with the source's while it was timed.",
    False: "The parity pack was replayed before, and its verdicts compared with the source's.",
}
"""What was checked, by whether frames came from the parity pack."""


def html_page(reports: Sequence[Mapping[str, Any]]) -> str:
    """One page of reports of the bundle suite and of sustained runs, in their order."""
    names = [str(report.get("bundle", {}).get("name", "")) for report in reports]
    title = f"Benchmark of {', '.join(dict.fromkeys(name for name in names if name)) or 'a detector'}"
    css = files("sspcab_bench").joinpath("page.css").read_text(encoding="utf-8")
    parts = [part for report in reports for part in _sections(report)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def _sections(report: Mapping[str, Any]) -> list[str]:
    parts = [_facts(report)]
    parts += [f'<p class="warning">{escape(str(warning))}</p>' for warning in report["warnings"]]
    if report["results"] and "gaps" in report["results"][0]:
        return [*parts, *_sustained(report)]
    return [*parts, *_bundle(report)]


def _facts(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    cores = f"{machine['usable_cores']} of {machine['logical_cores']} cores"
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    hardware = ", ".join(
        str(fact)
        for fact in (machine["board"], machine["cpu"], cores, *machine["governors"], *machine["gpus"])
        if fact
    )
    bundle = report.get("bundle", {})
    what = (
        f"{bundle.get('name')}, host {bundle.get('host')}, {bundle.get('width')}x{bundle.get('height')}, "
        f"release {bundle.get('release')}, digest {str(bundle.get('digest'))[:12]}"
    )
    software = f"{machine['system']}, kernel {machine['kernel']}, Python {machine['python']}; {packages}"
    lines = (what, hardware, *_jetson(machine.get("jetson")), software, f"made {report['created']}")
    return f'<p class="soft">{"<br>".join(escape(str(line)) for line in lines)}</p>'


def _jetson(facts: Mapping[str, Any] | None) -> list[str]:
    if facts is None:
        return []
    told = {
        "Jetson Linux": facts["l4t"],
        "JetPack": facts["jetpack"],
        "power mode": facts["power_mode"],
        "clocks pinned": {True: "yes", False: "no"}.get(facts["clocks_pinned"]),
    }
    return [", ".join(f"{name} {value or 'unknown'}" for name, value in told.items())]


def _name(result: Mapping[str, Any]) -> str:
    how = [
        f"{result[key]} {key}"
        for key, usual in (("threads", None), ("streams", 1), ("batch", 1))
        if result[key] != usual
    ]
    return ", ".join([f"{result['target']}-{result['precision']} on {result['backend']}", *how])


def _accuracy(results: Sequence[Mapping[str, Any]]) -> tuple[str, list[float]]:
    """What stands for accuracy: AUROC where all have it, else the pictures whose verdict is the source's."""
    judged = [result["judged"] for result in results]
    if all(one["auroc_artifact"] is not None for one in judged):
        return "image AUROC", [one["auroc_artifact"] for one in judged]
    return "% of verdicts as the source's", [
        100 * (1 - one["flips"] / max(1, one["pictures"])) for one in judged
    ]


def _bundle(report: Mapping[str, Any]) -> list[str]:
    results = report["results"]
    names = [_name(result) for result in results]
    stages = list(dict.fromkeys(stage for result in results for stage in result["stages_ms"]))
    what, accuracy = _accuracy(results)
    speed = [
        [name, figure(result["fps"]), figure(result["engine_fps"]),
         *(figure(result["latency_ms"][name]) for name in _FIGURES), f"{result['cov']:.1%}",
         figure(result["load_s"]), figure(result["first_infer_ms"]), figure(result["peak_rss_mb"])]
        for name, result in zip(names, results, strict=True)
    ]  # fmt: skip
    head = ["artifact", "fps", "engine fps", *(f"{figure} ms" for figure in _FIGURES), "CoV", "load s",
            "first ms", "MiB"]  # fmt: skip
    return [
        f"<h2>Speed on {escape(str(report['source']))}</h2>",
        '<p class="soft">Latency is of one frame at a time, from decoding to verdict; fps with stages '
        f"overlapped. {_CHECKED[report['source'] == PACK]}</p>",
        _table(head, speed),
        *_objects(results),
        '<div class="plots">',
        _figure_of("Latency, up to the 99th percentile",
                   distribution([result["histogram_ms"] for result in results], "latency"), names),
        _figure_of("Where the time goes, on average",
                   bars(dict(zip(names, (result["stages_ms"] for result in results), strict=True)), stages,
                        "ms", "stages"), stages),
        _figure_of("Speed against accuracy: right and up is better",
                   scatter([(result["fps"], value) for result, value in zip(results, accuracy, strict=True)],
                           ("frames a second", what), "speed against accuracy",
                           1.0 if what == "image AUROC" else 100.0), names),
        "</div>",
    ]  # fmt: skip


def _objects(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many objects the frames had, of the first result: they are the same for all."""
    found = next((result["objects"] for result in results if result.get("objects")), None)
    if found is None:
        return []
    head, row = ["objects in a frame", *found["frames"]], ["frames", *map(str, found["frames"].values())]
    return [f"<p>{found['mean']:.1f} objects in a frame on average.</p>", _table(head, [row])]


def _sustained(report: Mapping[str, Any]) -> list[str]:
    points = report["results"]
    plots = [
        _figure_of("Frames a second", curve([(p["at_s"], p["fps"]) for p in points],
                                            ("seconds", "frames a second"), "frames a second over time"))
    ]  # fmt: skip
    for field, label, colour in (
        ("hottest_c", "degrees Celsius", 1), ("clock_mhz", "MHz", 2), ("power_mw", "milliwatts", 3)
    ):  # fmt: skip
        series = [(p["at_s"], p[field]) for p in points if p[field] is not None]
        if series:
            plots.append(_figure_of(label.capitalize(), curve(series, ("seconds", label), label, colour)))
    energy = report["energy_per_frame_mj"]
    end = "" if energy is None else f" {energy:.1f} mJ a frame, idle power included."
    missing = "" if len(plots) > 1 else " This machine shows no temperature, clock or power."
    return [
        f"<h2>Sustained: {escape(report['artifact'])} on {escape(report['backend'])}</h2>",
        f"<p>First third {report['first_fps']:.1f} frames a second, "
        f"last third {report['last_fps']:.1f}.{end}{missing}</p>",
        f'<div class="plots">{"".join(plots)}</div>',
    ]


def _figure_of(caption: str, plot: str, names: Sequence[str] = ()) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{plot}{key(names) if names else ''}</figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def markdown(report: Mapping[str, Any]) -> str:
    """A report of the bundle suite, for a README or a ticket."""
    machine, bundle = report["machine"], report["bundle"]
    what, accuracy = _accuracy(report["results"])
    lines = [
        f"# {bundle['name']}: host {bundle['host']}, {bundle['width']}x{bundle['height']}",
        "",
        f"{machine['board'] or machine['cpu']}, "
        f"{machine['usable_cores']} of {machine['logical_cores']} cores, "
        f"{', '.join(f'{name} {version}' for name, version in machine['packages'].items())}. "
        f"Measured on {report['source']}, {report['created']}.",
        "",
        f"| artifact | MB | fps | engine fps | p50 ms | p95 ms | p99 ms | CoV | peak MiB | {what} |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result, value in zip(report["results"], accuracy, strict=True):
        latency = result["latency_ms"]
        cells = (
            _name(result), f"{result['judged']['size_bytes'] / 1e6:.1f}", figure(result["fps"]),
            figure(result["engine_fps"]), *(figure(latency[name]) for name in ("p50", "p95", "p99")),
            f"{result['cov']:.1%}", figure(result["peak_rss_mb"]), f"{value:.4g}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n* warning: {warning}" for warning in report["warnings"]]
    return "\n".join(lines) + "\n"
