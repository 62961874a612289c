"""``sspcab-edge evaluate``: figures of real engines against scikit-learn, and a report worth keeping."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sspcab_edge.bundle import Bundle
from sspcab_edge.datasets import Dataset, read_dataset
from sspcab_edge.errors import EngineError, OptionError, OutputError, PictureError
from sspcab_edge.ports import whole_frame_ports
from sspcab_edge.preprocess import decode_picture
from sspcab_runtime import Detector
from sspcab_runtime.engines.table import load_engine
from sspcab_runtime.evaluation import Areas, Evaluation, Judged, Speed, evaluate
from sspcab_runtime.evaluation_report import check_folder
from sspcab_runtime.frontends.whole_frame import WholeFrame
from sspcab_runtime.overlay import Tile, contact_sheet, draw_overlay, heat_range, thumbnail
from sspcab_runtime.paper import MVTEC_CATEGORIES, PUBLISHED, caveat, find_published, published_for
from sspcab_runtime.worst_cases import draw_worst_cases, worst_cases

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Build = Callable[..., Bundle]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Save = Callable[[str, npt.NDArray[np.generic]], Path]
Change = Callable[[Any], None]

HEIGHT, WIDTH = 24, 32
LABELS = (False, False, True, False, False, True, False, True, True, False, True, True)
"""Of the twelve pictures, whose scores rise roughly with their number: one cannot tell them apart wholly."""


def enlarged(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Twice as high and wide; the runtime's resize gives the original back."""
    return np.repeat(np.repeat(pixels, 2, 0), 2, 1)


def random_masks() -> list[Mask]:
    """(2H, 2W) masks, none of them empty, fine enough that nearest neighbour is not anything else."""
    rng = np.random.default_rng(5)
    return [rng.random((2 * HEIGHT, 2 * WIDTH)) < rng.uniform(0.05, 0.5) for _ in LABELS]


@pytest.fixture
def category(frames: Pixels, save: Save, tmp_path: Path) -> Path:
    """The twelve pictures, twice as large, as a category of MVTec AD with masks."""
    for number, (pixels, label, mask) in enumerate(zip(frames, LABELS, random_masks(), strict=True)):
        kind = "good" if not label else ("dent", "scratch")[number % 2]
        save(f"bottle/test/{kind}/{number:03d}.png", enlarged(pixels)[..., ::-1])
        if label:
            save(f"bottle/ground_truth/{kind}/{number:03d}_mask.png", mask.astype(np.uint8) * 255)
    return tmp_path / "bottle"


def in_order(dataset: Dataset) -> list[int]:
    """The pictures' numbers, in the order of the data set."""
    return [int(picture.path.stem) for category in dataset.categories for picture in category.images]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_figures_are_scikit_learns(pristine: Path, category: Path, backend: str) -> None:
    dataset = read_dataset(category)
    order = in_order(dataset)
    with Detector.open(pristine, backend=backend) as detector:
        evaluation = evaluate(detector, dataset)
        verdicts = [detector(decode_picture(p.path).pixels) for p in dataset.categories[0].images]
    (figures,) = evaluation.categories
    scores = np.array([picture.score for picture in evaluation.pictures])
    labels = np.array([LABELS[number] for number in order])
    assert scores.tolist() == [verdict.score for verdict in verdicts]
    assert [picture.label for picture in evaluation.pictures] == labels.tolist()
    assert 0.5 < roc_auc_score(labels, scores) < 1, "neither chance nor perfect"
    assert figures.areas.image_auroc == pytest.approx(roc_auc_score(labels, scores))
    assert figures.areas.image_ap == pytest.approx(average_precision_score(labels, scores))

    maps = np.stack([verdict.map for verdict in verdicts if verdict.map is not None])
    truth = np.zeros(maps.shape, dtype=bool)
    for at, number in enumerate(order):
        if LABELS[number]:
            truth[at] = random_masks()[number][1::2, 1::2]
    assert figures.areas.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()))
    assert figures.areas.pixel_ap == pytest.approx(average_precision_score(truth.ravel(), maps.ravel()))
    assert (figures.pixel_slack, figures.without_pixels) == (0.0, None)

    flagged = scores > 0.6
    counted = figures.confusion
    assert counted is not None
    assert counted == evaluation.confusion
    assert counted.true_positives == (flagged & labels).sum() > 0
    assert counted.false_positives == (flagged & ~labels).sum() > 0
    assert counted.f1 == pytest.approx(f1_score(labels, flagged))
    assert figures.best_f1 is not None
    assert figures.best_f1.f1 == pytest.approx(max(f1_score(labels, scores >= score) for score in scores))
    assert f1_score(labels, scores > figures.best_f1.threshold) == pytest.approx(figures.best_f1.f1)


def test_figures_are_those_of_the_network_by_definition(
    pristine: Path, category: Path, network: Network, frames: Pixels
) -> None:
    """Independent of decoder, resize, engine and pipeline."""
    scores, maps = network(frames)
    truth = np.stack([mask[1::2, 1::2] & label for mask, label in zip(random_masks(), LABELS, strict=True)])
    with Detector.open(pristine) as detector:
        areas = evaluate(detector, read_dataset(category)).categories[0].areas
    assert areas.image_auroc == pytest.approx(roc_auc_score(LABELS, scores))
    assert areas.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), maps.ravel()), abs=1e-4)
    assert areas.pixel_ap == pytest.approx(average_precision_score(truth.ravel(), maps.ravel()), abs=1e-4)


def test_without_masks_there_are_no_pixel_figures_and_that_is_said(pristine: Path, folder: Path) -> None:
    (folder / "early").rename(folder / "bad")
    (folder / "late").rename(folder / "good")
    with Detector.open(pristine) as detector:
        (figures,) = evaluate(detector, read_dataset(folder)).categories
    assert figures.areas.image_auroc is not None
    assert (figures.areas.pixel_auroc, figures.areas.pixel_ap) == (None, None)
    assert figures.without_pixels == "no masks"


def test_several_categories_and_their_mean(
    pristine: Path, category: Path, save: Save, tmp_path: Path
) -> None:
    """The mean is of what all have: one category has no masks, and another only good pictures."""
    root = tmp_path / "all"
    root.mkdir()
    category.rename(root / "bottle")
    for number in range(4):
        pixels = np.full((HEIGHT, WIDTH, 3), 60 * number, dtype=np.uint8)
        save(f"all/cable/test/{'good' if number < 2 else 'cut'}/{number}.png", pixels)
    with Detector.open(pristine) as detector:
        dataset = read_dataset(root)
        evaluation = evaluate(detector, dataset)
        save("all/pill/test/good/0.png", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
        three = evaluate(detector, read_dataset(root))
    first, second = evaluation.categories
    assert (first.name, second.name) == ("bottle", "cable")
    assert (second.normal, second.anomalous, second.without_pixels) == (2, 2, "no masks")
    assert evaluation.mean is not None
    values = [first.areas.image_auroc, second.areas.image_auroc]
    assert evaluation.mean.image_auroc == pytest.approx(np.mean([v for v in values if v is not None]))
    assert evaluation.mean.pixel_auroc is None, "a mean over some of the categories would look like one"
    assert evaluation.confusion is not None
    assert first.confusion is not None
    assert second.confusion is not None
    assert evaluation.confusion.negatives == first.confusion.negatives + 2
    assert evaluation.confusion.true_positives == (
        first.confusion.true_positives + second.confusion.true_positives
    )
    assert three.categories[2].areas == Areas()
    assert three.categories[2].best_f1 is None
    assert three.mean == Areas()


def test_threshold_of_the_site_and_none_at_all(build: Build, category: Path, tmp_path: Path) -> None:
    dataset = read_dataset(category)
    bundle = build(tmp_path / "bundle", threshold=None).path
    with Detector.open(bundle) as detector:
        evaluation = evaluate(detector, dataset)
    assert evaluation.threshold is None
    assert evaluation.confusion is None
    assert [picture.anomalous for picture in evaluation.pictures] == [None] * 12
    assert evaluation.categories[0].areas.image_auroc is not None
    assert evaluation.categories[0].best_f1 is not None
    with Detector.open(bundle, threshold=-1.0) as detector:
        counted = evaluate(detector, dataset).confusion
    assert counted is not None
    assert (counted.recall, counted.false_alarm_rate) == (1.0, 1.0), "everything is above -1"


def changed(pristine: Path, tmp_path: Path, change: Change, map_size: tuple[int, int] | None) -> Detector:
    """A detector of the tiny network after ``change``, on ONNX Runtime."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no graph to change")
    bundle = Bundle.open(pristine)
    model = onnx.load(bundle.file("model.fp32.onnx"))
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    artifact = bundle.manifest.artifacts[0]
    ports = whole_frame_ports(HEIGHT, WIDTH, map_size)
    engine = load_engine("onnxruntime", tmp_path / "changed.onnx", *ports)
    return Detector(bundle, artifact, engine, WholeFrame(bundle.manifest, artifact, 0.6), 0.6)


def without_map(model: Any) -> None:
    kept = [output for output in model.graph.output if output.name != "map"]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def pooled(model: Any) -> None:
    """The map as means over 4x8 pixels: (6, 4)."""
    import onnx

    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = "fine" if name == "map" else name
    model.graph.node.append(
        onnx.helper.make_node("AveragePool", ["s"], ["p"], kernel_shape=[4, 8], strides=[4, 8])
    )
    model.graph.node.append(onnx.helper.make_node("Squeeze", ["p", "axis"], ["map"]))
    for output in model.graph.output:
        if output.name == "map":
            for dimension, size in zip(output.type.tensor_type.shape.dim[1:], (6, 4), strict=True):
                dimension.dim_value = size


def divided_by_zero(model: Any) -> None:
    """A map with NaN in it, and a score that is fine."""
    import onnx

    for node in model.graph.node:
        if node.op_type == "ReduceMax":
            node.input[0] = "fine"
        elif "map" in node.output:
            node.output[0] = "fine"
    model.graph.node.append(onnx.helper.make_node("Sub", ["fine", "fine"], ["zero"]))
    model.graph.node.append(onnx.helper.make_node("Div", ["zero", "zero"], ["map"]))


def test_a_host_without_a_map(pristine: Path, category: Path, tmp_path: Path) -> None:
    with changed(pristine, tmp_path, without_map, None) as detector:
        evaluation = evaluate(detector, read_dataset(category))
        sheet = draw_worst_cases(detector, worst_cases(evaluation))
    (figures,) = evaluation.categories
    assert figures.areas.image_auroc is not None
    assert figures.areas.pixel_auroc is None
    assert figures.without_pixels == "the host gives no map"
    assert sheet.shape[2] == 3


def test_a_map_of_another_size_than_the_frame(pristine: Path, category: Path, tmp_path: Path) -> None:
    dataset = read_dataset(category)
    with changed(pristine, tmp_path, pooled, (6, 4)) as detector:
        (figures,) = evaluate(detector, dataset).categories
        maps = [detector(decode_picture(p.path).pixels).map for p in dataset.categories[0].images]
    heat = np.stack([one for one in maps if one is not None])
    assert heat.shape == (12, 6, 4)
    truth = np.stack([random_masks()[number][4::8, 8::16] & LABELS[number] for number in in_order(dataset)])
    assert figures.areas.pixel_auroc == pytest.approx(roc_auc_score(truth.ravel(), heat.ravel()))
    assert figures.areas.pixel_ap == pytest.approx(average_precision_score(truth.ravel(), heat.ravel()))


def test_a_map_that_is_not_finite_is_no_figure(pristine: Path, category: Path, tmp_path: Path) -> None:
    with (
        changed(pristine, tmp_path, divided_by_zero, (HEIGHT, WIDTH)) as detector,
        pytest.raises(EngineError, match=r"the map of .*\.png has values that are not finite"),
    ):
        evaluate(detector, read_dataset(category))


def test_a_mask_of_another_size_than_its_picture(pristine: Path, category: Path, save: Save) -> None:
    save("bottle/ground_truth/dent/002_mask.png", np.ones((HEIGHT, WIDTH), dtype=np.uint8))
    message = r"mask .*002_mask\.png is 32x24 pixels, but its image .*002\.png is 64x48"
    with Detector.open(pristine) as detector:
        with pytest.raises(PictureError, match=message):
            evaluate(detector, read_dataset(category))
        assert not [one.name for one in threading.enumerate() if one.name.startswith("sspcab")], "all stopped"


def test_masks_without_an_anomalous_pixel(pristine: Path, category: Path, save: Save) -> None:
    for path in (category / "ground_truth").rglob("*.png"):
        place = path.relative_to(category.parent).as_posix()
        save(place, np.zeros((2 * HEIGHT, 2 * WIDTH), dtype=np.uint8))
    with Detector.open(pristine) as detector:
        (figures,) = evaluate(detector, read_dataset(category)).categories
    assert figures.areas.pixel_auroc is None
    assert figures.without_pixels == "no pixel is anomalous, or none is normal"


def test_pictures_that_cannot_be_decoded_are_counted_and_named(pristine: Path, category: Path) -> None:
    (category / "test/good/001.png").write_bytes(b"no picture")
    (category / "test/scratch/007.png").write_bytes(b"")
    with Detector.open(pristine) as detector, pytest.raises(PictureError) as caught:
        evaluate(detector, read_dataset(category))
    text = str(caught.value)
    assert text.startswith("2 of 12 pictures could not be judged: ")
    assert "001.png" in text
    assert "007.png is empty" in text


def test_progress_speed_and_conversions(pristine: Path, category: Path, save: Save) -> None:
    save("bottle/test/good/012.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint16))
    steps: list[tuple[int, int]] = []
    with Detector.open(pristine) as detector:
        start = time.perf_counter()
        evaluation = evaluate(detector, read_dataset(category), lambda done, of: steps.append((done, of)))
        elapsed_s = time.perf_counter() - start
    assert steps == [(number, 13) for number in range(1, 14)]
    assert dict(evaluation.converted) == {"16-bit to 8-bit, grey to RGB": 1}
    speed = evaluation.speed
    assert 13 / elapsed_s <= speed.fps, "it took no longer than the whole"
    assert 13e3 / speed.fps > speed.median_ms, "and pictures were judged in it"
    assert 0 < speed.median_ms <= speed.p95_ms


def made(*scores: tuple[float, bool], threshold: float | None) -> Evaluation:
    """An evaluation of pictures with these scores and labels."""
    pictures = tuple(
        Judged(
            Path(f"{at}.png"),
            f"{at}.png",
            "made",
            label,
            score,
            None if threshold is None else score > threshold,
        )
        for at, (score, label) in enumerate(scores)
    )
    return Evaluation(threshold, (), None, None, pictures, Speed(1.0, 1.0, 1.0), {})


def shown(evaluation: Evaluation) -> list[tuple[float, str]]:
    return [(picture.score, what) for picture, what in worst_cases(evaluation).cases]


def test_the_worst_are_the_lowest_misses_and_the_highest_false_alarms() -> None:
    evaluation = made(
        (0.4, True), (0.1, True), (0.9, True), (0.2, False), (0.7, False), (0.8, False), threshold=0.5
    )
    assert shown(evaluation) == [(0.1, "missed"), (0.4, "missed"), (0.8, "false alarm"), (0.7, "false alarm")]
    assert worst_cases(evaluation).title == "Wrong: missed 2, false alarms 2"


@pytest.mark.parametrize(
    ("missed", "alarms", "expected"), [(40, 40, (12, 12)), (40, 3, (21, 3)), (0, 40, (0, 24)), (5, 5, (5, 5))]
)
def test_a_sheet_has_room_for_both_kinds(missed: int, alarms: int, expected: tuple[int, int]) -> None:
    low = [(0.4 - number / 1000, True) for number in range(missed)]
    high = [(0.6 + number / 1000, False) for number in range(alarms)]
    cases = shown(made(*low, *high, (0.9, True), threshold=0.5))
    assert cases == [
        *((score, "missed") for score, _ in sorted(low)[: expected[0]]),
        *((score, "false alarm") for score, _ in sorted(high, reverse=True)[: expected[1]]),
    ]


def test_when_none_is_wrong_the_nearest_are_shown() -> None:
    evaluation = made(
        *((0.6 + n / 100, True) for n in range(20)),
        *((0.4 - n / 90, False) for n in range(20)),
        threshold=0.5,
    )
    cases = shown(evaluation)
    assert len(cases) == 24
    distances = [abs(score - 0.5) for score, _ in cases]
    assert distances == sorted(abs(p.score - 0.5) for p in evaluation.pictures)[:24]
    assert cases[0][1] in ("normal", "anomalous")
    assert worst_cases(evaluation).title.startswith("None is wrong: the pictures nearest to the threshold")


def test_without_a_threshold_the_lowest_anomalous_and_the_highest_normal_are_shown() -> None:
    evaluation = made((0.4, True), (0.1, True), (0.2, False), (0.7, False), threshold=None)
    assert shown(evaluation) == [(0.1, "anomalous"), (0.4, "anomalous"), (0.7, "normal"), (0.2, "normal")]
    assert worst_cases(evaluation).title.startswith("No threshold")


def test_the_sheet_shows_each_with_its_verdict_below_the_title(pristine: Path, category: Path) -> None:
    dataset = read_dataset(category)
    with Detector.open(pristine) as detector:
        middle = float(np.median([picture.score for picture in evaluate(detector, dataset).pictures]))
    with Detector.open(pristine, threshold=middle) as detector:
        worst = worst_cases(evaluate(detector, dataset))
        sheet = draw_worst_cases(detector, worst)
        heat = heat_range(detector.bundle.manifest.decision, middle)
        tiles = []
        for picture, what in worst.cases:
            pixels = decode_picture(picture.path).pixels
            drawn = draw_overlay(pixels, detector(pixels), heat=heat)
            tiles.append(Tile(thumbnail(drawn), f"{picture.name} ({what})"))
    assert np.array_equal(sheet[44:], contact_sheet(tiles)), "each below its verdict, with the bundle's heat"
    kinds = [what for _, what in worst.cases]
    assert set(kinds) == {"missed", "false alarm"}
    assert sheet.dtype == np.uint8
    assert (sheet[:44] < 100).any(), "the title is written"


def test_published_means_are_the_means_of_their_categories() -> None:
    """The rows come from one table: a slip in one of them would show."""
    rows = [row for row in PUBLISHED if row.host == "cutpaste" and row.category is not None]
    assert {row.category for row in rows} == MVTEC_CATEGORIES
    assert len(MVTEC_CATEGORIES) == 15
    mean = find_published("cutpaste")
    assert np.mean([row.image_auroc for row in rows]) == pytest.approx(mean.image_auroc, abs=5e-4)
    assert np.mean([row.baseline_image_auroc for row in rows]) == pytest.approx(
        mean.baseline_image_auroc, abs=5e-4
    )


@pytest.mark.parametrize(
    ("host", "categories", "name"),
    [
        ("draem", ["bottle"], "draem"),
        ("anomalib-DRAEM", ["demo"], "draem"),
        ("cutpaste", ["screw"], "cutpaste:screw"),
        ("cutpaste", ["mine"], "cutpaste"),
        ("cutpaste", ["screw", "pill"], "cutpaste"),
        ("onnx", ["screw"], None),
    ],
)
def test_the_row_that_fits(host: str, categories: list[str], name: str | None) -> None:
    row = published_for(host, categories)
    assert (None if row is None else row.name) == name


def test_what_a_published_row_is_worth() -> None:
    draem, screw = find_published("draem"), find_published("cutpaste:screw")
    assert (draem.image_auroc, draem.pixel_auroc, draem.pixel_ap) == (0.989, 0.972, 0.699)
    assert "[pwc]" in draem.source
    assert "[readme]" in screw.source
    warning = (
        "published, on MVTec AD, mean of its 15 categories; another data set or training is not comparable"
    )
    assert caveat(draem, ["demo"]) == warning
    assert caveat(draem, ["bottle", "cable"]) == "published, on MVTec AD, mean of its 15 categories"
    assert caveat(screw, ["screw"]) == "published, on MVTec AD"
    assert caveat(screw, ["pill"]) == "published, on MVTec AD, category screw"
    for name in ("hf2vad", "draem:bottle", "cutpaste:car"):
        with pytest.raises(OptionError, match=f"no published row '{name}': expected cutpaste, draem or"):
            find_published(name)


@pytest.fixture
def report(command: Command, pristine: Path, category: Path, tmp_path: Path) -> Path:
    """A report as the command writes it."""
    done = command("sspcab_edge.cli", "evaluate", pristine, category, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


def test_the_command(command: Command, pristine: Path, category: Path, tmp_path: Path) -> None:
    done = command("sspcab_edge.cli", "evaluate", pristine, category, "--backend", "openvino")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    text = done.stdout
    assert "openvino-fp32 on openvino" in text
    assert "layout mvtec: 6 normal and 6 anomalous images" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line and line[0] != " "}
    assert rows["draem*"][1:] == ["0.981", "-", "0.975", "0.689", "-"]
    assert "draem + SSPCAB*" in text
    assert "published, on MVTec AD, mean of its 15 categories" in text
    assert "not comparable" not in text, "a folder of this name is taken for the category"
    assert "chosen on the test set: not a figure to report" in text
    assert "for honest speed use sspcab-bench" in text
    assert "Verdicts at 0.6" in text


def test_json_has_every_figure_and_every_picture(command: Command, pristine: Path, category: Path) -> None:
    options = ("--threshold", "0.7", "--target", "onnx", "--threads", "1", "--precision", "fp32")
    done = command(
        "sspcab_edge.cli", "evaluate", pristine, category, "--paper", "cutpaste:bottle", *options, "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    with Detector.open(pristine, target="onnx", threshold=0.7) as detector:
        evaluation = evaluate(detector, read_dataset(category))
    (figures,) = evaluation.categories
    (plain,) = result["categories"]
    assert result["schema"] == 1
    assert (result["artifact"], result["threshold"], result["layout"]) == ("onnx-fp32", 0.7, "mvtec")
    assert result["digest"] == Bundle.open(pristine).digest
    for name in ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro"):
        assert plain[name] == pytest.approx(getattr(figures.areas, name), abs=1e-6)
    assert figures.confusion is not None
    assert plain["confusion"]["false_positives"] == figures.confusion.false_positives
    assert plain["confusion"]["miss_upper95"] == pytest.approx(figures.confusion.miss_upper95)
    assert result["confusion"] == plain["confusion"]
    assert result["mean"] is None
    assert result["published"]["image_auroc"] == 0.986
    assert set(result["speed"]) == {"fps", "median_ms", "p95_ms", "note"}
    pictures = result["pictures"]
    assert [set(picture) for picture in pictures] == [
        {"name", "category", "label", "score", "anomalous"}
    ] * 12
    assert [picture["name"] for picture in pictures] == [picture.name for picture in evaluation.pictures]
    for picture in pictures:
        assert picture["anomalous"] == (picture["score"] > 0.7)
        assert picture["label"] == ("good" not in picture["name"])


def test_a_report_is_three_files_that_agree(report: Path, category: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == ["report.json", "report.md", "worst_cases.png"]
    result = json.loads((report / "report.json").read_text())
    text = (report / "report.md").read_text()
    (figures,) = result["categories"]
    assert f"| bottle | 6 | 6 | {figures['image_auroc']:.4g} | {figures['image_ap']:.4g} |" in text
    assert "![Worst cases](worst_cases.png)" in text
    sheet = cv2.imread(str(report / "worst_cases.png"))
    assert sheet is not None
    assert sheet.shape[0] > 300


def test_a_report_replaces_an_earlier_one_and_nothing_else(
    report: Path, command: Command, pristine: Path, category: Path, tmp_path: Path
) -> None:
    (report / "notes.txt").write_text("mine")
    (report / "report.md").write_text("old")
    again = ("sspcab_edge.cli", "evaluate", pristine, category, "-o", report)
    assert command(*again).returncode == 0
    assert (report / "report.md").read_text().startswith("# Evaluation")
    assert (report / "notes.txt").read_text() == "mine"
    (report / "report.json").write_text('{"schema": 1}')
    refused = command(*again)
    assert refused.returncode == 1
    assert "which sspcab-edge evaluate did not write" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert (report / "report.json").read_text() == '{"schema": 1}'
    assert command(*again, "--force").returncode == 0
    assert json.loads((report / "report.json").read_text())["report"] == "sspcab-edge evaluate"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"report": 3}'])
def test_no_foreign_file_is_taken_for_a_report(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(OutputError, match=r"holds report\.json, which sspcab-edge evaluate did not write"):
        check_folder(tmp_path, False)
    check_folder(tmp_path, True)


def test_folders_that_a_report_would_damage(bundle_path: Path, category: Path, tmp_path: Path) -> None:
    for force in (False, True):
        for inside in (bundle_path, bundle_path / "new", category / "test", category / "x/y"):
            with pytest.raises(OutputError, match="which a report would change"):
                check_folder(inside, force, never=(bundle_path, category))
        with pytest.raises(OutputError, match="is a bundle, which a report would break"):
            check_folder(bundle_path, force)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OutputError, match="is no folder"):
            check_folder(tmp_path / "file", force)
    check_folder(tmp_path / "new", False, never=(bundle_path, category))
    Bundle.open(bundle_path)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--layout", "photos"), 2, "Invalid value for '--layout'"),
        (("--layout", "folder"), 1, "which the layout does not know"),
        (("--paper", "hf2vad"), 1, "no published row 'hf2vad'"),
        (("--threshold", "nan"), 1, "threshold is nan, expected a finite number"),
        (("--precision", "int8"), 1, "the bundle has no artifact for precision int8"),
        (("-o", "{category}/report"), 1, "which a report would change"),
    ],
)
def test_what_the_command_refuses(
    command: Command, pristine: Path, category: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    filled = [option.format(category=category) for option in options]
    done = command("sspcab_edge.cli", "evaluate", pristine, category, *filled)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_file_that_cannot_be_written(
    command: Command, pristine: Path, category: Path, tmp_path: Path
) -> None:
    (tmp_path / "out/report.md").mkdir(parents=True)
    done = command("sspcab_edge.cli", "evaluate", pristine, category, "-o", tmp_path / "out", "--force")
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
