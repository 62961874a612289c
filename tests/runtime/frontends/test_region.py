"""The whole-frame front-end with geometry: frames of other sizes, a region, zones; and the unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import BundleError, EngineError, InputError
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region
from sspcab_edge.manifest import Manifest
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import Engine, Frame, FrontEnd
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends import open_front_end, open_unit

Pixels = npt.NDArray[np.uint8]
Network = Callable[..., Engine]
Made = Callable[..., Manifest]
Surface = Callable[[int, int], Pixels]
Counting = Callable[[Engine], Any]

HEIGHT, WIDTH = 48, 64
FRAME = FrameSize(width=200, height=150)
REGION = Region(left=30, top=10, width=128, height=96)


def opened(manifest: Manifest, folder: Path | None = None) -> FrontEnd:
    return open_front_end(manifest, manifest.artifacts[0], manifest.decision.threshold, folder)


def frame(pixels: Pixels) -> Frame:
    return Frame(pixels, 0, "made", 0.0, 0.0)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_region_is_cropping_first(
    network: Network, counting: Counting, made: Made, surface: Surface, stride: int
) -> None:
    pixels = surface(150, 200)
    cropped = np.ascontiguousarray(pixels[10:106, 30:158])
    engine = counting(network(HEIGHT, WIDTH, stride))
    plain = engine.judge(opened(made(FrontEndSpec(), HEIGHT, WIDTH, stride=stride)), cropped)
    spec = FrontEndSpec(frame=FRAME, region=REGION)
    got = engine.judge(opened(made(spec, HEIGHT, WIDTH, stride=stride)), pixels)
    assert got.score == plain.score
    share = 2 * stride  # pixels of the region per pixel of the map
    assert got.map.shape == (150 / share + 0.5 if 150 % share else 150 // share, 200 // share)
    top, left = 10 / share, 30 / share
    rows = slice(int(top + 0.5), int(top + 0.5) + 96 // share)
    columns = slice(int(left + 0.5), int(left + 0.5) + 128 // share)
    assert np.array_equal(got.map[rows, columns], plain.map)
    got.map[rows, columns] = 0
    assert not got.map.any()


@pytest.mark.parametrize(
    ("region", "shape"),
    [
        (Region(left=0, top=0, width=16, height=12), (150, 200)),  # finer than the frame: not invented
        (Region(left=184, top=138, width=16, height=12), (150, 200)),
        (Region(left=0, top=0, width=199, height=149), (48, 64)),
        (Region(left=1, top=1, width=199, height=149), (48, 64)),
        (Region(left=199, top=0, width=1, height=150), (48, 200)),
        (Region(left=0, top=0, width=200, height=150), (48, 64)),
    ],
)
def test_maps_of_regions_always_fit(
    network: Network, counting: Counting, made: Made, surface: Surface, region: Region, shape: tuple[int, int]
) -> None:
    spec = FrontEndSpec(frame=FRAME, region=region)
    got = counting(network(HEIGHT, WIDTH)).judge(opened(made(spec, HEIGHT, WIDTH)), surface(150, 200))
    assert got.map.shape == shape
    assert got.map.any()


def test_a_region_at_each_place_of_the_map(network: Network, counting: Counting, made: Made) -> None:
    """A dot in a large dark frame is hot where it is, whichever region shows it."""
    engine = counting(network(HEIGHT, WIDTH))
    for left, top in ((0, 0), (31, 17), (72, 54)):
        pixels = np.zeros((150, 200, 3), dtype=np.uint8)
        x, y = left + 50, top + 40
        pixels[y - 3 : y + 4, x - 3 : x + 4] = 255
        region = Region(left=left, top=top, width=128, height=96)
        spec = FrontEndSpec(frame=FRAME, region=region)
        front_end = opened(made(spec, HEIGHT, WIDTH))
        dark = engine.judge(front_end, np.zeros_like(pixels)).map
        row, column = np.unravel_index(
            np.argmax(np.abs(engine.judge(front_end, pixels).map - dark)), dark.shape
        )
        assert abs((column + 0.5) * 200 / dark.shape[1] - x) < 8
        assert abs((row + 0.5) * 150 / dark.shape[0] - y) < 8


def test_frames_of_another_size_are_resized_to_the_given_one(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    engine = counting(network(HEIGHT, WIDTH))
    front_end = opened(made(FrontEndSpec(frame=FRAME, region=REGION), HEIGHT, WIDTH))
    for shape, method in (
        ((300, 400), cv2.INTER_AREA),
        ((150, 210), cv2.INTER_AREA),
        ((75, 100), cv2.INTER_LINEAR),
        ((300, 100), cv2.INTER_LINEAR),
    ):
        pixels = surface(*shape)
        brought = np.asarray(cv2.resize(pixels, (200, 150), interpolation=method), dtype=np.uint8)
        assert engine.judge(front_end, pixels).score == engine.judge(front_end, brought).score


@pytest.mark.parametrize("shape", [(150, 200), (150, 200, 4), (0, 200, 3), (3, 150, 200)])
def test_what_is_no_rgb_frame_is_refused_with_geometry_too(made: Made, shape: tuple[int, ...]) -> None:
    front_end = opened(made(FrontEndSpec(frame=FRAME, region=REGION), HEIGHT, WIDTH))
    for dtype in (np.uint8, np.float32):
        with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
            front_end.push(frame(np.zeros(shape, dtype=dtype)))


def test_without_geometry_nothing_changes(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    """The engine's own map, bit for bit, with and without a frame size that says what comes anyway."""
    pixels = surface(HEIGHT, WIDTH)
    raw = network(HEIGHT, WIDTH).infer({"frames": pixels[None]})
    size = FrameSize(width=WIDTH, height=HEIGHT)
    for spec in (FrontEndSpec(), FrontEndSpec(frame=size)):
        got = counting(network(HEIGHT, WIDTH)).judge(opened(made(spec, HEIGHT, WIDTH)), pixels)
        assert got.score == float(raw["score"][0])
        assert np.array_equal(got.map, raw["map"][0])


# Zones


@pytest.mark.parametrize("rule", ["map-max", "map-mean", "map-mean-filter:5"])
def test_a_zone_hides_what_is_outside(
    network: Network, counting: Counting, made: Made, surface: Surface, rule: str
) -> None:
    pixels = surface(96, 128)
    marked = pixels.copy()
    marked[70:80, 100:110] = 255
    size = FrameSize(width=128, height=96)
    zone = ((10, 10), (69, 10), (69, 59), (10, 59))
    engine = network(HEIGHT, WIDTH)
    zoned = opened(made(FrontEndSpec(frame=size, zones=(zone,)), HEIGHT, WIDTH, score=rule))
    one, other = (counting(engine).judge(zoned, p) for p in (pixels, marked))
    assert one.score == pytest.approx(other.score, abs=1e-6)
    inside = np.zeros((48, 64), dtype=bool)
    inside[5:30, 5:35] = True
    heat = engine.infer({"frames": prepare(marked, made(FrontEndSpec(), HEIGHT, WIDTH).preprocess)[None]})[
        "map"
    ][0]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(inside, heat, 0), 2), (5, 5))
    expected = {
        "map-max": heat[inside].max(),
        "map-mean": heat[inside].mean(),
        "map-mean-filter:5": windows.mean(axis=(2, 3)).max(),
    }[rule]
    assert other.score == pytest.approx(float(expected), abs=1e-6)
    assert np.array_equal(other.map, np.where(inside, heat, 0))


def test_a_score_map_comes_after_zones(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    size = FrameSize(width=WIDTH, height=HEIGHT)
    spec = FrontEndSpec(frame=size, zones=(((0, 0), (30, 0), (30, 47), (0, 47)),))
    knots = ScoreMap(artifact=(0.0, 1.0), source=(100.0, 200.0))
    pixels = surface(HEIGHT, WIDTH)
    engine = counting(network(HEIGHT, WIDTH))
    plain = engine.judge(opened(made(spec, HEIGHT, WIDTH)), pixels).score
    mapped = engine.judge(opened(made(spec, HEIGHT, WIDTH, score_map=knots)), pixels).score
    assert mapped == pytest.approx(100 + 100 * plain)


def test_a_host_without_map_or_rule_is_judged_whole(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    size = FrameSize(width=WIDTH, height=HEIGHT)
    spec = FrontEndSpec(frame=size, zones=(((0, 0), (3, 0), (3, 3)),))
    pixels = surface(HEIGHT, WIDTH)
    engine = network(HEIGHT, WIDTH)
    raw = float(engine.infer({"frames": pixels[None]})["score"][0])
    verdict = counting(engine).judge(opened(made(spec, HEIGHT, WIDTH, score=None)), pixels)
    assert verdict.score == raw
    assert np.count_nonzero(verdict.map) == 10
    blind = opened(made(spec, HEIGHT, WIDTH, localises=False))
    assert blind.merge({"score": np.array([0.25], np.float32)}, None).score == 0.25


def test_a_network_that_is_broken_outside_is_broken(made: Made) -> None:
    size = FrameSize(width=WIDTH, height=HEIGHT)
    spec = FrontEndSpec(frame=size, zones=(((0, 0), (3, 0), (3, 3)),))
    heat = np.zeros((1, HEIGHT, WIDTH), dtype=np.float32)
    heat[0, -1, -1] = np.nan
    with pytest.raises(EngineError, match="cannot be judged"):
        opened(made(spec, HEIGHT, WIDTH)).merge({"score": np.array([np.nan], np.float32), "map": heat}, None)


def test_a_mask_that_covers_everything_is_refused_when_it_is_opened(made: Made, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "m.png"), np.zeros((150, 200), dtype=np.uint8))
    with pytest.raises(BundleError, match="leave nothing"):
        opened(made(FrontEndSpec(frame=FRAME, mask="m.png"), HEIGHT, WIDTH), tmp_path)
    with pytest.raises(BundleError, match="open it with the bundle's folder"):
        opened(made(FrontEndSpec(frame=FRAME, mask="m.png"), HEIGHT, WIDTH))


# The unit


def test_a_unit_goes_straight_into_the_engine(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    """Whatever the front-end does to frames: no region, no zone, no tile; only the score map."""
    spec = FrontEndSpec(
        frame=FRAME, region=REGION, zones=(((30, 10), (40, 10), (40, 20)),), mask="absent.png"
    )
    knots = ScoreMap(artifact=(0.0, 1.0), source=(100.0, 200.0))
    manifest = made(spec, HEIGHT, WIDTH, score_map=knots)
    pixels = surface(HEIGHT, WIDTH)
    engine = network(HEIGHT, WIDTH)
    raw = engine.infer({"frames": pixels[None]})
    unit = open_unit(manifest, manifest.artifacts[0], 150.0)
    request = unit.ask({"frames": pixels})
    verdict = unit.merge(engine.infer(request.inputs), request.context)
    assert verdict.score is not None
    assert verdict.map is not None
    assert verdict.score == pytest.approx(100 + 100 * float(raw["score"][0]))
    assert verdict.anomalous is (verdict.score > 150)
    assert np.array_equal(verdict.map, raw["map"][0])


@pytest.mark.parametrize(
    "shape", [(HEIGHT + 1, WIDTH, 3), (WIDTH, HEIGHT, 3), (HEIGHT, WIDTH), (HEIGHT, WIDTH, 4)]
)
def test_a_unit_of_another_size_is_refused(made: Made, shape: tuple[int, ...]) -> None:
    manifest = made(FrontEndSpec(), HEIGHT, WIDTH)
    unit = open_unit(manifest, manifest.artifacts[0], None)
    with pytest.raises(InputError, match=r"frames has shape .* expected \('N', 48, 64, 3\)"):
        unit.ask({"frames": np.zeros(shape, dtype=np.uint8)})
    with pytest.raises(InputError, match="float32"):
        unit.ask({"frames": np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32)})
    with pytest.raises(InputError, match="named"):
        unit.ask({})


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_unit_without_a_number_is_refused(made: Made, score: float) -> None:
    manifest = made(FrontEndSpec(), HEIGHT, WIDTH)
    unit = open_unit(manifest, manifest.artifacts[0], 0.5)
    with pytest.raises(EngineError, match="cannot be judged"):
        unit.merge({"score": np.array([score], dtype=np.float32)}, None)
