"""Putting a manifest together: blocks by their checkpoint's names, artifacts, tools."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

import sspcab_edge
from sspcab_edge.block import BlockSpec
from sspcab_edge.front_end_spec import FrontEndSpec
from sspcab_edge.manifest import (
    SCHEMA,
    Artifact,
    Calibration,
    Decision,
    Gate,
    Manifest,
    Model,
    Parity,
    ParityPack,
    Target,
)
from sspcab_edge.ports import CONTRACT_VERSION, whole_frame_ports
from sspcab_export.hosts import LoadedHost
from sspcab_export.variants import Variant

__all__ = ["assemble_manifest", "kept_branches", "named_blocks", "unjudged_artifact"]

_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy", "opencv-python-headless")


def named_blocks(found: Sequence[BlockSpec], known: Sequence[BlockSpec]) -> tuple[BlockSpec, ...]:
    """Blocks as the graph holds them, with the paths that the checkpoint gave them.

    Exporters keep parameter names, so a block found in the graph usually has its path; where it has none, it
    is the one of the same geometry.
    """
    left = list(known)
    named = []
    for block in found:
        same = [k for k in left if _geometry(k) == _geometry(block)]
        if not same:
            named.append(block)
            continue
        match = next((k for k in same if block.path.endswith(k.path)), same[0])
        left.remove(match)
        named.append(msgspec.structs.replace(match, form=block.form))
    return (*named, *left)


def _geometry(block: BlockSpec) -> tuple[int, int, int]:
    return block.channels, block.kernel, block.dilation


def kept_branches(blocks: Sequence[BlockSpec]) -> list[str]:
    """A note for every block that the graph still holds as branches."""
    return [
        f"block at {block.path} keeps its branches: the {block.dialect} dialect has no single convolution"
        if block.dialect == "tensorflow"
        else f"block at {block.path} was not folded: its form in the graph is not known"
        for block in blocks
        if block.form == "reference"
    ]


def unjudged_artifact(
    folder: Path,
    target: Target,
    variant: Variant,
    files: tuple[str, ...],
    opset: int,
    gate: Gate,
    float_layers: tuple[str, ...] = (),
) -> Artifact:
    """An artifact that was not judged yet."""
    unjudged = Parity(
        pictures=0,
        labelled=0,
        blends=0,
        scene="built-in",
        engine="",
        max_abs_score_diff=0.0,
        score_excess=0.0,
        mean_abs_score_diff=0.0,
        max_abs_map_diff=None,
        margin=None,
        flips=None,
        blend_flips=None,
        flips_upper95=None,
        auroc_source=None,
        auroc_artifact=None,
        gate=gate,
        passed=False,
    )
    size = sum((folder / file).stat().st_size for file in files)
    return Artifact(
        target=target,
        precision=variant.precision,
        flavour=variant.flavour,
        files=files,
        size_bytes=size,
        opset=opset,
        float_layers=float_layers,
        parity=unjudged,
        replay=gate,
    )


def assemble_manifest(
    host: LoadedHost,
    model: Model,
    blocks: tuple[BlockSpec, ...],
    decision: Decision,
    calibration: Calibration | None,
    release: int,
    front_end: FrontEndSpec,
) -> Manifest:
    """The manifest of a bundle in the making: no artifacts, no parity pack, no files yet."""
    size = host.preprocess
    inputs, outputs = whole_frame_ports(size.height, size.width, host.map_size, batch=host.batch)
    if host.video is not None:
        inputs = host.video.inputs
    return Manifest(
        schema=SCHEMA,
        contract=CONTRACT_VERSION,
        release=release,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tools=_tools(),
        model=model,
        host=host.name,
        blocks=blocks,
        inputs=inputs,
        outputs=outputs,
        preprocess=host.preprocess,
        front_end=front_end,
        decision=decision,
        artifacts=(),
        parity_pack=ParityPack(index="", inputs=0),
        files=(),
        calibration=calibration,
        score=host.score,
    )


def _tools() -> dict[str, str]:
    tools = {"sspcab-edge": sspcab_edge.__version__}
    for package in _TOOLS:
        try:
            tools[package] = version(package)
        except PackageNotFoundError:
            continue
    return tools
