"""Copies a bundle with a few parity inputs and only the artifacts that are asked for, in that order.

    python tests/other_cpus/thin_bundle.py BUNDLE OUTPUT --inputs 6 --artifact onnx-int8 --artifact onnx-fp32

An emulated CPU takes seconds to minutes for an input, so that the whole pack cannot be replayed there. Half
of what is kept are blends near the threshold, from both sides of it in turn; the rest are pictures, spread
over their scores. The flips that a replay may show shrink with the pack (rounded up); tolerances of scores
and maps stay. The order of the artifacts is what the runtime tries them in.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

import click
import msgspec

from sspcab_edge.bundle import Bundle, check_output, staging, write_bundle
from sspcab_edge.errors import EdgeError, OptionError
from sspcab_edge.manifest import Artifact
from sspcab_edge.parity import PackItem, read_pack, write_pack


def thin(source: Bundle, output: Path, inputs: int, names: Sequence[str]) -> Bundle:
    """Write the copy; ``names`` empty keeps every artifact.

    Raises:
        BundleError: The pack cannot be read.
        OptionError: An artifact that the bundle does not have.
        OutputError: ``output`` is there and is no bundle, or cannot be written.
    """
    check_output(output, force=True)
    manifest = source.manifest
    offered = {artifact.name: artifact for artifact in manifest.artifacts}
    unknown = [name for name in names if name not in offered]
    if unknown:
        raise OptionError(f"{source.path} has no {', '.join(unknown)}: it has {', '.join(offered)}")
    kept = [offered[name] for name in names] if names else list(manifest.artifacts)
    items = _few(list(read_pack(source)), inputs, manifest.decision.threshold or 0.0)
    share = len(items) / manifest.parity_pack.inputs
    with staging(output) as folder:
        for file in sorted({file for artifact in kept for file in artifact.files}):
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.file(file), place)
        pack = write_pack(folder, items)
        artifacts = tuple(_fewer_flips(artifact, share) for artifact in kept)
        copied = msgspec.structs.replace(manifest, artifacts=artifacts, parity_pack=pack)
        return write_bundle(folder, copied, output, force=True)


def _fewer_flips(artifact: Artifact, share: float) -> Artifact:
    """The artifact with its replay's allowed flips cut to a share of the pack."""
    flips = artifact.replay.max_flips
    if flips is None:
        return artifact
    gate = msgspec.structs.replace(artifact.replay, max_flips=math.ceil(flips * share))
    return msgspec.structs.replace(artifact, replay=gate)


def _few(items: Sequence[PackItem], inputs: int, threshold: float) -> list[PackItem]:
    """At most ``inputs`` of the pack, half of them blends; those with the source's map are preferred."""
    if len(items) <= inputs:
        return list(items)
    blends = sorted(
        (item for item in items if item.kind == "blend"),
        key=lambda item: (item.map is None, abs(item.score - threshold)),
    )
    above = [item for item in blends if item.score > threshold]
    below = [item for item in blends if item.score <= threshold]
    in_turn = [item for item in chain(*zip_longest(above, below)) if item is not None]
    pictures = [item for item in items if item.kind == "picture"]
    near = in_turn[: max(inputs // 2, inputs - len(pictures))]
    return [*_spread(pictures, inputs - len(near)), *near]


def _spread(items: Sequence[PackItem], count: int) -> list[PackItem]:
    """``count`` of the items, evenly over their scores, lowest and highest included."""
    ranked = sorted(items, key=lambda item: item.score)
    if count == 1:
        return [ranked[-1]]
    return [ranked[round(number * (len(ranked) - 1) / (count - 1))] for number in range(count)]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.IntRange(min=1), default=6, show_default=True, help="Inputs to keep.")
@click.option(
    "--artifact", "names", multiple=True, help="Artifact to keep; may repeat, in order. [default: all]"
)
def _main(bundle: Path, output: Path, inputs: int, names: tuple[str, ...]) -> None:
    """Copy BUNDLE to OUTPUT with fewer parity inputs and artifacts."""
    try:
        copy = thin(Bundle.open(bundle), output, inputs, names)
    except EdgeError as error:
        sys.exit(f"thin_bundle: {error}")
    has = ", ".join(artifact.name for artifact in copy.manifest.artifacts)
    click.echo(f"{output}: {copy.manifest.parity_pack.inputs} inputs, {has}")


if __name__ == "__main__":
    _main()
