"""Normal images in a folder: what calibration, training and fitting take; anything labelled is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sspcab_edge.datasets.files import left_out, list_images, subfolders
from sspcab_edge.datasets.masks import sort_out_masks
from sspcab_edge.datasets.names import (
    is_anomalous_name,
    is_mask_name,
    is_normal_name,
    is_test_name,
    is_train_name,
)
from sspcab_edge.errors import PictureError
from sspcab_edge.printable import printable

__all__ = ["NormalImages", "read_normal_images"]


@dataclass(frozen=True, slots=True)
class NormalImages:
    """Normal images below a folder.

    Attributes:
        folder: As it was given.
        paths: The images, in natural order of their paths.
        masks: How many masks beside images were left out.
        skipped: How many hidden and system entries were left out.
        unread: Images of kinds that are not read, and videos.
    """

    folder: Path
    paths: tuple[Path, ...]
    masks: int = 0
    skipped: int = 0
    unread: tuple[Path, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, a line each."""
        said = []
        if self.masks:
            said.append(f"{self.masks} masks in {printable(self.folder)} left out: they are no images")
        if self.skipped:
            said.append(f"{self.skipped} hidden or system entries in {printable(self.folder)} left out")
        if self.unread:
            said.append(f"{printable(self.folder)}: {left_out(self.unread)}")
        return tuple(said)


def read_normal_images(folder: Path) -> NormalImages:
    """The images below a folder of normal ones; none is decoded yet.

    Raises:
        PictureError: No folder, or no images; or it is a folder of masks or of defects, or a data set that
            holds such: the text names the folder that was probably meant.
    """
    found = list_images(folder)
    reason = _labelled(folder)
    if reason is not None:
        meant = next(_normal_folders(folder), None)
        remedy = "give a folder that holds normal images alone"
        if meant is not None:
            remedy = f"the normal images to learn from are probably in {printable(meant)}: give that folder"
        raise PictureError(f"{printable(folder)} {reason}, expected normal images alone; {remedy}")
    told = sort_out_masks(folder, found.paths, pairs=False)
    if not told.images:
        raise PictureError(f"{printable(folder)} holds masks and no images")
    return NormalImages(folder, told.images, told.masks, found.skipped, found.unread)


def _labelled(folder: Path) -> str | None:
    """Why a folder is not of normal images alone; None where nothing tells."""
    own = folder.resolve().name
    if is_mask_name(own):
        return "is named as a folder of masks"
    if is_anomalous_name(own):
        return "is named as a folder of anomalous images"
    for place in _places(folder):
        names = subfolders(place)
        at = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        anomalous = next((name for name in names if is_anomalous_name(name)), None)
        if anomalous is not None:
            return f"holds anomalous images ({printable(at + anomalous)}/)"
        masks = next((name for name in names if is_mask_name(name)), None)
        if masks is not None:
            return f"holds masks ({printable(at + masks)}/)"
        normal = [name for name in names if is_normal_name(name)]
        others = [name for name in names if not is_normal_name(name)]
        if normal and others:
            kind = "a folder of normal images and others beside it"
            return f"holds {kind} ({printable(at + normal[0])}/, {printable(at + others[0])}/)"
        if any(map(is_train_name, names)) and any(map(is_test_name, names)):
            return "holds a whole data set, training and test"
    return None


def _places(folder: Path) -> Iterator[Path]:
    """The folder and what lies up to three levels below it: where data sets have their names."""
    level = [folder]
    for _ in range(4):
        yield from level
        level = [place / name for place in level for name in subfolders(place)]


def _normal_folders(folder: Path) -> Iterator[Path]:
    """Folders of normal images below, those for training first, those for tests last."""
    candidates = [
        place / name for place in _places(folder) for name in subfolders(place) if is_normal_name(name)
    ]
    yield from sorted(candidates, key=lambda path: _use(path.relative_to(folder)))


def _use(below: Path) -> int:
    parts = below.parts
    return 0 if any(map(is_train_name, parts)) else 2 if any(map(is_test_name, parts)) else 1
