"""What every host gives the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.block import BlockSpec
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.manifest import FileEntry, OtherRounding
from sspcab_edge.ports import Array, Entry, Port
from sspcab_export.host_options import DensityKind, HostOptions, Normalisation, refuse_unused

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

Scored = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating] | None]
"""Scores (N,) and maps (N, h, w), or no maps; float64 where they were computed so."""


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
        files: What it was read from, with the digests of the bytes that were used; empty where the files that
            the user named are all there is.
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
    files: tuple[FileEntry, ...] = ()
