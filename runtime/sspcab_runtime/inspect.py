"""Showing what is in a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from sspcab_edge.bundle import Bundle
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.front_end_spec import Registration
from sspcab_edge.manifest import Decision, Manifest, Rounding
from sspcab_edge.ports import Port
from sspcab_runtime.engines.table import backends_for
from sspcab_runtime.frontends.tiles import Tiles
from sspcab_runtime.frontends.zones import read_inside
from sspcab_runtime.tables import number, table

__all__ = ["describe"]


def describe(bundle: Bundle) -> str:
    """A bundle in words, for a terminal."""
    return "\n".join(_lines(bundle))


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    model = manifest.model
    facts = [
        ("bundle", f"{bundle.path}  (every file checked)"),
        ("digest", bundle.digest),
        ("release", f"{manifest.release}, made {manifest.created}"),
        ("model", f"{model.name}, host {manifest.host}, digest {model.digest[:16]}"),
        *[("source", f"{entry.path} ({entry.size} bytes)") for entry in model.source],
        *[("override", f"{name} = {value}") for name, value in sorted(model.overrides.items())],
        *[("assumed", text) for text in model.assumptions],
        *[("input", _port(port)) for port in manifest.inputs],
        *[("output", _port(port)) for port in manifest.outputs],
        ("frames", _preprocess(manifest)),
        *_front_end(bundle),
        ("decision", _decision(manifest.decision)),
        *([] if manifest.rounding is None else [("rounding", _rounding(manifest.rounding))]),
        ("parity pack", f"{manifest.parity_pack.inputs} inputs"),
        ("made with", ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))),
    ]
    yield from table(("", ""), facts).splitlines()[1:]
    yield ""
    yield _blocks(manifest)
    yield ""
    yield _artifacts(manifest)
    yield ""
    yield _files(manifest)


def _port(port: Port) -> str:
    shape = ", ".join(str(size) for size in port.shape)
    return f"{port.name}: {port.dtype} ({shape}) {port.layout} {port.colour or ''}".rstrip()


def _preprocess(manifest: Manifest) -> str:
    size = manifest.preprocess
    deep = "" if size.bit_depth == 16 else f", {size.bit_depth} bits in use in images of 16"
    if manifest.front_end.tiles is not None:
        return f"{manifest.front_end.kind}, cut into {size.width}x{size.height}{deep}"
    return f"{manifest.front_end.kind}, resized to {size.width}x{size.height} by {size.resize}{deep}"


def _front_end(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """What is done with a frame before that, and which part of it is judged."""
    manifest = bundle.manifest
    spec = manifest.front_end
    if spec.frame is not None:
        yield "frame size", f"{spec.frame.width}x{spec.frame.height}, others are resized to it"
    if spec.registration is not None:
        yield "registered", _registration(spec.registration)
    if spec.region is not None:
        box = spec.region
        yield "region", f"{box.width}x{box.height} at ({box.left}, {box.top})"
    if spec.zones or spec.mask is not None:
        inside = read_inside(spec, bundle.path)
        share = 1.0 if inside is None else float(inside.mean())
        zones = "1 zone" if len(spec.zones) == 1 else f"{len(spec.zones)} zones"
        by = [zones] if spec.zones else []
        by += [f"mask {spec.mask}"] if spec.mask is not None else []
        text = f"{share:.1%} of it, by {' and '.join(by)}"
        yield "judged", text if manifest.score else f"{text}; what is judged in part counts whole"
    if spec.tiles is not None:
        tiles = Tiles(manifest, manifest.artifacts[0], None, bundle.path)
        columns, rows = len(tiles.columns), len(tiles.rows)
        levels = ", each with its own level" if spec.tiles.levels else ""
        yield (
            "tiles",
            f"{columns}x{rows}, overlapping by {spec.tiles.overlap} or more with a margin of "
            f"{spec.tiles.margin}; {len(tiles.numbers)} of {columns * rows} looked at, at most "
            f"{spec.tiles.batch} a call{levels}",
        )


def _registration(spec: Registration) -> str:
    turn = f" and {spec.max_angle:g} degrees" if spec.motion == "rotation" else ""
    return (
        f"to {spec.reference}, up to {spec.max_shift:g} pixels{turn} away, correlation "
        f"{spec.min_correlation:g} or more"
    )


def _rounding(own: Rounding) -> str:
    heat = "" if own.map is None else f", maps by up to {own.map:.2g}"
    trust = "" if own.trusted else "; verdicts depend on the machine"
    return f"alone it moves the model's scores by up to {own.score:.2g}{heat}{trust}"


def _decision(decision: Decision) -> str:
    if decision.threshold is None:
        text = "no threshold: scores without labels (fit one with sspcab-edge fit BUNDLE DIR)"
    else:
        parameter = "" if decision.parameter is None else f" {decision.parameter:g}"
        text = (
            f"anomalous above {decision.threshold:.6g} ({decision.policy}{parameter}, "
            f"fitted on {decision.fitted_on} pictures)"
        )
    if decision.normal is not None:
        spread = decision.normal
        text += f"; normal scores {spread.minimum:.4g} to {spread.maximum:.4g}, median {spread.median:.4g}"
    return text if decision.note is None else f"{text}; {decision.note}"


def _blocks(manifest: Manifest) -> str:
    if not manifest.blocks:
        return "no SSPCAB block"
    header = ("block", "dialect", "k", "d", "reduction", "channels", "form")
    rows = [
        (b.path, b.dialect, str(b.kernel), str(b.dilation), str(b.reduction), str(b.channels), b.form)
        for b in manifest.blocks
    ]
    return table(header, rows, right=(2, 3, 4, 5))


def _artifacts(manifest: Manifest) -> str:
    header = ("artifact", "runs on", "bytes", "inputs", "flips", "score diff", "map diff", "AUROC")
    rows = []
    for artifact in manifest.artifacts:
        parity = artifact.parity
        rows.append(
            (
                artifact.name,
                "/".join(backends_for(artifact.target)),
                str(artifact.size_bytes),
                f"{parity.pictures} {parity.scene}",
                "-" if parity.flips is None else str(parity.flips),
                number(parity.max_abs_score_diff, 2),
                number(parity.max_abs_map_diff, 2),
                number(parity.auroc_artifact),
            )
        )
    return table(header, rows, right=(2, 4, 5, 6, 7)) + "\n(parity as measured at export)"


def _files(manifest: Manifest) -> str:
    """Every file with the beginning of its hash; the many of the parity pack in one line."""
    pack = [entry for entry in manifest.files if entry.path.startswith("parity/")]
    rows = [(e.path, str(e.size), e.sha256[:16]) for e in manifest.files if e not in pack]
    rows.append((f"parity/ ({len(pack)} files)", str(sum(entry.size for entry in pack)), ""))
    return table(("file", "bytes", "sha256"), rows, right=(1,))


@click.command("inspect")
@click.argument("bundle", type=PATH)
@json_option
@common_options
def command(bundle: Path, as_json: bool) -> None:
    """Check every file of BUNDLE against its manifest, and show what is in it."""
    opened = Bundle.open(bundle)
    if not as_json:
        click.echo(describe(opened))
        return
    plain = {
        "schema": 1,
        "bundle": str(opened.path),
        "digest": opened.digest,
        "manifest": msgspec.to_builtins(opened.manifest),
    }
    click.echo(msgspec.json.encode(plain).decode())
