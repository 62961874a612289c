"""Masks: told apart from images, brought to the image that they belong to, read.

Masks lie in a folder of their own (``ground_truth/crack/000_mask.png``, ``masks/bad/000.png``), of which one
image may have several (``ground_truth/logical_anomalies/000/000.png``), or beside their image
(``000_mask.png`` beside ``000.png``, ``000.png`` beside ``000.jpg``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sspcab_edge.datasets.files import list_images, subfolders
from sspcab_edge.datasets.names import MASK_ENDINGS, is_mask_name
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.printable import printable

__all__ = ["MASK_SUFFIXES", "MaskFolder", "Sorted", "mask_folders", "read_mask", "sort_out_masks"]

MASK_SUFFIXES: Final = (".png", ".bmp", ".tif", ".tiff")
"""Masks are lossless: around a region, JPEG leaves values that are not quite zero."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """The files of one folder.

    Attributes:
        images: Those that are no masks, in the order given.
        beside: Masks that lie beside their image, by image.
        others: Masks in folders of masks.
    """

    images: tuple[Path, ...]
    beside: Mapping[Path, Path]
    others: tuple[Path, ...]

    @property
    def masks(self) -> int:
        """How many files are masks."""
        return len(self.beside) + len(self.others)


def sort_out_masks(root: Path, paths: Sequence[Path], *, pairs: bool = True) -> Sorted:
    """Tell the masks among the files below ``root``.

    Args:
        root: The folder that was given; what it is called itself tells nothing.
        paths: Image files below it.
        pairs: Whether ``000.png`` is the mask of ``000.jpg`` beside it, as in folders of defects.
    """
    others = {path for path in paths if any(map(is_mask_name, path.relative_to(root).parts[:-1]))}
    named: dict[Path, list[Path]] = {}
    for path in paths:
        if path not in others:
            named.setdefault(path.with_name(path.stem), []).append(path)
    beside: dict[Path, Path] = {}
    for key, files in named.items():
        image = named.get(key.with_name(_without_ending(key.name)))
        if image is not None and image is not files:
            beside[image[0]] = files[0]
        elif pairs and len(files) == 2:
            lossy = [path for path in files if path.suffix.lower() not in MASK_SUFFIXES]
            lossless = [path for path in files if path.suffix.lower() in MASK_SUFFIXES]
            if len(lossy) == 1:
                beside[lossy[0]] = lossless[0]
    taken = {*others, *beside.values()}
    return Sorted(tuple(path for path in paths if path not in taken), beside, tuple(sorted(others)))


def mask_folders(folder: Path) -> list[Path]:
    """The folders of masks in a folder that hold any image."""
    return [folder / name for name in subfolders(folder) if is_mask_name(name) and _any_image(folder / name)]


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Masks below one folder, found by the path of their image.

    Attributes:
        folder: The folder.
        by_name: Masks by their path below it, without ending (``_mask``) and suffix.
        by_parent: Masks by the folder below it that they lie in.
    """

    folder: Path
    by_name: Mapping[str, Path] = field(repr=False)
    by_parent: Mapping[str, tuple[Path, ...]] = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> MaskFolder:
        """List the masks below a folder.

        Raises:
            PictureError: Two files are masks of one image.
        """
        by_name: dict[str, Path] = {}
        by_parent: dict[str, list[Path]] = {}
        for path in list_images(folder).paths:
            if path.suffix.lower() not in MASK_SUFFIXES:
                continue
            below = path.relative_to(folder)
            key = (below.parent / _without_ending(below.stem)).as_posix().lower()
            if key in by_name:
                raise PictureError(
                    f"{printable(by_name[key])} and {printable(path)} are masks of one image: remove one"
                )
            by_name[key] = path
            by_parent.setdefault(below.parent.as_posix().lower(), []).append(path)
        return cls(folder, by_name, {key: tuple(paths) for key, paths in by_parent.items()})

    def masks_of(self, image: Path) -> tuple[Path, ...]:
        """Masks of an image whose path is given as the masks' would be: ``crack/000.png``, or ``000.png``."""
        for parts in (image.parts, image.parts[1:]):
            key = Path(*parts[:-1], image.stem).as_posix().lower() if parts else ""
            if key in self.by_name:
                return (self.by_name[key],)
            if key in self.by_parent:
                return self.by_parent[key]
        return ()

    def expected(self, image: Path) -> Path:
        """Where the mask of an image should lie that has none."""
        return self.folder / image.parent / f"{image.stem}{MASK_ENDINGS[0]}{MASK_SUFFIXES[0]}"


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A mask (H, W) bool: True wherever a channel is not 0.

    Raises:
        PictureError: It cannot be decoded, or has 16 bits per channel.
    """
    picture = decode_picture(path)
    if picture.converted is not None and "16-bit" in picture.converted:
        raise PictureError(f"the mask {printable(path)} has 16 bits per channel, expected 8: save it again")
    return np.asarray(picture.pixels.any(axis=2), dtype=bool)


def _without_ending(stem: str) -> str:
    lower = stem.lower()
    ending = next((one for one in MASK_ENDINGS if lower.endswith(one) and len(stem) > len(one)), "")
    return stem[: len(stem) - len(ending)]


def _any_image(folder: Path) -> bool:
    try:
        return bool(list_images(folder).paths)
    except PictureError:
        return False
