"""Images as users keep them: layouts, masks, what is no image, and what must not be guessed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.datasets import Dataset, list_images, read_dataset, read_mask, read_normal_images
from sspcab_edge.datasets.files import natural_key
from sspcab_edge.errors import OptionError, PictureError
from sspcab_edge.printable import printable
from sspcab_runtime.evaluation import mask_at

DEMO = Path(__file__).parents[2] / "examples" / "demo"

Save = Callable[[str, npt.NDArray[np.generic]], Path]
Tree = Callable[..., Path]

PIXELS = np.zeros((2, 3, 3), dtype=np.uint8)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write pixels to a file below ``tmp_path``."""

    def write(name: str, pixels: npt.NDArray[np.generic]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(path.suffix.lower(), pixels)[1]  # type: ignore[arg-type]
        path.write_bytes(data.tobytes())
        return path

    return write


@pytest.fixture
def tree(save: Save, tmp_path: Path) -> Tree:
    """Make small pictures at these places below a folder, and give the folder."""

    def make(*names: str, root: str = "data") -> Path:
        for name in names:
            save(f"{root}/{name}", PIXELS)
        return tmp_path / root

    return make


def names(dataset: Dataset) -> dict[str, bool]:
    return {image.name: image.label for image in dataset.images}


def masks(dataset: Dataset) -> dict[str, Path]:
    """Mask below the data set's folder by name of the picture."""
    root = dataset.path
    return {
        image.name: mask.resolve().relative_to(root.resolve())
        for image in dataset.images
        for mask in image.masks
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
        assert [p.path for p in first.images] == [p.path for p in second.images]
        assert [p.masks for p in first.images] == [p.masks for p in second.images]
    monkeypatch.chdir(root / "test")
    here = read_dataset(".")
    assert here.categories[0].name == "bottle", "a folder has a name also when it is given as a dot"
    assert here.categories[0].masks


def test_masks_are_optional_but_not_some_of_them(tree: Tree) -> None:
    root = tree(*MVTEC)
    bare = read_dataset(root).categories[0]
    assert not bare.masks
    assert [image.masks for image in bare.images] == [()] * 4
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
    assert [picture.label for picture in category.images] == [False]
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
        (("masks/bad/001.png",), r"002\.png has no mask, expected .*masks/bad/x/002_mask\.png: add"),
        (("masks/bad/001.jpg",), r"001\.jpg has no mask, expected .*masks/bad/001_mask\.png"),
        (("masks/001.png", "masks/001_mask.png"), "are masks of one image"),
        (("masks/001.png", "masks/x/002.png", "defect/001.png"), r"share the mask .*001\.png"),
    ],
)
def test_masks_that_are_not_clear(tree: Tree, files: tuple[str, ...], message: str) -> None:
    root = tree("good/001.png", "bad/001.jpg", "bad/x/002.png", *files)
    with pytest.raises(PictureError, match=message):
        read_dataset(root)


def test_masks_of_other_names_are_not_overlooked(tree: Tree) -> None:
    root = tree("test/good/0.png", "test/dent/0.png", "ground_truth/dent/zero.png")
    with pytest.raises(PictureError, match=r"0\.png has no mask, expected .*0_mask\.png"):
        read_dataset(root)


def test_two_pictures_of_one_name_cannot_share_a_mask(tree: Tree) -> None:
    root = tree("test/good/0.png", "test/dent/0.png", "test/dent/0.jpg", "ground_truth/dent/0_mask.png")
    with pytest.raises(PictureError, match=r"0\.jpg and .*0\.png share the mask .*0_mask\.png"):
        read_dataset(root)


def test_what_could_be_two_things_has_to_be_told(tree: Tree) -> None:
    told = read_dataset(tree("test/good/1.png", "test/bad/1.png", "OK/1.png", "NG/1.png", root="both"))
    assert (told.layout, told.ignored) == ("mvtec", ("NG", "OK")), "what is not looked at is said"
    assert "folders not looked at: NG, OK" in told.summary
    mixed = tree("c/good/1.png", "c/bad/1.png", "d/test/good/1.png", "d/test/bad/1.png", root="mixed")
    with pytest.raises(OptionError, match=r"--layout mvtec \(.* at: c\); or --layout folder \(.*: d\)"):
        read_dataset(mixed)
    assert read_dataset(mixed, "mvtec").ignored == ("c",)
    assert read_dataset(mixed, "folder").ignored == ("d",)


def test_what_tells_the_same_in_two_ways_needs_no_telling(tree: Tree) -> None:
    assert names(read_dataset(tree("good/0.png", "bad/0.png", "scratch/0.png"))) == {
        "bad/0.png": True,
        "good/0.png": False,
        "scratch/0.png": True,
    }


@pytest.mark.parametrize(
    ("files", "layout", "message"),
    [
        (
            ("a/0.png",),
            None,
            r"no layout .*: it holds a/ \(1 images\); expected mvtec: .*; or folder: ",
        ),
        (("a/0.png",), "mvtec", "does not have the layout mvtec"),
        (("readme/0.png",), "folder", "holds readme/, which the layout does not know"),
        (("0.png",), "folder", "does not have the layout folder"),
        (("good/0.png", "train/0.png"), "mvtec", "train/, which is no kind of defect"),
        (
            ("good/0.png", "bad/0.png"),
            "photos",
            "unknown layout 'photos': expected one of mvtec, folder, visa",
        ),
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
        with pytest.raises(PictureError, match="is not a folder of labelled images"):
            read_dataset(tmp_path / "nothing", told)
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    for told in (None, layout):
        with pytest.raises(PictureError, match="holds no images"):
            read_dataset(tmp_path, told)


def test_the_demo_is_laid_out_as_mvtec() -> None:
    dataset = read_dataset(DEMO)
    (category,) = dataset.categories
    assert (dataset.layout, category.name, category.masks) == ("mvtec", "demo", True)
    labels = [picture.label for picture in category.images]
    assert (labels.count(True), labels.count(False)) == (48, len(list((DEMO / "test/good").iterdir())))
    for picture in category.images:
        for mask in picture.masks:
            assert mask.parent.name == picture.path.parent.name
            assert mask.stem == f"{picture.path.stem}_mask"


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


@dataclass(frozen=True)
class Row:
    """A data set as its makers publish it, and what is in it."""

    name: str
    files: tuple[str, ...]
    layout: str
    normal: int
    anomalous: int
    masks: int
    categories: int = 1


LAYOUT_ROWS = [
    Row("MVTec AD", (*MVTEC, *MVTEC_MASKS, "train/good/000.png", "license.txt"), "mvtec", 2, 2, 2),
    Row("MVTec AD, several", tuple(f"{c}/{n}" for c in "ab" for n in MVTEC), "mvtec", 4, 4, 0, 2),
    Row(
        "MVTec AD 2",
        ("train/good/000_regular.png", "validation/good/000.png", "test_public/good/000_overexposed.png",
         "test_public/bad/000_regular.png", "test_public/bad/001_shift_1.png", "test_private/000.png",
         "test_public/ground_truth/bad/000_regular_mask.png",
         "test_public/ground_truth/bad/001_shift_1_mask.png"),
        "mvtec", 1, 2, 2,
    ),
    Row(
        "MVTec LOCO",
        ("test/good/000.png", "test/logical_anomalies/000.png", "test/structural_anomalies/000.png",
         "train/good/000.png", "validation/good/000.png", "ground_truth/logical_anomalies/000/000.png",
         "ground_truth/logical_anomalies/000/001.png", "ground_truth/structural_anomalies/000/000.png",
         "defects_config.json"),
        "mvtec", 1, 2, 3,
    ),
    Row("BTAD", ("train/ok/0.bmp", "test/ok/0.bmp", "test/ko/1.bmp", "ground_truth/ko/1.bmp"),
        "mvtec", 1, 1, 1),
    Row(
        "VisA",
        ("Data/Images/Normal/0000.JPG", "Data/Images/Anomaly/000.JPG", "Data/Masks/Anomaly/000.png",
         "image_anno.csv"),
        "visa", 1, 1, 1,
    ),
    Row(
        "VisA, several",
        tuple(
            f"{c}/{n}" for c in ("candle", "pcb1")
            for n in ("Data/Images/Normal/0.JPG", "Data/Images/Anomaly/0.JPG", "Data/Masks/Anomaly/0.png")
        ),
        "visa", 2, 2, 2, 2,
    ),
    Row("VisA 1-class", ("train/good/0.JPG", "test/good/1.JPG", "test/bad/0.JPG", "ground_truth/bad/0.png"),
        "mvtec", 1, 1, 1),
    Row(
        "Real-IAD",
        ("toy/OK/S0001/toy_0001_OK_C1.jpg", "toy/NG/AK/S0002/toy_0002_NG_AK_C1.jpg",
         "toy/NG/AK/S0002/toy_0002_NG_AK_C1.png", "tape/OK/S1/a.jpg", "tape/NG/BX/S2/b.jpg",
         "tape/NG/BX/S2/b.png"),
        "folder", 2, 2, 2, 2,
    ),
    Row("good, NG and mask", ("good/1.png", "good/2.png", "NG/1.png", "mask/1.png"), "folder", 2, 1, 1),
    Row("OK and NG", ("OK/1.png", "NG/1.png", "NG/2.png"), "folder", 1, 2, 0),
    Row("numbered", ("0_OK/1.png", "1_NG/1.png"), "folder", 1, 1, 0),
    Row("masks in bad", ("good/1.png", "bad/1.png", "bad/mask/1_mask.png"), "folder", 1, 1, 1),
    Row("masks beside", ("good/1.png", "bad/1.png", "bad/1_mask.png", "bad/b/2.png", "bad/b/2_mask.png"),
        "folder", 1, 2, 2),
    Row("nested", ("ok/day/1.png", "ok/night/1.png", "defects/scratch/deep/1.png"), "folder", 2, 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("row", LAYOUT_ROWS, ids=[row.name for row in LAYOUT_ROWS])
def test_public_layouts_have_the_right_counts(tree: Tree, row: Row) -> None:
    root = tree(*(name for name in row.files if not name.endswith((".txt", ".json", ".csv"))))
    for name in row.files:
        if name.endswith((".txt", ".json", ".csv")):
            (root / name).write_text("facts\n")
    dataset = read_dataset(root)
    labels = [image.label for image in dataset.images]
    assert (dataset.layout, len(dataset.categories)) == (row.layout, row.categories)
    assert (labels.count(False), labels.count(True)) == (row.normal, row.anomalous)
    assert sum(len(image.masks) for image in dataset.images) == row.masks
    assert not any(
        "mask" in part.lower() for image in dataset.images for part in image.path.relative_to(root).parts
    )
    said = f"{row.normal} normal and {row.anomalous} anomalous images, {row.masks} masks"
    assert said in dataset.summary


def test_pairs_are_labelled_by_their_masks(save: Save, tmp_path: Path) -> None:
    """KolektorSDD beside its images, DAGM in a folder, where only defects have one."""
    empty, some = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    for number, mask in enumerate((empty, some, empty)):
        save(f"kos/kos01/Part{number}.jpg", PIXELS)
        save(f"kos/kos01/Part{number}_label.bmp", mask)
    kolektor = read_dataset(tmp_path / "kos")
    assert kolektor.layout == "pairs"
    assert names(kolektor) == {f"kos01/Part{n}.jpg": n == 1 for n in range(3)}
    assert masks(kolektor) == {"kos01/Part1.jpg": Path("kos01/Part1_label.bmp")}
    for number in range(2):
        save(f"dagm/Test/{number}.PNG", PIXELS)
    save("dagm/Test/Label/1_label.PNG", some)
    assert names(read_dataset(tmp_path / "dagm")) == {"Test/0.PNG": False, "Test/1.PNG": True}


@pytest.mark.parametrize("place", ["test_public", "."])
def test_the_split_of_mvtec_ad_2_may_be_given_itself(tree: Tree, place: str) -> None:
    root = tree("test_public/good/0.png", "test_public/bad/0.png", "test_public/ground_truth/bad/0_mask.png")
    (category,) = read_dataset(root / place).categories
    assert [image.label for image in category.images] == [True, False]
    assert category.masks


SYSTEM = (
    "._000.png", ".ipynb_checkpoints/000-checkpoint.png", "@eaDir/000.png/SYNOPHOTO_THUMB_M.jpg",
    "__MACOSX/000.png", ".Trash-0/000.png", "~$000.png",
)  # fmt: skip


def test_hidden_and_system_entries_are_skipped_and_counted(tree: Tree) -> None:
    root = tree("good/000.png", "bad/000.png", *(f"good/{name}" for name in SYSTEM))
    (root / "good" / "._000.png").write_bytes(b"\0\5\x16\7" + b"\0" * 90)
    (root / "Thumbs.db").write_bytes(b"no image")
    dataset = read_dataset(root)
    assert sorted(names(dataset)) == ["bad/000.png", "good/000.png"]
    assert dataset.skipped == len(SYSTEM)
    assert f"{len(SYSTEM)} hidden or system entries left out" in dataset.summary
    normal = read_normal_images(root / "good")
    assert [path.name for path in normal.paths] == ["000.png"]
    assert normal.skipped == len(SYSTEM)
    assert normal.notes == (f"{len(SYSTEM)} hidden or system entries in {root / 'good'} left out",)


OTHERS = ("a.heic", "b.HEIC", "c.avif", "d.gif", "e.mp4")


def test_images_of_other_kinds_and_videos_are_named(tree: Tree) -> None:
    said = "images of other kinds and videos left out: 2 .heic, 1 .avif, 1 .gif, 1 .mp4"
    root = tree("good/000.png", "bad/001.png")
    for name in (*OTHERS, "readme.txt"):
        (root / "good" / name).touch()
    assert [path.name for path in list_images(root / "good").unread] == list(OTHERS)
    assert said in read_dataset(root).summary
    assert read_normal_images(root / "good").notes == (f"{root / 'good'}: {said}",)
    only = root.with_name("only")
    (root / "good" / "000.png").unlink()
    (root / "good").rename(only)
    with pytest.raises(PictureError, match=rf"holds no images .*; {said}"):
        list_images(only)


def test_a_hidden_folder_that_is_given_itself_is_read(tree: Tree) -> None:
    assert len(list_images(tree("1.png", root=".hidden")).paths) == 1
    root = tree("._1.png", root="only")
    with pytest.raises(PictureError, match=r"holds no images .*; 1 hidden or system entries were left out"):
        list_images(root)


def test_names_are_in_natural_order(tree: Tree) -> None:
    root = tree("img10.png", "img2.png", "IMG1.png", "sub2/1.png", "sub10/1.png", "img02.png")
    found = [path.relative_to(root).as_posix() for path in list_images(root).paths]
    assert found == ["IMG1.png", "img02.png", "img2.png", "img10.png", "sub2/1.png", "sub10/1.png"]


@given(st.lists(st.text(alphabet="aB1029_.", min_size=1, max_size=8), unique=True, max_size=12))
def test_the_order_of_names_is_total(given_names: list[str]) -> None:
    assert len({natural_key(name) for name in given_names}) == len(given_names)
    backwards = list(reversed(given_names))
    assert sorted(given_names, key=natural_key) == sorted(backwards, key=natural_key)


def test_links_are_followed_once(tree: Tree) -> None:
    root = tree("a/1.png", "a/2.png")
    (root / "a" / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "a")
    assert [path.name for path in list_images(root).paths] == ["1.png", "2.png"]
    outside = tree("3.png", root="elsewhere")
    (root / "b").symlink_to(outside)
    assert [path.name for path in list_images(root).paths] == ["1.png", "2.png", "3.png"]


def test_names_that_are_no_text_are_escaped(tree: Tree, tmp_path: Path) -> None:
    root = tree("good/1.png", "bad/1.png")
    os.rename(os.fsencode(root / "good/1.png"), os.fsencode(root / "good") + b"/\xff\n\x1b[2J.png")
    (name,) = [name for name, label in names(read_dataset(root)).items() if not label]
    assert name == r"good/\xff\n\x1b[2J.png"
    assert printable("plain/päß.png") == "plain/päß.png"


VISA = ("Data/Images/Normal/1.JPG", "Data/Images/Anomaly/1.JPG")
CATEGORY = (*MVTEC, *MVTEC_MASKS, "train/good/000.png")


@pytest.mark.parametrize(
    ("files", "given_folder", "reason", "meant"),
    [
        (CATEGORY, ".", "holds masks .ground_truth/.", "train/good"),
        (tuple(f"bottle/{name}" for name in CATEGORY), ".", "holds masks", "bottle/train/good"),
        (MVTEC, "test", "holds a folder of normal images and others beside it .good/, dent/.", "test/good"),
        (("train/good/1.png", "test/good/1.png"), ".", "whole data set, training and test", "train/good"),
        (("OK/1.png", "NG/1.png"), ".", "holds anomalous images .NG/.", "OK"),
        (
            VISA,
            ".",
            "anomalous images",
            "Data/Images/Normal",
        ),
        (("NG/1.png",), "NG", "is named as a folder of anomalous images", None),
        (("ground_truth/dent/1_mask.png",), "ground_truth", "is named as a folder of masks", None),
    ],
)
def test_a_labelled_folder_is_no_folder_of_normal_images(
    tree: Tree, files: tuple[str, ...], given_folder: str, reason: str, meant: str | None
) -> None:
    root = tree(*files)
    with pytest.raises(PictureError, match=reason) as caught:
        read_normal_images(root / given_folder)
    told = str(caught.value)
    assert ("give that folder" in told) == (meant is not None)
    if meant is not None:
        assert f"probably in {root / meant}: give" in told


def test_folders_of_normal_images_may_be_nested_and_hold_masks_beside(tree: Tree) -> None:
    root = tree("day/1.png", "night/1.png", "night/1_mask.png", "labels/1.png", root="label")
    normal = read_normal_images(root / "night")
    assert [path.name for path in normal.paths] == ["1.png"]
    assert normal.notes == (f"1 masks in {root / 'night'} left out: they are no images",)
    assert len(read_normal_images(tree("good/1.png", "good/sub/2.png", root="train")).paths) == 2


def test_a_folder_that_may_not_be_read_is_one_line(tree: Tree) -> None:
    root = tree("good/1.png", "bad/1.png")
    root.chmod(0)
    nobody = os.geteuid() == 0
    if nobody:
        os.seteuid(65534)  # root may read everything
    try:
        for read in (read_dataset, list_images, read_normal_images):
            with pytest.raises(PictureError, match=r"cannot read the folder .*data: Permission denied"):
                read(root)
    finally:
        if nobody:
            os.seteuid(0)
        root.chmod(0o755)
