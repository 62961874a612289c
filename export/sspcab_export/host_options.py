"""What a user may tell a host that its checkpoint cannot. Imports without torch and onnx."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sspcab_edge.block import DIALECTS
from sspcab_edge.errors import OptionError
from sspcab_edge.front_end_spec import ResizeFilter
from sspcab_export.option_field import option, options_of
from sspcab_export.option_types import Numbers, Size

__all__ = ["Colour", "DensityKind", "HostOptions", "Normalisation", "refuse_unused"]

Normalisation = Literal["none", "imagenet"]
DensityKind = Literal["mahalanobis", "kde"]
Colour = Literal["RGB", "BGR", "grey"]

_BY_CHANNEL = Numbers("one number, or one by channel", ",", (1, 3), "0.485,0.456,0.406")


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What keys cannot tell, or what wins over what they tell; None means: recognise, or take the default.

    Attributes:
        input_size: (height, width) of the graph's input, in pixels.
        dialect: Dialect of every block, overriding recognition.
        dilation: d of every block (the paper's default is 1).
        normalisation: What is subtracted from and divided into [0, 1] pixels.
        resize: Filter that brings frames to the input size.
        allow_no_block: Whether a network without the block may pass.
        trust: ``sha256:`` and the digest of a program that may be loaded, and so run.
        weights_key: Where in a checkpoint the weights lie that are meant, of several that could be.
        factory: ``package.module:function`` that makes the torch module for a state dict of no known host.
        score: How any network's score is made: one of :data:`sspcab_export.contract.scores.RECIPES`.
        map_output: Which of its outputs is the map, or for ``error`` the reconstruction.
        input_range: What pixels 0 and 255 become before mean and std.
        mean: Subtracted, by channel or one for all; empty for nothing.
        std: Divided by, likewise.
        colour: Order of any network's channels.
        density: How embeddings become a score, for hosts that compare embeddings with normal ones.
        density_arrays: File (.npz or a pickled dict) of what the density was fitted to, instead of pictures.
        bandwidth: Of the kernel density, in units of embeddings (1 where nothing tells).
        patch_map: Whether such a host gives a map of its patches' densities too.
        statistics: HF2-VAD: mean and standard deviation of the flow errors, then of the frame errors.
        weights: HF2-VAD: of the flow errors and of the frame errors in the score.
    """

    input_size: tuple[int, int] | None = option(
        None, "Checkpoint", "Input of the graph in pixels.", kind=Size(), by_default="the host's"
    )
    dialect: str | None = option(
        None, "Checkpoint",
        f"Dialect of the blocks ({', '.join(DIALECTS)}), overriding what their keys tell.", metavar="NAME",
    )  # fmt: skip
    dilation: int | None = option(
        None, "Checkpoint", "Dilation d of the blocks, which no checkpoint stores.", by_default="1"
    )
    normalisation: Normalisation | None = option(
        None, "Checkpoint", "What is done to [0, 1] pixels, where the checkpoint cannot tell."
    )
    resize: ResizeFilter | None = option(
        None, "Checkpoint", "Filter that brings frames to the input size.",
        by_default="the one of the host's training",
    )  # fmt: skip
    allow_no_block: bool = option(False, "Checkpoint", "Export a network that holds no SSPCAB block.")
    trust: str | None = option(
        None, "Checkpoint",
        "Run the program CHECKPOINT (.pt2, TorchScript or a whole pickled module) with this digest, in a "
        "process of its own.",
        metavar="sha256:DIGEST",
    )  # fmt: skip
    weights_key: tuple[str, ...] = option(
        (), "Checkpoint",
        "Where in CHECKPOINT the weights lie, as model or state_dict.ema, where it holds several of one "
        "shape; repeat for a host of two networks.", metavar="KEY", by_default="the only ones",
    )  # fmt: skip
    factory: str | None = option(
        None, "Any network",
        "What makes the torch module for the weights in CHECKPOINT. It is called without arguments; modules "
        "of the working directory are found.", metavar="PACKAGE.MODULE:FUNCTION",
    )  # fmt: skip
    score: str | None = option(
        None, "Any network",
        "map-max, map-mean, map-mean-filter:K (largest mean over K x K pixels), error (of a reconstruction), "
        "or output:NAME.", metavar="RECIPE", by_default="an output called score",
    )  # fmt: skip
    map_output: str | None = option(
        None, "Any network", "The output that is the map, or for error the reconstruction.", flag="map",
        metavar="NAME", by_default="the only one that can be",
    )  # fmt: skip
    input_range: tuple[float, float] | None = option(
        None, "Any network", "What pixels 0 and 255 become before mean and std.",
        kind=Numbers("LOW:HIGH", ":", (2,), "-1:1"), metavar="LOW:HIGH", by_default="0:1",
    )  # fmt: skip
    mean: tuple[float, ...] = option(
        (), "Any network", "Subtracted, by channel.", kind=_BY_CHANNEL, metavar="M[,M,M]"
    )
    std: tuple[float, ...] = option(
        (), "Any network", "Divided by, by channel.", kind=_BY_CHANNEL, metavar="S[,S,S]"
    )
    colour: Colour | None = option(
        None, "Any network", "Order of its channels.", metavar="[RGB|BGR|grey]", by_default="RGB"
    )
    density: DensityKind | None = option(
        None, "CutPaste", "How far an embedding lies from normal ones.", by_default="mahalanobis"
    )
    density_arrays: Path | None = option(
        None, "CutPaste",
        "What the density was fitted to, instead of pictures: mean and precision (or covariance), or "
        "embeddings; .npz, or as public code pickles them.", metavar="FILE",
    )  # fmt: skip
    bandwidth: float | None = option(None, "CutPaste", "Of the kernel density.", by_default="1")
    patch_map: bool = option(False, "CutPaste", "A map, too, of how far each patch lies.")
    statistics: tuple[float, ...] = option(
        (), "HF2-VAD", "Of its errors on normal objects, instead of videos to measure them on.",
        kind=Numbers("mean,std of flow errors, then of frame errors", ",", (4,), "9,3,40,11"),
        metavar="M,S,M,S",
    )  # fmt: skip
    weights: tuple[float, ...] = option(
        (), "HF2-VAD", "Of flow errors and of frame errors in the score.",
        kind=Numbers("weights of flow and of frame errors", ",", (2,), "1,0.1"), metavar="W,W",
        by_default="1,0.1",
    )  # fmt: skip


def refuse_unused(options: HostOptions, used: Collection[str], host: str) -> None:
    """Refuse options that a host would silently ignore.

    Args:
        options: What the user told.
        used: Names of those that the host looks at.
        host: Its name.

    Raises:
        OptionError: One that it does not look at was given.
    """
    for one in options_of(HostOptions):
        if one.field not in used and one.given(options):
            raise OptionError(f"{one.flag} is of no use for {host}: leave it out")
