"""A CutPaste network and its density: fitted to normal frames or read from arrays, then one detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import nn

from sspcab_edge.bundle import file_entry
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import OtherRounding
from sspcab_edge.ports import Array, Entry, whole_frame_ports
from sspcab_export.density import Gaussian, Kernels, fit_gaussian, fit_kernels, unit_length
from sspcab_export.density_arrays import DensityArrays, read_density_arrays
from sspcab_export.hosts.base import DensityKind, LoadedHost, Normalisation, Scored
from sspcab_export.hosts.draem_network import IMAGENET_MEAN, IMAGENET_STD
from sspcab_export.hosts.resnet18 import ResNet18
from sspcab_export.hosts.score_head import ScoreHead
from sspcab_export.hosts.torch_source import DetectorSource

__all__ = [
    "DEFAULT_BANDWIDTH",
    "MAX_PATCHES",
    "CutPasteDetector",
    "NoDensity",
    "UnfittedCutPaste",
    "fit_to_frames",
    "from_arrays",
    "spread",
]

DEFAULT_BANDWIDTH: Final = 1.0
"""Of public CutPaste code, which takes scikit-learn's."""

MAX_PATCHES: Final = 20_000
"""Most vectors that the density of patches is fitted to."""

_GOLDEN: Final = 0.6180339887498949
"""Fractional part of the golden ratio: its multiples fill [0, 1) evenly and never repeat."""


class CutPasteDetector(nn.Module):
    """The contract around the network: raw frames in, what the head makes of the last feature map out."""

    def __init__(self, backbone: ResNet18, normalisation: Normalisation, score_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.normalisation = normalisation
        self.score_head = score_head
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """(N, H, W, 3) uint8 RGB -> score (N,) float32, or score and map (N, h, w) float32."""
        image = frames.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        if self.normalisation == "imagenet":
            image = (image - self.get_buffer("mean")) / self.get_buffer("std")
        given: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = self.score_head(self.backbone(image))
        return given


class NoDensity:
    """Stands where the source will be once there is a density, and refuses to answer."""

    def infer(
        self, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Raise an ``OptionError``."""
        del inputs
        raise self._refusal()

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        """Raise an ``OptionError``."""
        del inputs
        raise self._refusal()

    def graph(self) -> ir.Model:
        """Raise an ``OptionError``."""
        raise self._refusal()

    @staticmethod
    def _refusal() -> OptionError:
        return OptionError(
            "CutPaste compares pictures with normal ones, which no checkpoint stores: give some with "
            "--training or --calibration, or what they gave with --density-arrays"
        )


@dataclass(frozen=True, slots=True)
class UnfittedCutPaste:
    """A network without its density.

    Attributes:
        host: What is known of the host so far; its source is :class:`NoDensity`.
        backbone: The network up to the last feature map.
        normalisation: Of its input.
        map_size: (h, w) of the last feature map.
        kind: Of density.
        bandwidth: Of a kernel density, as the user gave it.
        patch_map: Whether there is to be a map.
        head_width: How many numbers the projection head gives that the checkpoint holds; None without one.
    """

    host: LoadedHost
    backbone: ResNet18
    normalisation: Normalisation
    map_size: tuple[int, int]
    kind: DensityKind
    bandwidth: float | None
    patch_map: bool
    head_width: int | None = None

    def detector(self, score_head: nn.Module) -> CutPasteDetector:
        """The network with a head behind its last feature map, in evaluation mode."""
        return CutPasteDetector(self.backbone, self.normalisation, score_head).eval()

    def ready(
        self, density: Gaussian | Kernels, patches: Gaussian | None, assumptions: Sequence[str]
    ) -> LoadedHost:
        """The host with its density in the graph."""
        size = (self.host.preprocess.height, self.host.preprocess.width)
        detector = self.detector(ScoreHead(density, patches))
        return replace(
            self.host,
            source=DetectorSource(detector, whole_frame_ports(*size, None)[0], has_map=patches is not None),
            map_size=None if patches is None else self.map_size,
            assumptions=(*self.host.assumptions, *assumptions),
            fit=None,
        )


def fit_to_frames(
    network: UnfittedCutPaste, frames: Sequence[Entry], progress: Callable[[int], None]
) -> LoadedHost:
    """The host with a density of normal frames.

    Args:
        network: The network.
        frames: Normal ones, as the graph takes them.
        progress: Told after each how many were seen.

    Raises:
        OptionError: Too few frames.
        HostError: The network's embeddings are not finite, or all equal.
    """
    if len(frames) < 2:
        raise OptionError(f"{len(frames)} normal pictures given, expected 2 or more to fit a density to")
    backbone = network.detector(nn.Identity())
    positions = network.map_size[0] * network.map_size[1]
    chosen = spread(len(frames) * positions, MAX_PATCHES)
    pooled, patches = [], []
    with torch.inference_mode():
        for number, frame in enumerate(frames):
            features = backbone(torch.from_numpy(frame["frames"][None].copy()))[0].double().flatten(1).numpy()
            pooled.append(features.mean(axis=1))
            if network.patch_map:
                patches.append(features.T[chosen[chosen // positions == number] % positions])
            progress(number + 1)
    density, said = _fit(network, unit_length(np.stack(pooled)), _bandwidth(network, None))
    if not network.patch_map:
        return network.ready(density, None, said)
    vectors = unit_length(np.concatenate(patches))
    gaussian = fit_gaussian(vectors)
    said.append(
        f"map: Mahalanobis distances to {len(vectors)} of {len(frames) * positions} patches, shrinkage "
        f"{gaussian.shrinkage:.3g}"
    )
    return network.ready(density, gaussian, said)


def from_arrays(network: UnfittedCutPaste, path: Path) -> LoadedHost:
    """The host with a density from a file: see :func:`sspcab_export.density_arrays.read_density_arrays`.

    Raises:
        CheckpointError: The file is damaged or holds no density.
        OptionError: What it holds does not fit the network or the options.
        HostError: Its embeddings are all equal.
    """
    arrays = read_density_arrays(path)
    said = [f"density from {path.name}, SHA-256 {file_entry(path, path.name).sha256}"]
    patches = _check_sizes(network, path, arrays)
    if network.head_width == network.backbone.channels:
        said.append(
            f"{path.name} is taken to be of the pooled features: the projection head gives as many numbers, "
            "and nothing tells the two apart"
        )
    if arrays.threshold is not None:
        said.append(_threshold_left(network, path, arrays.threshold))
    if arrays.embeddings is not None:
        lengths = np.linalg.norm(arrays.embeddings, axis=1)
        if np.abs(lengths - 1).max() > 1e-3:
            said.append(
                f"embeddings of {path.name} were divided by their lengths, {lengths.min():.3g} to "
                f"{lengths.max():.3g}, as the network's are"
            )
        bandwidth = _bandwidth(network, arrays.bandwidth)
        density, more = _fit(network, unit_length(arrays.embeddings), bandwidth)
        return network.ready(density, patches, [*said, *more])
    if network.kind == "kde" or arrays.gaussian is None:
        raise OptionError(f"{path} holds a mean and no embeddings, which --density kde needs")
    said.append(f"scores are Mahalanobis distances, {network.backbone.channels} dimensions")
    return network.ready(arrays.gaussian, patches, said)


def spread(total: int, most: int) -> npt.NDArray[np.int64]:
    """Up to ``most`` of the numbers 0 to total - 1 in rising order, evenly over all but in no fixed step.

    A fixed step that shares a factor with a map's width would only ever see some of its columns.
    """
    if total <= most:
        return np.arange(total)
    order = np.arange(most)
    places = (order + (order * _GOLDEN) % 1) * (total / most)
    return np.unique(np.minimum(places.astype(np.int64), total - 1))


def _fit(
    network: UnfittedCutPaste, embeddings: npt.NDArray[np.float64], bandwidth: float
) -> tuple[Gaussian | Kernels, list[str]]:
    count, dimensions = embeddings.shape
    if network.kind == "kde":
        said = (
            f"scores are minus the log kernel density of {count} normal embeddings, {dimensions} dimensions"
        )
        return fit_kernels(embeddings, bandwidth), [f"{said}, bandwidth {bandwidth:g}"]
    density = fit_gaussian(embeddings)
    said = f"scores are Mahalanobis distances to {count} normal embeddings, {dimensions} dimensions"
    said += f", Ledoit-Wolf shrinkage {density.shrinkage:.3g}"
    if count <= dimensions:
        said += ": fewer pictures than dimensions, only the shrinkage gives the covariance an inverse"
    return density, [said]


def _threshold_left(network: UnfittedCutPaste, path: Path, threshold: float) -> str:
    """Public code takes the threshold that parts its test images best, which are not here to judge it."""
    said = f"the threshold {threshold:g} in {path.name} is not taken by itself"
    if network.kind == "mahalanobis" and np.isfinite(threshold):
        said += f", only with --threshold {threshold:g}"
    return f"{said}: public code chooses it on test images"


def _bandwidth(network: UnfittedCutPaste, stored: float | None) -> float:
    if network.bandwidth is not None:
        return network.bandwidth
    return DEFAULT_BANDWIDTH if stored is None else stored


def _check_sizes(network: UnfittedCutPaste, path: Path, arrays: DensityArrays) -> Gaussian | None:
    """The density of patches where one is asked for, once all sizes fit the network."""
    channels = network.backbone.channels
    given = arrays.embeddings.shape[1] if arrays.embeddings is not None else None
    given = len(arrays.gaussian.mean) if arrays.gaussian is not None else given
    if given is not None and given != channels and given == network.head_width:
        raise OptionError(
            f"{path} holds a density of {given} dimensions, as many as the projection head gives: it was "
            f"fitted to the head's output, and scores here are of the {channels} pooled features before the "
            "head; fit it to those, or to images with --training or --calibration"
        )
    patches = arrays.patches if network.patch_map else None
    if network.patch_map and patches is None:
        raise OptionError(
            f"{path} holds no patch_mean and patch_precision, which --patch-map needs: fit to pictures"
        )
    if arrays.embeddings is not None and arrays.embeddings.shape[1] != channels:
        raise OptionError(
            f"{path}: embeddings has shape {arrays.embeddings.shape}, expected "
            f"{(len(arrays.embeddings), channels)} for this network"
        )
    for name, gaussian in (("mean", arrays.gaussian), ("patch_mean", patches)):
        if gaussian is not None and gaussian.mean.shape != (channels,):
            raise OptionError(
                f"{path}: {name} has shape {gaussian.mean.shape}, expected {(channels,)} for this network"
            )
    return patches
