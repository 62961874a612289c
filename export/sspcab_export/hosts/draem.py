"""DRAEM as its authors publish it (VitjanZ/DRAEM): two state dicts, BGR, 21x21 mean filter."""

from __future__ import annotations

from sspcab_edge.errors import CheckpointError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_export.checkpoints import Checkpoint, Part
from sspcab_export.checkpoints.files import SEGMENTATION_ENDING
from sspcab_export.hosts.base import HostOptions, LoadedHost
from sspcab_export.hosts.draem_loading import OPTIONS, find_prefix, load_draem, mean_filter, networks
from sspcab_export.hosts.draem_network import (
    DEFAULT_SIZE,
    DISCRIMINATIVE_ANCHOR,
    MEAN_FILTER,
    RECONSTRUCTIVE_ANCHOR,
    DraemSemantics,
)

__all__ = ["OPTIONS", "load", "networks", "recognise"]


def recognise(checkpoint: Checkpoint) -> bool:
    """Whether either of DRAEM's two networks is in the checkpoint."""
    keys = checkpoint.tensors
    return any(key.endswith((RECONSTRUCTIVE_ANCHOR, DISCRIMINATIVE_ANCHOR)) for key in keys)


def load(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """Build both networks from the checkpoint's keys and shapes.

    Raises:
        CheckpointError: The two files are swapped, or one is missing.
        HostError: The networks contradict themselves or each other, or hold no block.
        OptionError: An option cannot be met.
    """
    _check_roles(checkpoint)
    semantics = DraemSemantics(
        colour="BGR",
        first="reconstruction",
        mean_filter=mean_filter(options, MEAN_FILTER),
        normalisation=options.normalisation or "none",
    )
    height, width = options.input_size or DEFAULT_SIZE
    return load_draem(
        "draem",
        checkpoint,
        options,
        semantics,
        Preprocess(width=width, height=height, resize=options.resize or "opencv-linear"),
        threshold=None,
        assumptions=(),
    )


def _check_roles(checkpoint: Checkpoint) -> None:
    """Refuse a pair whose names and contents disagree, and half a pair."""
    for part in checkpoint.parts:
        named_segmentation = part.path.stem.lower().endswith(SEGMENTATION_ENDING)
        has_reconstruction, has_segmentation = _holds(part)
        if named_segmentation and has_reconstruction and not has_segmentation:
            raise CheckpointError(
                f"{part.path} is named as the discriminative network but holds the reconstructive one: "
                "the two files are swapped; rename them"
            )
        partner = any(
            p.path.stem.lower() == part.path.stem.lower() + SEGMENTATION_ENDING for p in checkpoint.parts
        )
        if partner and has_segmentation and not has_reconstruction:
            raise CheckpointError(
                f"{part.path} is named as the reconstructive network but holds the discriminative one: "
                "the two files are swapped; rename them"
            )
    held = [_holds(part) for part in checkpoint.parts]
    path = checkpoint.parts[0].path
    if not any(segmentation for _, segmentation in held):
        other = path.with_name(path.stem + SEGMENTATION_ENDING + path.suffix).name
        raise CheckpointError(
            f"{path} holds only the reconstructive network: put {other} beside it, or name both files"
        )
    if not any(reconstruction for reconstruction, _ in held):
        raise CheckpointError(
            f"{path} holds only the discriminative network: put the reconstructive one beside it, "
            "or name both files"
        )


def _holds(part: Part) -> tuple[bool, bool]:
    return (
        find_prefix(part.tensors, RECONSTRUCTIVE_ANCHOR) is not None,
        find_prefix(part.tensors, DISCRIMINATIVE_ANCHOR) is not None,
    )
