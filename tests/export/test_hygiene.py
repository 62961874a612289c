"""Calibration hygiene: every bad picture is named, no good one is."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, authors_verdict
from sspcab_edge.errors import OptionError
from sspcab_edge.preprocess import decode_picture
from sspcab_export.hygiene import (
    MINIMUM_PICTURES,
    RECOMMENDED_PICTURES,
    Finding,
    Inspected,
    describe,
    fingerprint,
    inspect_pictures,
    require_usable,
    suspects,
)
from sspcab_export.pictures import Sample, builtin_samples, labelled_samples, normal_samples

DEMO = Path(__file__).parents[2] / "examples" / "demo"

Pixels = npt.NDArray[np.uint8]


def surface(seed: int, mean: float = 120.0) -> Pixels:
    """A picture of something: (96, 128, 3) uint8 with broad and fine structure."""
    rng = np.random.default_rng(seed)
    broad = cv2.resize(rng.normal(mean, 30, (6, 8)), (128, 96), interpolation=cv2.INTER_CUBIC)
    noisy = broad[..., None] + rng.normal(0, 4, (96, 128, 3))
    return np.asarray(np.clip(noisy, 0, 255), dtype=np.uint8)


def plain(seed: int, mean: float, noise: float) -> Pixels:
    """A picture of nothing, with sensor noise."""
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(mean + noise * rng.standard_normal((96, 128, 3))), 0, 255).astype(np.uint8)


def write(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def named(findings: Sequence[Finding]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding.name)
    return kinds


def thumbnail_only(name: str, thumbnail: npt.NDArray[np.floating] | None = None) -> Sample:
    shown = np.random.default_rng(len(name)).random((32, 32, 3)) if thumbnail is None else thumbnail
    digest = hashlib.sha256(name.encode()).hexdigest()
    luma = cv2.resize((shown @ [0.299, 0.587, 0.114]).astype(np.float32) * 65280, (64, 64))
    detail = np.rint(luma).clip(0, 65535).astype(np.uint16)
    return Sample(Path(name), name, False, digest, shown.astype(np.float32), None, (32, 32), detail)


def scored(scores: Sequence[float]) -> list[tuple[Sample, float]]:
    return [(thumbnail_only(f"{number:04d}"), float(score)) for number, score in enumerate(scores)]


def flagged(scores: Sequence[float]) -> set[int]:
    return {int(finding.name) for finding in suspects(scored(scores))}


# What pictures look like


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """36 normal pictures and 4 with a green spot; copies, near-copies, and pictures of nothing."""
    for number in range(36):
        suffix = "png" if number % 2 else "jpg"
        write(tmp_path / f"normal-{number:02d}.{suffix}", surface(number))
    for number in range(4):
        pixels = surface(100 + number)
        cv2.circle(pixels, (40 + 10 * number, 50), 9, (20, 230, 20), -1)
        write(tmp_path / f"spot-{number}.png", pixels)
    (tmp_path / "sub").mkdir()
    shutil.copy(tmp_path / "normal-00.jpg", tmp_path / "sub" / "again.jpg")
    shutil.copy(tmp_path / "normal-01.png", tmp_path / "sub" / "another.png")
    write(tmp_path / "sub" / "recompressed.jpg", surface(3))
    write(tmp_path / "night-0.png", plain(0, 2, 4))
    write(tmp_path / "night-1.jpg", np.zeros((96, 128, 3), np.uint8))
    write(tmp_path / "night-2.jpg", np.zeros((96, 128, 3), np.uint8))
    write(tmp_path / "glare-0.png", plain(1, 254, 3))
    write(tmp_path / "glare-1.jpg", np.full((96, 128, 3), 255, np.uint8))
    write(tmp_path / "card.png", plain(2, 128, 2))
    return tmp_path


def spot_score(sample: Sample) -> float:
    """A small stand-in for a detector: how green the greenest place is, 0 to 1."""
    pixels = decode_picture(sample.path).pixels.astype(np.float32)
    excess = cv2.blur(pixels[..., 1] - pixels[..., [0, 2]].max(axis=2), (9, 9)).max()
    return float(np.clip(excess / 255, 0, 1))


def test_every_bad_picture_is_named_and_no_other(folder: Path) -> None:
    inspected = inspect_pictures(normal_samples(folder).samples)
    assert named(inspected.findings) == {
        "duplicate": ["sub/again.jpg", "sub/another.png"],
        "near-duplicate": ["sub/recompressed.jpg"],
        "dark": ["night-0.png", "night-1.jpg", "night-2.jpg"],
        "saturated": ["glare-0.png", "glare-1.jpg"],
        "flat": ["card.png"],
    }
    texts = {finding.name: finding.text for finding in inspected.findings}
    assert texts["sub/again.jpg"] == "as normal-00.jpg"
    assert texts["sub/recompressed.jpg"].endswith("from normal-03.png")
    assert texts["night-1.jpg"] == "mean luma 0.0%"
    found = suspects([(sample, spot_score(sample)) for sample in inspected.kept])
    assert sorted(finding.name for finding in found) == [f"spot-{number}.png" for number in range(4)]


def test_what_is_left_out_is_not_kept_and_near_duplicates_are(folder: Path) -> None:
    samples = normal_samples(folder).samples
    inspected = inspect_pictures(samples)
    gone = {finding.name for finding in inspected.findings if finding.kind != "near-duplicate"}
    assert [s.name for s in inspected.kept] == [s.name for s in samples if s.name not in gone]
    assert len(inspected.kept) == 36 + 4 + 1


def test_of_copies_the_first_by_name_stays_in_whatever_order_they_come(folder: Path) -> None:
    samples = normal_samples(folder).samples
    assert inspect_pictures(samples[::-1]).findings == inspect_pictures(samples).findings


@pytest.mark.parametrize("part", ["calibration", "test"])
def test_the_demos_pictures_are_all_good(part: str) -> None:
    samples = normal_samples(DEMO / part).samples if part == "calibration" else labelled_samples(DEMO).samples
    inspected = inspect_pictures(samples)
    assert inspected.findings == ()
    assert inspected.kept == tuple(samples)
    assert len(inspected.notes) == 1  # the light, and nothing to warn of


def test_natural_pictures_are_pictures_of_something() -> None:
    """Among them a rocket launch at night."""
    assert inspect_pictures(builtin_samples()).findings == ()


@pytest.mark.parametrize("brightest", [False, True])
def test_few_lights_in_the_dark_are_a_picture_and_so_is_a_thing_on_white(brightest: bool) -> None:
    pixels = np.full((96, 128, 3), 255 if brightest else 0, np.uint8)
    pixels[40:52, 60:70] = 0 if brightest else 255
    small = cv2.resize(pixels, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    assert small.mean() < 0.04 or small.mean() > 0.96
    assert inspect_pictures([thumbnail_only("a", small)]).findings == ()


@pytest.mark.parametrize(("mean", "kind"), [(0.03, "dark"), (0.06, None), (0.94, None), (0.97, "saturated")])
def test_an_even_surface_that_is_neither_black_nor_white_is_a_picture(mean: float, kind: str | None) -> None:
    shown = np.random.default_rng(0).normal(mean, 0.008, (32, 32, 1)).repeat(3, axis=2)
    found = inspect_pictures([thumbnail_only("a", shown)]).findings
    assert [finding.kind for finding in found] == ([] if kind is None else [kind])


def test_one_colour_is_flat_and_two_equally_bright_ones_are_not() -> None:
    red, green = (
        np.array([0.6, 0.2, 0.2]),
        np.array([0.2, 0.6 * 0.299 / 0.587 + 0.2 - 0.2 * 0.299 / 0.587, 0.2]),
    )
    one, two = np.tile(red, (32, 32, 1)), np.tile(red, (32, 32, 1))
    two[:, :16] = green
    assert float(np.ptp(two @ [0.299, 0.587, 0.114])) < 1e-6
    found = inspect_pictures([thumbnail_only("one", one), thumbnail_only("two", two)]).findings
    assert named(found) == {"flat": ["one"]}


# Light and number


def test_the_light_is_told_and_one_light_alone_is_warned_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.random((40, 32, 32, 3)) * 0.4
    base -= base.mean(axis=(1, 2, 3), keepdims=True) - 0.4
    same = [thumbnail_only(str(i), base[i]) for i in range(40)]
    other = [thumbnail_only(str(i), base[i] * (1 + 0.002 * i)) for i in range(40)]
    assert "mean luma 39." in inspect_pictures(same).notes[0]
    assert ["practically the same light" in note for note in inspect_pictures(same).notes] == [False, True]
    assert len(inspect_pictures(other).notes) == 1


def test_few_pictures_are_told_with_the_numbers() -> None:
    few = [thumbnail_only("x" * (i + 1)) for i in range(RECOMMENDED_PICTURES)]
    assert not any("recommended" in note for note in inspect_pictures(few).notes)
    assert inspect_pictures(few[1:]).notes[0].startswith("31 usable calibration pictures: 32 or more are rec")


# Scores


@pytest.fixture(scope="module")
def demo_scores() -> dict[str, float]:
    """The demo's calibration pictures and a tenth of defects through its own networks: name -> score."""
    (path,) = [p for p in (DEMO / "model").glob("*.pckl") if not p.stem.endswith("_seg")]
    reconstructive, discriminative = Reconstructive(12), Discriminative(8)
    reconstructive.encoder["block5"] = OfficialBlock(96)
    reconstructive.load_state_dict(torch.load(path, weights_only=True))
    segmentation = path.with_name(path.stem + "_seg.pckl")
    discriminative.load_state_dict(torch.load(segmentation, weights_only=True))
    networks = reconstructive.eval(), discriminative.eval()
    chosen = [*sorted((DEMO / "calibration").glob("*.jpg")), *sorted((DEMO / "test").glob("[!g]*/000.jpg"))]
    return {p.relative_to(DEMO).as_posix(): authors_verdict(*networks, p)[0] for p in chosen}


def test_a_tenth_of_defects_in_the_demos_pictures_is_found(demo_scores: dict[str, float]) -> None:
    assert len(demo_scores) == 64 + 6
    found = suspects([(thumbnail_only(name), score) for name, score in demo_scores.items()])
    names = [finding.name for finding in found]
    defects = {name for name in demo_scores if name.startswith("test/")}
    assert defects <= set(names)
    assert len(names) <= len(defects) + 2
    assert [demo_scores[name] for name in names] == sorted((demo_scores[n] for n in names), reverse=True)


@pytest.mark.parametrize("count", [16, 64, 120])
@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_far_above_is_found_on_any_scale(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    odd = count // 10
    shares = (np.arange(count - odd) + 0.5) / (count - odd)
    normal = np.array([NormalDist(10, 1).inv_cdf(share) for share in shares])  # no outlier by chance
    high = rng.normal(30, 3, odd)
    for scores in (
        np.r_[normal, high],
        np.r_[normal, high] - 100,  # log-likelihoods
        np.r_[normal, high] * 1e6,
        np.r_[normal, high] / 40,  # in [0, 1]
        1 / (1 + np.exp(-(np.r_[normal, high] - 20))),  # saturated at both ends: 5e-5 and 1 - 5e-5
    ):
        assert flagged(scores.tolist()) == set(range(count - odd, count))


def test_anomalies_that_hide_behind_others_are_found_where_there_are_scores_enough() -> None:
    """Ten of a hundred lift the fence from 14.7 to 15.6; two of them lie between."""
    normal = [NormalDist(-90, 1).inv_cdf((i + 0.5) / 90) for i in range(90)]
    scores = [*normal, *([-70.0] * 8), -84.8, -84.8]
    q1, q3 = np.quantile(scores, [0.25, 0.75])
    assert q3 + 3 * (q3 - q1) > -84.8
    assert flagged(scores) == set(range(90, 100))


def test_scores_that_spread_over_decades_are_not_suspect_by_the_dozen() -> None:
    """The scores of a good detector on normal pictures; plain Q3 + 3 IQR would mark about 27 of 300."""
    scores = 1 / (1 + np.exp(-np.random.default_rng(0).normal(-6, 2, 300)))
    q1, q3 = np.quantile(scores, [0.25, 0.75])
    assert (scores > q3 + 3 * (q3 - q1)).sum() > 20
    assert len(flagged(scores.tolist())) <= 5


def test_a_fence_is_never_where_no_score_can_be() -> None:
    """Wide scores in [0, 1]: plain Q3 + 3 IQR is 1.6."""
    scores = [*np.linspace(0.2, 0.6, 60), 0.9999]
    q1, q3 = np.quantile(scores, [0.25, 0.75])
    assert q3 + 3 * (q3 - q1) > 1
    assert flagged(scores) == {60}


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, -250.0, 4e5])
def test_rounding_noise_is_not_suspect_and_more_is(level: float) -> None:
    size = max(1.0, abs(level))
    assert flagged([level] * 40) == set()
    assert flagged([*([level] * 40), level + 5e-5 * size]) == set()
    assert flagged([*([level] * 40), level + 5e-3 * size]) == {40}


def test_fewer_than_the_minimum_are_not_judged() -> None:
    scores = [*([0.1] * (MINIMUM_PICTURES - 1)), 0.9]
    assert flagged(scores) == {MINIMUM_PICTURES - 1}
    assert flagged(scores[1:]) == set()


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(OptionError, match="not finite"):
        suspects(scored([0.1] * 20 + [float("nan")]))


# Refusing


def seen(count: int, findings: tuple[Finding, ...] = ()) -> Inspected:
    return Inspected(tuple(thumbnail_only(f"{i}") for i in range(count)), findings, ())


def test_more_than_a_fifth_of_suspects_is_refused() -> None:
    found = [Finding("suspect", f"p{i:02d}", "score 1, fence 0.5") for i in range(21)]
    others = [Finding("near-duplicate", f"n{i}", "") for i in range(50)]
    require_usable(seen(100), [*found[:20], *others])
    with pytest.raises(OptionError, match=r"21 of 100 .* at most 20%: .* not of normal .* and 11 more$"):
        require_usable(seen(100), found)


@pytest.mark.parametrize(("count", "minimum"), [(0, 0), (0, 1), (7, MINIMUM_PICTURES)])
def test_too_few_pictures_are_refused_with_what_became_of_them(count: int, minimum: int) -> None:
    gone = (Finding("dark", "a", ""), Finding("dark", "b", ""), Finding("flat", "c", ""))
    require_usable(seen(max(minimum, 1)), (), minimum)
    message = (
        rf"{count} of {count + 3} .*\(2 near-black, 1 of one colour\), expected at least {max(minimum, 1)}"
    )
    with pytest.raises(OptionError, match=message):
        require_usable(seen(count, (*gone, Finding("near-duplicate", "d", ""))), (), minimum)


def test_a_folder_of_black_frames_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.png", plain(number, 1, 3))
    inspected = inspect_pictures(normal_samples(tmp_path).samples)
    assert inspected.notes == ()
    with pytest.raises(OptionError, match=r"0 of 3 calibration pictures are usable \(3 near-black\)"):
        require_usable(inspected, ())


# Telling


def test_a_kind_is_a_line_and_ten_pictures_are_named() -> None:
    findings = [Finding("suspect", f"s{i:02d}", f"score {i}") for i in range(12)]
    findings.append(Finding("dark", "night.png", "mean luma 0.1%"))
    lines = describe(findings)
    assert lines[0] == "1 picture near-black, left out: night.png (mean luma 0.1%)"
    assert lines[1].startswith(
        "12 pictures scored far above the rest, look whether they are normal: s00 (score 0), "
    )
    assert lines[1].endswith("s09 (score 9) and 2 more")
    assert len(lines) == 2
    assert describe(findings[:10])[0].endswith("s09 (score 9)")
    assert describe([]) == []


# Fingerprint


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), max_size=20, unique=True), st.randoms(use_true_random=False))
def test_the_fingerprint_depends_on_content_alone(contents: list[str], random: object) -> None:
    samples = [thumbnail_only(content) for content in contents]
    renamed = [
        Sample(Path(f"x{i}"), f"x{i}", None, s.digest, s.thumbnail, "grey", s.size, s.detail)
        for i, s in enumerate(samples)
    ]
    random.shuffle(renamed)  # type: ignore[attr-defined]
    assert fingerprint(renamed) == fingerprint(samples)
    assert fingerprint([*samples, thumbnail_only("longer than any")]) != fingerprint(samples)
    if samples:
        assert fingerprint([*samples, samples[0]]) != fingerprint(samples)


def test_the_fingerprint_is_the_sha256_of_sorted_lines() -> None:
    samples = [thumbnail_only("b"), thumbnail_only("a")]
    lines = sorted(hashlib.sha256(name).hexdigest() for name in (b"a", b"b"))
    expected = hashlib.sha256(f"{lines[0]}\n{lines[1]}\n".encode()).hexdigest()
    assert fingerprint(samples) == expected
