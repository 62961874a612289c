"""What every host gives the pipeline, and what a user may tell a host that keys cannot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import OptionError
from sspcab_edge.front_end_spec import Preprocess, ResizeFilter
from sspcab_edge.manifest import OtherRounding
from sspcab_edge.ports import Array, Entry, Port

__all__ = [
    "DensityKind",
    "HostOptions",
    "LoadedHost",
    "Normalisation",
    "Scored",
    "SourceModel",
    "VideoInputs",
    "refuse_unused",
]

Normalisation = Literal["none", "imagenet"]
DensityKind = Literal["mahalanobis", "kde"]
Scored = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating] | None]
"""Scores (N,) and maps (N, h, w), or no maps; float64 where they were computed so."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What keys cannot tell, or what wins over what they tell; None means: recognise, or take the default.

    Attributes:
        dialect: Dialect of every block, overriding recognition.
        dilation: d of every block (the paper's default is 1).
        input_size: (height, width) of the graph's input, in pixels.
        normalisation: What is subtracted from and divided into [0, 1] pixels.
        allow_no_block: Whether a network without the block may pass.
        resize: Filter that brings frames to the input size.
        density: How embeddings become a score, for hosts that compare embeddings with normal ones.
        density_arrays: File (.npz) with what the density was fitted to, instead of pictures.
        bandwidth: Of the kernel density, in units of embeddings (1 where nothing tells).
        patch_map: Whether such a host gives a map of its patches' densities too.
        factory: ``package.module:function`` that makes the torch module for a state dict of no known host.
        trust: ``sha256:`` and the digest of a program that may be loaded, and so run.
        score: How any network's score is made: one of :data:`sspcab_export.contract.scores.RECIPES`.
        map_output: Which of its outputs is the map, or for ``error`` the reconstruction.
        input_range: What pixels 0 and 255 become before mean and std.
        mean: Subtracted, by channel or one for all; empty for nothing.
        std: Divided by, likewise.
        colour: Order of any network's channels.
        statistics: HF2-VAD: mean and standard deviation of the flow errors, then of the frame errors.
        weights: HF2-VAD: of the flow errors and of the frame errors in the score.
    """

    dialect: str | None = None
    dilation: int | None = None
    input_size: tuple[int, int] | None = None
    normalisation: Normalisation | None = None
    allow_no_block: bool = False
    resize: ResizeFilter | None = None
    density: DensityKind | None = None
    density_arrays: Path | None = None
    bandwidth: float | None = None
    patch_map: bool = False
    factory: str | None = None
    trust: str | None = None
    score: str | None = None
    map_output: str | None = None
    input_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    colour: Literal["RGB", "BGR", "grey"] | None = None
    statistics: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()


def refuse_unused(options: HostOptions, used: Collection[str], host: str) -> None:
    """Refuse options that a host would silently ignore.

    Args:
        options: What the user told.
        used: Names of those that the host looks at.
        host: Its name.

    Raises:
        OptionError: One that it does not look at was given.
    """
    for field in fields(options):
        if field.name not in used and getattr(options, field.name) != field.default:
            name = {"map_output": "map"}.get(field.name, field.name).replace("_", "-")
            raise OptionError(f"--{name} is of no use for {host}: leave it out")


class SourceModel(Protocol):
    """The source of truth: the model as it came, unfolded, on contract inputs."""

    def infer(
        self, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """N entries by input port -> scores (N,) float32 and maps (N, h, w) float32, or no maps."""

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        """The same with other rounding, and how: what differs from :meth:`infer` is rounding alone."""

    def graph(self) -> ir.Model:
        """The model as an unoptimised graph of the contract."""


@dataclass(frozen=True, slots=True)
class VideoInputs:
    """What a host takes that does not look at single frames.

    Attributes:
        inputs: Ports of the graph: a clip, or appearance and flow of objects.
        empty_score: Score of a frame without objects, which means nothing until the host is fitted; None for
            hosts that look at clips.
    """

    inputs: tuple[Port, ...]
    empty_score: float | None


@dataclass(frozen=True, slots=True)
class LoadedHost:
    """A model ready to be exported.

    Attributes:
        name: The host's name in manifests.
        source: The source of truth.
        blocks: Its blocks, in the order of their paths; paths as in the checkpoint.
        preprocess: How frames are prepared for it.
        map_size: (h, w) of its map, or None where it has none.
        threshold: The one that the checkpoint holds, on the source's score scale.
        overrides: Options that won over recognition or a default, in words.
        assumptions: What nothing told and a default decided, in words.
        batch: The batch size that the graph is fixed to, or None where it is free.
        fit: Given where the host has to see normal frames before it can score any: takes entries
            of the graph's batch, and a callback told how many were seen; gives the host that is
            ready, whose own ``fit`` is None. Until then ``source`` must not be used.
        video: What it takes, where that is no single frame; ``preprocess`` is then the size of a clip's
            frames or of an object's crop.
        score: How the score follows from the map, as manifests say it; None where that is not known.
    """

    name: str
    source: SourceModel
    blocks: tuple[BlockSpec, ...]
    preprocess: Preprocess
    map_size: tuple[int, int] | None
    threshold: float | None
    overrides: dict[str, str]
    assumptions: tuple[str, ...]
    batch: int | None = None
    fit: Callable[[Sequence[Entry], Callable[[int], None]], LoadedHost] | None = None
    score: str | None = None
    video: VideoInputs | None = None
