"""Labelled images as they lie on disk: which are anomalous, and where their masks are.

A new layout is one function that tells whether a folder has it, one that reads it, and one line in
:data:`LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sspcab_edge.datasets.files import left_out, list_images, natural_key, subfolders, unread_files
from sspcab_edge.datasets.masks import MaskFolder, mask_folders, read_mask, sort_out_masks
from sspcab_edge.datasets.names import (
    is_anomalous_name,
    is_mask_name,
    is_normal_name,
    is_test_name,
    is_train_name,
)
from sspcab_edge.errors import OptionError, PictureError
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import printable

__all__ = ["LAYOUTS", "Category", "Dataset", "LabelledImage", "Layout", "read_dataset"]

_VISA_IMAGES = ("Data", "Images")
_VISA_MASKS = ("Data", "Masks")
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of a data set.

    Attributes:
        path: The file.
        name: Path below the data set's folder, ``/`` between parts, fit to be printed.
        label: Whether it is anomalous.
        masks: Where the anomaly is, in one file or several; none for normal images, and without masks.
    """

    path: Path
    name: str
    label: bool
    masks: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Category:
    """Images of one kind of object or surface.

    Attributes:
        name: Of its folder.
        images: The images, in natural order of their paths.
        masks: Whether every anomalous image has a mask; otherwise none has.
    """

    name: str
    images: tuple[LabelledImage, ...]
    masks: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images.

    Attributes:
        path: The folder as it was given.
        layout: How it is laid out, a key of :data:`LAYOUTS`.
        categories: One or more.
        ignored: Folders that are no category although they lie beside some.
        skipped: How many hidden and system entries were left out.
        unread: Images of kinds that are not read, and videos.
    """

    path: Path
    layout: str
    categories: tuple[Category, ...]
    ignored: tuple[str, ...] = ()
    skipped: int = 0
    unread: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """Those of all categories."""
        return tuple(image for category in self.categories for image in category.images)

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(len(category.images) for category in self.categories)

    @property
    def summary(self) -> str:
        """What was recognised, in one line."""
        images = self.images
        anomalous = sum(image.label for image in images)
        masks = sum(len(image.masks) for image in images)
        parts = [f"{len(images) - anomalous} normal and {anomalous} anomalous images", f"{masks} masks"]
        if len(self.categories) > 1:
            parts.insert(0, f"{len(self.categories)} categories")
        if self.skipped:
            parts.append(f"{self.skipped} hidden or system entries left out")
        if self.unread:
            parts.append(left_out(self.unread))
        if self.ignored:
            parts.append(f"folders not looked at: {', '.join(map(printable, self.ignored))}")
        return f"layout {self.layout}: {', '.join(parts)}"


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
    """The labelled images in a folder; none is decoded yet.

    Names of folders are taken in any case, and as people write them: ``good``, ``normal``, ``OK``; ``bad``,
    ``NG``, ``ko``, ``defective``; see :mod:`sspcab_edge.datasets.names`. Masks are never images.

    * ``mvtec``: a category with ``test/good/``, ``test/<kind of defect>/`` and, where there are masks,
      ``ground_truth/<kind>/<name of the image>_mask.png`` beside or in the test folder; or its test folder;
      or several categories. So are MVTec AD, AD 2 (``test_public``), LOCO (several masks an image), BTAD and
      MPDD.
    * ``folder``: ``good/`` and ``bad/``, with masks in ``masks/``, in ``bad/mask/`` or beside their images;
      or several categories of that kind, as Real-IAD has them.
    * ``visa``: ``Data/Images/Normal``, ``Data/Images/Anomaly``, ``Data/Masks/Anomaly``.
    * ``pairs``: images with masks beside them (``Part0_label.bmp``) or in ``Label/``, as KolektorSDD and DAGM
      have them; an image without one, or whose mask is empty, is normal.

    Args:
        folder: The data set.
        layout: One of :data:`LAYOUTS`; None recognises it by its folders.

    Raises:
        OptionError: No layout has this name, or several fit and tell different things.
        PictureError: No folder, no layout fits, or no images; or there are masks, but some anomalous image
            has none of its own.
    """
    root = local_path(folder)
    if layout is not None and layout not in LAYOUTS:
        raise OptionError(f"unknown layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    try:
        if not root.is_dir():
            raise PictureError(f"{printable(root)} is not a folder of labelled images")
        found = _recognised(root) if layout is None else LAYOUTS[layout].read(root)
        return replace(found, unread=unread_files(root))
    except OSError as error:
        where = printable(error.filename or root)
        raise PictureError(f"cannot read the folder {where}: {error.strerror}") from error


def _recognised(root: Path) -> Dataset:
    """The data set by the one layout that fits, or by the first of those that tell the same."""
    found: list[Dataset] = []
    refused: list[PictureError] = []
    for name in (name for name, known in LAYOUTS.items() if known.recognise(root)):
        try:
            found.append(LAYOUTS[name].read(root))
        except PictureError as error:
            refused.append(error)
    if not found and refused:
        raise refused[0]
    if not found:
        expected = "; or ".join(f"{name}: {known.expected}" for name, known in LAYOUTS.items())
        raise PictureError(
            f"{printable(root)} has no layout that is known: it holds {_contents(root)}; expected {expected}"
        )
    if len({_told(one) for one in found}) > 1:
        readings = "; or ".join(f"--layout {one.layout} ({one.summary})" for one in found)
        raise OptionError(f"{printable(root)} could be laid out in more than one way: say {readings}")
    return found[0]


def _told(dataset: Dataset) -> frozenset[tuple[Path, bool, tuple[Path, ...]]]:
    return frozenset((image.path, image.label, image.masks) for image in dataset.images)


def _contents(root: Path) -> str:
    """What lies in a folder, in words: its folders with the number of images in each."""
    names = subfolders(root)
    parts = [f"{printable(name)}/ ({_count(root / name)} images)" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        parts.append(f"{len(names) - _SHOWN} more folders")
    own = sum(path.is_file() for path in root.iterdir())
    return ", ".join([*parts, f"{own} files"]) if own or not parts else ", ".join(parts)


def _count(folder: Path) -> int:
    try:
        return len(list_images(folder).paths)
    except PictureError:
        return 0


# --- mvtec --------------------------------------------------------------------------------------------------


def _is_mvtec(root: Path) -> bool:
    return bool(_tests(root)) or _is_test(root)


def _is_test(folder: Path) -> bool:
    """Whether a folder holds normal images and, in a folder for each kind of defect, anomalous ones."""
    names = subfolders(folder)
    if not any(map(is_normal_name, names)):
        return False
    place = folder.resolve()
    own = is_test_name(place.name) or not all(map(_is_labelled, names))
    return own or bool(mask_folders(place.parent))


def _test_of(category: Path) -> Path | None:
    """The test folder of a category."""
    for name in subfolders(category):
        if is_test_name(name) and any(map(is_normal_name, subfolders(category / name))):
            return category / name
    return None


def _tests(root: Path) -> list[Path]:
    """The test folder of the category that ``root`` is, or those of the categories in it."""
    own = _test_of(root)
    if own is not None:
        return [own]
    found = (_test_of(root / name) for name in subfolders(root))
    return [test for test in found if test is not None]


def _read_mvtec(root: Path) -> Dataset:
    tests = _tests(root)
    if not tests and any(map(is_normal_name, subfolders(root))):
        tests = [root]
    if not tests:
        raise PictureError(f"{printable(root)} does not have the layout mvtec, expected {_MVTEC}")
    read = [_test_category(root, test) for test in tests]
    names = {test.parent.name for test in tests}
    several = len(tests) > 1 or tests[0].parent.parent == root
    known = names if several else {tests[0].name}
    ignored = tuple(name for name in subfolders(root) if name not in known and not _is_part(name))
    if tests == [root]:
        ignored = ()
    return Dataset(root, "mvtec", tuple(category for category, _ in read), ignored, sum(n for _, n in read))


def _is_part(name: str) -> bool:
    """Whether a category has a folder of this name that holds nothing to be judged."""
    return (
        is_train_name(name) or is_mask_name(name) or name.lower().startswith(("validation", "test_private"))
    )


def _test_category(root: Path, test: Path) -> tuple[Category, int]:
    """The category whose test folder this is, and how much was left out."""
    place = test.resolve()
    kinds = [name for name in subfolders(test) if not is_mask_name(name)]
    for kind in kinds:
        if is_train_name(kind) or is_test_name(kind) or kind.lower() == "validation":
            raise PictureError(
                f"{printable(test)} holds {kind}/, which is no kind of defect: give a category or its test "
                "folder"
            )
    folders = [*mask_folders(test), *mask_folders(place.parent)]
    parts = [(test / kind, not is_normal_name(kind)) for kind in kinds]
    named = place.parent if is_test_name(place.name) else place
    return _category(root, named.name, parts, test, folders)


# --- folder -------------------------------------------------------------------------------------------------


def _is_folder(root: Path) -> bool:
    return _is_two_folders(root) or bool(_two_folder_categories(root))


def _is_two_folders(root: Path) -> bool:
    names = subfolders(root)
    return any(map(is_normal_name, names)) and any(map(is_anomalous_name, names))


def _two_folder_categories(root: Path) -> list[Path]:
    names = [name for name in subfolders(root) if not (is_train_name(name) or is_test_name(name))]
    return [root / name for name in names if _is_two_folders(root / name)]


def _read_folder(root: Path) -> Dataset:
    if _is_two_folders(root):
        category, skipped = _two_folders(root, root)
        return Dataset(root, "folder", (category,), (), skipped)
    places = _two_folder_categories(root)
    if not places:
        unknown = next((name for name in subfolders(root) if not _is_labelled(name)), None)
        holds = "" if unknown is None else f": it holds {printable(unknown)}/, which the layout does not know"
        raise PictureError(f"{printable(root)} does not have the layout folder{holds}, expected {_FOLDER}")
    read = [_two_folders(root, place) for place in places]
    names = {place.name for place in places}
    ignored = tuple(name for name in subfolders(root) if name not in names)
    return Dataset(root, "folder", tuple(category for category, _ in read), ignored, sum(n for _, n in read))


def _is_labelled(name: str) -> bool:
    return is_normal_name(name) or is_anomalous_name(name) or is_mask_name(name)


def _two_folders(root: Path, place: Path) -> tuple[Category, int]:
    for name in subfolders(place):
        if not _is_labelled(name):
            raise PictureError(
                f"{printable(place)} holds {printable(name)}/, which the layout folder does not know, "
                f"expected {_FOLDER}"
            )
    names = [name for name in subfolders(place) if not is_mask_name(name)]
    parts = [(place / name, is_anomalous_name(name)) for name in names]
    return _category(root, place.resolve().name, parts, place, mask_folders(place))


# --- visa ---------------------------------------------------------------------------------------------------


def _visa_categories(root: Path) -> list[Path]:
    places = [root, *(root / name for name in subfolders(root))]
    return [place for place in places if _is_two_folders_at(place.joinpath(*_VISA_IMAGES))]


def _is_two_folders_at(folder: Path) -> bool:
    return folder.is_dir() and _is_two_folders(folder)


def _read_visa(root: Path) -> Dataset:
    places = _visa_categories(root)
    if not places:
        raise PictureError(f"{printable(root)} does not have the layout visa, expected {_VISA}")
    read = []
    for place in places:
        images, masks = place.joinpath(*_VISA_IMAGES), place.joinpath(*_VISA_MASKS)
        parts = [
            (images / name, is_anomalous_name(name)) for name in subfolders(images) if _is_labelled(name)
        ]
        read.append(_category(root, place.resolve().name, parts, images, [masks] if masks.is_dir() else []))
    names = {place.name for place in places}
    ignored = () if places == [root] else tuple(name for name in subfolders(root) if name not in names)
    return Dataset(root, "visa", tuple(category for category, _ in read), ignored, sum(n for _, n in read))


# --- pairs --------------------------------------------------------------------------------------------------


def _is_pairs(root: Path) -> bool:
    try:
        paths = list_images(root).paths
    except PictureError:
        return False
    if any(
        _is_labelled(part)
        for path in paths
        for part in path.relative_to(root).parts[:-1]
        if not is_mask_name(part)
    ):
        return False
    return sort_out_masks(root, paths, pairs=False).masks > 0


def _read_pairs(root: Path) -> Dataset:
    found = list_images(root)
    told = sort_out_masks(root, found.paths, pairs=False)
    images = []
    for path in told.images:
        mask = told.beside.get(path) or _mask_in_folder_beside(path, told.others)
        label = mask is not None and bool(read_mask(mask).any())
        masks = (mask,) if mask is not None and label else ()
        images.append(LabelledImage(path, _name(root, path), label, masks))
    if not told.masks:
        raise PictureError(f"{printable(root)} does not have the layout pairs, expected {_PAIRS}")
    category = Category(root.resolve().name, tuple(images), masks=any(image.masks for image in images))
    return Dataset(root, "pairs", (category,), (), found.skipped)


def _mask_in_folder_beside(image: Path, masks: Sequence[Path]) -> Path | None:
    own = (mask for mask in masks if mask.parent.parent == image.parent)
    stem = image.stem.lower()
    return next(
        (mask for mask in own if mask.stem.lower() == stem or mask.stem.lower().startswith(f"{stem}_")), None
    )


# --- what all share -----------------------------------------------------------------------------------------


def _category(
    root: Path, name: str, parts: Iterable[tuple[Path, bool]], below: Path, folders: Sequence[Path]
) -> tuple[Category, int]:
    """A category of folders that are each all normal or all anomalous.

    Args:
        root: The data set; names of images are relative to it.
        name: Of the category.
        parts: The folders, and whether they are anomalous.
        below: Where the paths that masks are named by begin.
        folders: Of masks; the first that has a mask of an image is asked.
    """
    masks = [MaskFolder.read(folder) for folder in folders]
    images: list[LabelledImage] = []
    any_masks, skipped = bool(masks), 0
    expected: dict[Path, Path] = {}
    for folder, label in parts:
        found = list_images(folder)
        skipped += found.skipped
        told = sort_out_masks(folder, found.paths, pairs=label and not masks)
        any_masks = any_masks or (label and told.masks > 0)
        inner = [MaskFolder.read(one) for one in mask_folders(folder)]
        for path in told.images:
            own: tuple[Path, ...] = ()
            if label:
                own = (told.beside[path],) if path in told.beside else ()
                own = own or _first(inner, path.relative_to(folder)) or _first(masks, path.relative_to(below))
                places = [*masks, *inner]
                if places:
                    expected[path] = places[0].expected(path.relative_to(below if masks else folder))
            images.append(LabelledImage(path, _name(root, path), label, own))
    images.sort(key=lambda image: natural_key(image.name))
    return Category(
        name, _with_masks(images, any_masks, expected), any_masks and any(i.label for i in images)
    ), skipped


def _first(folders: Iterable[MaskFolder], image: Path) -> tuple[Path, ...]:
    return next((own for own in (folder.masks_of(image) for folder in folders) if own), ())


def _with_masks(
    images: Sequence[LabelledImage], any_masks: bool, expected: dict[Path, Path]
) -> tuple[LabelledImage, ...]:
    """The images; where there are any masks every anomalous image has to have one of its own."""
    if not any_masks:
        return tuple(images)
    owners: dict[Path, Path] = {}
    for image in images:
        if image.label and not image.masks:
            where = f", expected {printable(expected[image.path])}" if image.path in expected else ""
            raise PictureError(f"{printable(image.path)} has no mask{where}: add it, or remove all masks")
        for mask in image.masks:
            if mask in owners:
                raise PictureError(
                    f"{printable(owners[mask])} and {printable(image.path)} share the mask {printable(mask)}"
                )
            owners[mask] = image.path
    return tuple(images)


def _name(root: Path, path: Path) -> str:
    return printable(path.relative_to(root).as_posix())


_MVTEC = "test/good/ and test/<kind of defect>/, in one folder or in one per category"
_FOLDER = "good/, normal/ or ok/ and bad/, anomalous/, defect/, ng/ or ko/"
_VISA = "Data/Images/Normal/ and Data/Images/Anomaly/"
_PAIRS = "images with masks beside them (001_label.png) or in a folder Label/"

LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(_is_mvtec, _read_mvtec, _MVTEC),
    "folder": Layout(_is_folder, _read_folder, _FOLDER),
    "visa": Layout(lambda root: bool(_visa_categories(root)), _read_visa, _VISA),
    "pairs": Layout(_is_pairs, _read_pairs, _PAIRS),
}
"""Layout -> how to recognise and read it."""
