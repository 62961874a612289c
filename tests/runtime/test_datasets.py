"""Labelled pictures as users keep them: layouts, masks, and what must not be guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.errors import OptionError, PictureError
from sspcab_runtime.datasets import Dataset, read_dataset, read_mask
from sspcab_runtime.evaluation import mask_at

DEMO = Path(__file__).parents[2] / "examples" / "demo"

Save = Callable[[str, npt.NDArray[np.generic]], Path]
Tree = Callable[..., Path]

PIXELS = np.zeros((2, 3, 3), dtype=np.uint8)


@pytest.fixture
def tree(save: Save, tmp_path: Path) -> Tree:
    """Make small pictures at these places below a folder, and give the folder."""

    def make(*names: str, root: str = "data") -> Path:
        for name in names:
            save(f"{root}/{name}", PIXELS)
        return tmp_path / root

    return make


def names(dataset: Dataset) -> dict[str, bool]:
    return {picture.name: picture.label for category in dataset.categories for picture in category.pictures}


def masks(dataset: Dataset) -> dict[str, Path]:
    """Mask below the data set's folder by name of the picture."""
    root = dataset.path
    return {
        picture.name: picture.mask.resolve().relative_to(root.resolve())
        for category in dataset.categories
        for picture in category.pictures
        if picture.mask is not None
    }


MVTEC = ("test/good/000.png", "test/good/001.png", "test/scratch/000.png", "test/dent/000.png")
MVTEC_MASKS = ("ground_truth/scratch/000_mask.png", "ground_truth/dent/000_mask.png")


def test_a_category_of_mvtec(tree: Tree) -> None:
    dataset = read_dataset(tree(*MVTEC, *MVTEC_MASKS, "train/good/000.png", root="bottle"))
    assert dataset.layout == "mvtec"
    assert [category.name for category in dataset.categories] == ["bottle"]
    assert names(dataset) == {
        "test/dent/000.png": True,
        "test/good/000.png": False,
        "test/good/001.png": False,
        "test/scratch/000.png": True,
    }
    assert dataset.categories[0].masks
    assert masks(dataset) == {
        "test/dent/000.png": Path("ground_truth/dent/000_mask.png"),
        "test/scratch/000.png": Path("ground_truth/scratch/000_mask.png"),
    }
    assert dataset.count == 4


def test_its_test_folder_is_the_same_data_set(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*MVTEC, *MVTEC_MASKS, root="bottle")
    whole, inner = read_dataset(root), read_dataset(root / "test")
    assert names(inner) == {name.removeprefix("test/"): label for name, label in names(whole).items()}
    for first, second in zip(whole.categories, inner.categories, strict=True):
        assert (first.name, first.masks) == (second.name, second.masks)
        assert [p.path for p in first.pictures] == [p.path for p in second.pictures]
        assert [p.mask for p in first.pictures] == [p.mask for p in second.pictures]
    monkeypatch.chdir(root / "test")
    here = read_dataset(".")
    assert here.categories[0].name == "bottle", "a folder has a name also when it is given as a dot"
    assert here.categories[0].masks


def test_masks_are_optional_but_not_some_of_them(tree: Tree) -> None:
    root = tree(*MVTEC)
    bare = read_dataset(root).categories[0]
    assert not bare.masks
    assert [picture.mask for picture in bare.pictures] == [None] * 4
    tree(MVTEC_MASKS[0])
    with pytest.raises(PictureError, match=r"dent/000\.png has no mask, expected .*dent/000_mask\.png"):
        read_dataset(root)
    tree(MVTEC_MASKS[1])
    assert read_dataset(root).categories[0].masks


def test_several_categories_at_once(tree: Tree) -> None:
    root = tree(
        *(f"bottle/{name}" for name in (*MVTEC, *MVTEC_MASKS)),
        *(f"cable/{name}" for name in MVTEC),
        "split_csv/plot.png",
        "cable/train/good/000.png",
    )
    dataset = read_dataset(root)
    assert [(category.name, category.masks) for category in dataset.categories] == [
        ("bottle", True),
        ("cable", False),
    ]
    assert dataset.ignored == ("split_csv",)
    assert dataset.count == 8
    assert names(dataset)["cable/test/dent/000.png"] is True


def test_only_good_pictures_can_tell_false_alarms(tree: Tree) -> None:
    category = read_dataset(tree("test/good/000.png")).categories[0]
    assert [picture.label for picture in category.pictures] == [False]
    assert not category.masks


@pytest.mark.parametrize("good", ["good", "normal", "ok", "OK", "Good"])
@pytest.mark.parametrize("bad", ["bad", "anomalous", "defect", "ng", "NG", "abnormal"])
def test_two_folders(tree: Tree, good: str, bad: str) -> None:
    dataset = read_dataset(tree(f"{good}/a.png", f"{bad}/b.jpg", f"{bad}/more/c.png", "overview.png"))
    assert dataset.layout == "folder"
    assert names(dataset) == {
        f"{good}/a.png": False,
        f"{bad}/b.jpg": True,
        f"{bad}/more/c.png": True,
    }, "a picture that lies in none of the folders has no label"
    assert not dataset.categories[0].masks
    assert dataset.categories[0].name == "data"


@pytest.mark.parametrize(
    "stored",
    [
        ("masks/bad/001.png", "masks/bad/x/002.png"),
        ("masks/bad/001_mask.png", "masks/bad/x/002_mask.tif"),
        ("masks/001.png", "masks/x/002.bmp"),
        ("masks/bad/001.PNG", "masks/x/002_mask.png"),
    ],
)
def test_masks_beside_two_folders(tree: Tree, stored: tuple[str, str]) -> None:
    dataset = read_dataset(tree("good/001.png", "bad/001.jpg", "bad/x/002.png", *stored))
    assert masks(dataset) == {"bad/001.jpg": Path(stored[0]), "bad/x/002.png": Path(stored[1])}
    assert dataset.categories[0].masks


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("masks/bad/001.png",), r"002\.png has no mask, expected .*masks/bad/x/002\.png: add"),
        (("masks/bad/001.jpg",), r"001\.jpg has no mask, expected .*masks/bad/001\.png"),
        (("masks/001.png", "masks/001_mask.png"), "are masks of one picture"),
        (("masks/001.png", "masks/x/002.png", "defect/001.png"), r"share the mask .*001\.png"),
    ],
)
def test_masks_that_are_not_clear(tree: Tree, files: tuple[str, ...], message: str) -> None:
    root = tree("good/001.png", "bad/001.jpg", "bad/x/002.png", *files)
    with pytest.raises(PictureError, match=message):
        read_dataset(root)


def test_masks_of_other_names_are_not_overlooked(tree: Tree) -> None:
    root = tree("test/good/0.png", "test/dent/0.png", "ground_truth/dent/0.png")
    with pytest.raises(PictureError, match=r"0\.png has no mask, expected .*0_mask\.png"):
        read_dataset(root)


def test_two_pictures_of_one_name_cannot_share_a_mask(tree: Tree) -> None:
    root = tree("test/good/0.png", "test/dent/0.png", "test/dent/0.jpg", "ground_truth/dent/0_mask.png")
    with pytest.raises(PictureError, match=r"0\.jpg and .*0\.png share the mask .*0_mask\.png"):
        read_dataset(root)


@pytest.mark.parametrize(
    "files",
    [
        ("good/0.png", "bad/0.png", "scratch/0.png"),
        ("good/0.png", "bad/0.png", "../ground_truth/bad/0_mask.png"),
        ("good/0.png", "bad/0.png", "test/good/0.png"),
    ],
)
def test_what_could_be_both_has_to_be_told(tree: Tree, files: tuple[str, ...]) -> None:
    root = tree(*files)
    with pytest.raises(OptionError, match="--layout mvtec or --layout folder"):
        read_dataset(root)
    assert read_dataset(root, "mvtec").layout == "mvtec"


def test_a_layout_that_was_told_decides_about_masks(tree: Tree) -> None:
    root = tree("good/0.png", "bad/0.png", "masks/0.png", "../ground_truth/bad/0_mask.png")
    assert masks(read_dataset(root, "folder")) == {"bad/0.png": Path("masks/0.png")}
    with pytest.raises(PictureError, match="masks/, which is no kind of defect"):
        read_dataset(root, "mvtec")


@pytest.mark.parametrize(
    ("files", "layout", "message"),
    [
        (("a/0.png",), None, "has no layout that is known, expected mvtec: .*; or folder: "),
        (("a/0.png",), "mvtec", "does not have the layout mvtec"),
        (("readme/0.png",), "folder", "readme/, which the layout folder does not know"),
        (("0.png",), "folder", "does not have the layout folder"),
        (("good/0.png", "train/0.png"), "mvtec", "train/, which is no kind of defect"),
        (("good/0.png", "bad/0.png"), "photos", "unknown layout 'photos': expected one of mvtec, folder"),
    ],
)
def test_what_is_no_data_set(tree: Tree, files: tuple[str, ...], layout: str | None, message: str) -> None:
    with pytest.raises((PictureError, OptionError), match=message):
        read_dataset(tree(*files), layout)


@pytest.mark.parametrize(
    ("layout", "folders"), [("mvtec", ("test/good", "test/dent")), ("folder", ("good", "bad"))]
)
def test_no_folder_and_no_pictures(tmp_path: Path, layout: str, folders: tuple[str, str]) -> None:
    for told in (None, layout):
        with pytest.raises(PictureError, match="is not a folder of labelled pictures"):
            read_dataset(tmp_path / "nothing", told)
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    for told in (None, layout):
        with pytest.raises(PictureError, match="holds no pictures"):
            read_dataset(tmp_path, told)


def test_the_demo_is_laid_out_as_mvtec() -> None:
    dataset = read_dataset(DEMO)
    (category,) = dataset.categories
    assert (dataset.layout, category.name, category.masks) == ("mvtec", "demo", True)
    labels = [picture.label for picture in category.pictures]
    assert (labels.count(True), labels.count(False)) == (48, len(list((DEMO / "test/good").iterdir())))
    for picture in category.pictures:
        if picture.mask is not None:
            assert picture.mask.parent.name == picture.path.parent.name
            assert picture.mask.stem == f"{picture.path.stem}_mask"


@pytest.mark.parametrize("value", [1, 128, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_is_whatever_is_not_zero(save: Save, value: int, channels: int) -> None:
    truth = np.zeros((5, 7), dtype=bool)
    truth[1:3, 4:] = True
    stored = np.where(truth, np.uint8(value), np.uint8(0))
    mask = read_mask(save("mask.png", stored if channels == 1 else np.dstack([stored * 0, stored, stored])))
    assert mask.dtype == bool
    assert np.array_equal(mask, truth)


def test_masks_that_cannot_be_read(save: Save, tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="16 bits per channel, expected 8"):
        read_mask(save("deep.png", np.ones((4, 4), dtype=np.uint16)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(PictureError, match="cannot be decoded"):
        read_mask(tmp_path / "broken.png")


@given(*(st.integers(1, 40) for _ in range(4)), st.integers(0, 2**32 - 1))
def test_a_mask_at_another_size_has_the_label_at_each_centre(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    got = mask_at(mask, (rows, columns))
    for row in range(rows):
        for column in range(columns):
            at = int((row + 0.5) * height / rows), int((column + 0.5) * width / columns)
            assert got[row, column] == mask[at]


def test_shrinking_by_a_whole_odd_factor_is_what_opencv_does() -> None:
    mask = np.random.default_rng(0).random((48, 64)) < 0.5
    larger = np.kron(mask, np.ones((3, 5), dtype=bool))
    assert np.array_equal(mask_at(larger, (48, 64)), mask)
    exact = cv2.resize(larger.astype(np.uint8), (64, 48), interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(exact.astype(bool), mask)
