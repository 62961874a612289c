"""The user's pictures: normal ones, labelled ones, or the built-in stand-ins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.datasets import list_images, read_dataset, read_normal_images
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.printable import printable

__all__ = [
    "DETAIL",
    "Sample",
    "Samples",
    "builtin_samples",
    "conversions",
    "labelled_samples",
    "normal_samples",
    "read_again",
]

DETAIL = 64
"""Side of :attr:`Sample.detail`."""

_THUMBNAIL = 32
_BUILTIN = Path(__file__).parent / "builtin_pictures"


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture that was decoded once and can be decoded again.

    Attributes:
        path: The file.
        name: Path below the folder it was given in, fit to be printed.
        label: True anomalous, False normal, None unknown.
        digest: SHA-256 of the file.
        thumbnail: (32, 32, 3) float32 in [0, 1], for finding pictures of one scene.
        detail: (64, 64) uint16, means of luma times 256, for telling copies of one exposure from another.
        converted: What decoding had to convert, in words, or None.
        size: (height, width) in pixels.
    """

    path: Path
    name: str
    label: bool | None
    digest: str
    thumbnail: npt.NDArray[np.float32]
    converted: str | None
    size: tuple[int, int]
    detail: npt.NDArray[np.uint16]
    used: int | None = None
    bit_depth: BitDepth = 16

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The picture decoded once more: (H, W, 3) uint8 RGB.

        Raises:
            PictureError: It cannot be decoded any more.
        """
        return decode_picture(self.path, self.bit_depth).pixels


@dataclass(frozen=True, slots=True)
class Samples:
    """Images of a folder.

    Attributes:
        samples: The images.
        notes: What should be said of the folder: how it is laid out, what was left out.
    """

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


def normal_samples(folder: Path) -> Samples:
    """Images below ``folder``, all normal.

    Raises:
        PictureError: No folder, no images, one that cannot be decoded, or a folder that is not of normal
            images alone.
    """
    found = read_normal_images(folder)
    return Samples(tuple(_sample(path, folder, False) for path in found.paths), found.notes)


def labelled_samples(folder: Path, layout: str | None = None) -> Samples:
    """Images of a labelled data set, in any layout of :data:`sspcab_edge.datasets.LAYOUTS`.

    Raises:
        PictureError: No layout fits, no normal images or no anomalous ones, or one cannot be decoded.
        OptionError: Several layouts fit.
    """
    dataset = read_dataset(folder, layout)
    labels = {image.label for image in dataset.images}
    if labels != {False, True}:
        held, lacking = ("normal", "anomalous") if labels == {False} else ("anomalous", "normal")
        raise PictureError(
            f"{printable(folder)} holds only {held} images: expected {lacking} ones beside them"
        )
    samples = tuple(_sample(image.path, folder, image.label) for image in dataset.images)
    return Samples(samples, (f"{printable(folder)}: {dataset.summary}",))


def builtin_samples() -> list[Sample]:
    """The natural pictures that come with the package; not the user's scene, labels unknown."""
    return [_sample(path, _BUILTIN, None) for path in list_images(_BUILTIN).paths]


def conversions(samples: Sequence[Sample]) -> list[str]:
    """What decoding converted, a line per kind."""
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.converted is not None:
            counts[sample.converted] = counts.get(sample.converted, 0) + 1
    return [f"{count} pictures converted: {what}" for what, count in sorted(counts.items())]


def read_again(samples: Sequence[Sample], bit_depth: BitDepth) -> tuple[Sample, ...]:
    """The same images, those of 16 bits per channel with so many of them in use.

    Raises:
        PictureError: One holds values beyond, or cannot be decoded any more.
    """
    return tuple(
        sample
        if sample.used is None or sample.bit_depth == bit_depth
        else replace(_decoded(sample.path, bit_depth), name=sample.name, label=sample.label)
        for sample in samples
    )


def _sample(path: Path, root: Path, label: bool | None) -> Sample:
    return replace(_decoded(path, 16), name=printable(path.relative_to(root).as_posix()), label=label)


def _decoded(path: Path, bit_depth: BitDepth) -> Sample:
    """The image alone: its name is that of the file, its label unknown."""
    picture = decode_picture(path, bit_depth)
    small = cv2.resize(picture.pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Sample(
        path=path,
        name=printable(path.name),
        label=None,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        thumbnail=np.asarray(small, dtype=np.float32) / np.float32(255),
        converted=picture.converted,
        size=(picture.pixels.shape[0], picture.pixels.shape[1]),
        detail=_detail(picture.pixels),
        used=picture.used,
        bit_depth=bit_depth,
    )


def _detail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    means = cv2.resize(luma, (DETAIL, DETAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(np.rint(means * np.float32(256)), dtype=np.uint16)
