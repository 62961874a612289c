"""Labelled pictures as they lie on disk: which are anomalous, and where their masks are.

A new layout is one function that tells whether a folder has it, one that reads it, and one line in
:data:`LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import OptionError, PictureError
from sspcab_edge.preprocess import PICTURE_SUFFIXES, decode_picture, find_pictures

__all__ = ["LAYOUTS", "Category", "Dataset", "LabelledPicture", "Layout", "read_dataset", "read_mask"]

GOOD = "good"
TEST = "test"
GROUND_TRUTH = "ground_truth"
MASKS = "masks"
NORMAL_NAMES = frozenset({"good", "normal", "ok"})
ANOMALOUS_NAMES = frozenset({"abnormal", "anomalous", "bad", "defect", "ng"})
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""Masks are lossless: around a region, JPEG leaves values that are not quite zero."""

_NO_DEFECTS = frozenset({GROUND_TRUTH, MASKS, TEST, "train", "validation"})


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture of a data set.

    Attributes:
        path: The file.
        name: Path below the data set's folder, ``/`` between parts.
        label: Whether it is anomalous.
        mask: Where the anomaly is; None for normal pictures, and where there are no masks.
    """

    path: Path
    name: str
    label: bool
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """Pictures of one kind of object or surface.

    Attributes:
        name: Of its folder.
        pictures: The pictures, sorted by path.
        masks: Whether every anomalous picture has a mask; otherwise none has.
    """

    name: str
    pictures: tuple[LabelledPicture, ...]
    masks: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        path: The folder as it was given.
        layout: How it is laid out, a key of :data:`LAYOUTS`.
        categories: One or more.
        ignored: Folders that are no category although they lie beside some.
    """

    path: Path
    layout: str
    categories: tuple[Category, ...]
    ignored: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return sum(len(category.pictures) for category in self.categories)


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to lay out a data set.

    Attributes:
        recognise: Whether a folder looks like it.
        read: The data set in a folder.
        expected: What it looks like, in words.
    """

    recognise: Callable[[Path], bool]
    read: Callable[[Path], Dataset]
    expected: str


def read_dataset(folder: str | Path, layout: str | None = None) -> Dataset:
    """The labelled pictures in a folder; none is decoded yet.

    ``mvtec``: the folder is a category, with ``test/good/``, ``test/<kind of defect>/`` and, where there are
    masks, ``ground_truth/<kind>/<name of the picture>_mask.png``; or its ``test`` folder; or it holds
    several such categories. ``folder``: it holds ``good``, ``normal`` or ``ok`` and ``bad``, ``anomalous``,
    ``defect``, ``ng`` or ``abnormal``, in any case, and, where there are masks, ``masks/`` with the same
    names (``masks/bad/001.png`` or ``masks/001.png``, also ``001_mask.png``) as PNG, BMP or TIFF. Pictures
    that lie in none of these folders are not looked at.

    Args:
        folder: The data set.
        layout: One of :data:`LAYOUTS`; None recognises it by its folders.

    Raises:
        OptionError: No layout has this name, or more than one would fit.
        PictureError: No folder, no layout fits, or no pictures; or there are masks, but some anomalous
            picture has none of its own.
    """
    root = Path(folder)
    if layout is not None and layout not in LAYOUTS:
        raise OptionError(f"unknown layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    if not root.is_dir():
        raise PictureError(f"{root} is not a folder of labelled pictures")
    if layout is not None:
        return LAYOUTS[layout].read(root)
    fitting = [name for name, known in LAYOUTS.items() if known.recognise(root)]
    if len(fitting) > 1:
        choices = " or ".join(f"--layout {name}" for name in fitting)
        raise OptionError(f"{root} could be laid out in more than one way: say {choices}")
    if not fitting:
        expected = "; or ".join(f"{name}: {known.expected}" for name, known in LAYOUTS.items())
        raise PictureError(f"{root} has no layout that is known, expected {expected}")
    return LAYOUTS[fitting[0]].read(root)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A mask (H, W) bool: True wherever a channel is not 0.

    Raises:
        PictureError: It cannot be decoded, or has 16 bits per channel.
    """
    picture = decode_picture(path)
    if picture.converted is not None and "16-bit" in picture.converted:
        raise PictureError(f"the mask {path} has 16 bits per channel, expected 8: save it again")
    return np.asarray(picture.pixels.any(axis=2), dtype=bool)


def _is_mvtec(root: Path) -> bool:
    if (root / TEST / GOOD).is_dir() or _categories(root):
        return True
    if not (root / GOOD).is_dir():
        return False
    kinds = {name for name in _folders(root) if name.lower() not in NORMAL_NAMES | ANOMALOUS_NAMES | {MASKS}}
    return bool(kinds) or (root.resolve().parent / GROUND_TRUTH).is_dir()


def _read_mvtec(root: Path) -> Dataset:
    if (root / TEST / GOOD).is_dir():
        return Dataset(root, "mvtec", (_category(root, root / TEST),))
    if (root / GOOD).is_dir():
        return Dataset(root, "mvtec", (_category(root, root),))
    names = _categories(root)
    if not names:
        raise PictureError(f"{root} does not have the layout mvtec, expected {LAYOUTS['mvtec'].expected}")
    ignored = tuple(name for name in _folders(root) if name not in names)
    return Dataset(root, "mvtec", tuple(_category(root, root / name / TEST) for name in names), ignored)


def _category(root: Path, test: Path) -> Category:
    """The category whose test folder this is; names are relative to ``root``."""
    place = test.resolve()
    category = place.parent if place.name == TEST else place
    truth = place.parent / GROUND_TRUTH
    pictures = []
    for kind in _folders(test):
        if kind.lower() in _NO_DEFECTS:
            raise PictureError(
                f"{test} holds {kind}/, which is no kind of defect: give a category or its {TEST} folder"
            )
        for path in find_pictures(test / kind):
            mask = None
            if kind != GOOD:
                mask = truth / path.parent.relative_to(test) / f"{path.stem}_mask.png"
            name = path.relative_to(root).as_posix()
            pictures.append(LabelledPicture(path, name, mask is not None, mask))
    return _with_masks(category.name, pictures, _holds_pictures(truth))


def _is_folder(root: Path) -> bool:
    names = {name.lower() for name in _folders(root)}
    return bool(names & NORMAL_NAMES) and bool(names & ANOMALOUS_NAMES)


def _read_folder(root: Path) -> Dataset:
    masks = _masks_by_name(root / MASKS)
    pictures = []
    for name in _folders(root):
        label = name.lower() in ANOMALOUS_NAMES
        if not label and name.lower() not in NORMAL_NAMES:
            if name == MASKS:
                continue
            raise PictureError(
                f"{root} holds {name}/, which the layout folder does not know, expected "
                f"{LAYOUTS['folder'].expected}"
            )
        for path in find_pictures(root / name):
            below = path.relative_to(root)
            mask = _mask_of(below, root / MASKS, masks) if label else None
            pictures.append(LabelledPicture(path, below.as_posix(), label, mask))
    if not pictures:
        raise PictureError(f"{root} does not have the layout folder, expected {LAYOUTS['folder'].expected}")
    return Dataset(
        root, "folder", (_with_masks(root.resolve().name, pictures, _holds_pictures(root / MASKS)),)
    )


def _mask_of(below: Path, folder: Path, masks: dict[str, Path]) -> Path:
    """The mask of the picture ``below`` the data set; where it should be, if there is none."""
    keys = [Path(*parts).with_suffix("").as_posix() for parts in (below.parts, below.parts[1:])]
    found = next((masks[key] for key in keys if key in masks), None)
    return folder / below.with_suffix(MASK_SUFFIXES[0]) if found is None else found


def _masks_by_name(folder: Path) -> dict[str, Path]:
    """Masks by their path below ``folder``, without ``_mask`` and suffix."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in MASK_SUFFIXES or not path.is_file():
            continue
        below = path.relative_to(folder)
        key = (below.parent / below.stem.removesuffix("_mask")).as_posix()
        if key in found:
            raise PictureError(f"{found[key]} and {path} are masks of one picture: remove one")
        found[key] = path
    return found


def _holds_pictures(folder: Path) -> bool:
    """Whether there is any picture below it, of whatever name."""
    return any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.rglob("*"))


def _with_masks(name: str, pictures: Sequence[LabelledPicture], any_masks: bool) -> Category:
    """The category; with ``any_masks`` every anomalous picture has to have one of its own."""
    if not any_masks:
        bare = (LabelledPicture(p.path, p.name, p.label) for p in pictures)
        return Category(name, tuple(bare), masks=False)
    owners: dict[Path, Path] = {}
    for picture in pictures:
        if picture.mask is None:
            continue
        if not picture.mask.is_file():
            raise PictureError(
                f"{picture.path} has no mask, expected {picture.mask}: add it, or remove all masks"
            )
        if picture.mask in owners:
            raise PictureError(f"{owners[picture.mask]} and {picture.path} share the mask {picture.mask}")
        owners[picture.mask] = picture.path
    return Category(name, tuple(pictures), masks=bool(owners))


def _categories(root: Path) -> tuple[str, ...]:
    return tuple(name for name in _folders(root) if (root / name / TEST / GOOD).is_dir())


def _folders(root: Path) -> Iterable[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(
        _is_mvtec,
        _read_mvtec,
        "test/good/ and test/<kind of defect>/, in one folder or in one per category",
    ),
    "folder": Layout(
        _is_folder,
        _read_folder,
        "good/, normal/ or ok/ and bad/, anomalous/, defect/, ng/ or abnormal/",
    ),
}
"""Layout -> how to recognise and read it."""
