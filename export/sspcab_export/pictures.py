"""The user's pictures: normal ones, labelled ones, or the built-in stand-ins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture, find_pictures

__all__ = [
    "GOOD",
    "Sample",
    "builtin_samples",
    "conversions",
    "labelled_samples",
    "normal_samples",
]

GOOD = "good"
"""Name of the folder of normal pictures in the MVTec AD layout."""

_THUMBNAIL = 32
_BUILTIN = Path(__file__).parent / "builtin_pictures"


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture that was decoded once and can be decoded again.

    Attributes:
        path: The file.
        name: Path below the folder it was given in.
        label: True anomalous, False normal, None unknown.
        digest: SHA-256 of the file.
        thumbnail: (32, 32, 3) float32 in [0, 1], for finding near-duplicates.
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


def normal_samples(folder: Path) -> list[Sample]:
    """Pictures below ``folder``, all normal.

    Raises:
        PictureError: No folder, no pictures, or one that cannot be decoded.
    """
    return [_sample(path, folder, False) for path in find_pictures(folder)]


def labelled_samples(folder: Path) -> list[Sample]:
    """Pictures in the MVTec AD layout: ``good/`` and one folder per kind of defect.

    ``folder`` is a category (it holds ``test/``) or its test folder.

    Raises:
        PictureError: No ``good`` folder, no defects, or a picture that cannot be decoded.
    """
    root = folder / "test" if (folder / "test" / GOOD).is_dir() else folder
    if not (root / GOOD).is_dir():
        raise PictureError(
            f"{root} has no folder {GOOD}/: expected the MVTec AD layout, {GOOD}/ and one folder per defect"
        )
    samples = [_sample(path, root, path.relative_to(root).parts[0] != GOOD) for path in find_pictures(root)]
    if not any(sample.label for sample in samples):
        raise PictureError(f"{root} holds only {GOOD}/: expected folders with defects beside it")
    return samples


def builtin_samples() -> list[Sample]:
    """The natural pictures that come with the package; not the user's scene, labels unknown."""
    return [_sample(path, _BUILTIN, None) for path in find_pictures(_BUILTIN)]


def conversions(samples: Sequence[Sample]) -> list[str]:
    """What decoding converted, a line per kind."""
    counts: dict[str, int] = {}
    for sample in samples:
        if sample.converted is not None:
            counts[sample.converted] = counts.get(sample.converted, 0) + 1
    return [f"{count} pictures converted: {what}" for what, count in sorted(counts.items())]


def _sample(path: Path, root: Path, label: bool | None) -> Sample:
    picture = decode_picture(path)
    small = cv2.resize(picture.pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Sample(
        path=path,
        name=path.relative_to(root).as_posix(),
        label=label,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        thumbnail=np.asarray(small, dtype=np.float32) / np.float32(255),
        converted=picture.converted,
        size=(picture.pixels.shape[0], picture.pixels.shape[1]),
    )
