"""The tiles front-end on a real network and engine, against one pass over the whole region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import BundleError, EngineError
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region, Tiling
from sspcab_edge.manifest import Manifest
from sspcab_edge.protocols import Engine, FrontEnd
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.frontends.tiles import Tiles

Pixels = npt.NDArray[np.uint8]
Network = Callable[..., Engine]
Made = Callable[..., Manifest]
Surface = Callable[[int, int], Pixels]
Counting = Callable[[Engine], Any]

TILE = 64
RADIUS = {1: 3, 2: 4}
REGION = Region(left=32, top=16, width=160, height=112)
FRAME = FrameSize(width=224, height=144)
PARTS = (slice(16, 128), slice(32, 192))
"""The region's place in a frame: 160 x 112 pixels are 3 x 2 tiles that overlap by 16."""


def spec_of(
    *,
    overlap: int = 16,
    margin: int = 4,
    batch: int = 8,
    levels: tuple[ScoreMap, ...] = (),
    zones: tuple[tuple[tuple[int, int], ...], ...] = (),
    mask: str | None = None,
    region: Region | None = REGION,
) -> FrontEndSpec:
    return FrontEndSpec(
        kind="tiles",
        frame=FRAME,
        region=region,
        zones=zones,
        mask=mask,
        tiles=Tiling(overlap=overlap, margin=margin, batch=batch, levels=levels),
    )


def rectangle(left: int, top: int, right: int, bottom: int) -> tuple[tuple[int, int], ...]:
    """A zone, borders included."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def opened(manifest: Manifest, folder: Path | None = None) -> FrontEnd:
    return open_front_end(manifest, manifest.artifacts[0], manifest.decision.threshold, folder)


def with_spot(pixels: Pixels, x: int, y: int) -> Pixels:
    """A copy with a speck that the network cannot miss, at (x, y)."""
    marked = pixels.copy()
    marked[y - 2 : y + 3, x - 2 : x + 3] = 255 * (np.indices((5, 5)).sum(axis=0) % 2)[..., None]
    return marked


@pytest.fixture
def flat(rng: np.random.Generator) -> Pixels:
    """A frame where nothing is."""
    return np.full((FRAME.height, FRAME.width, 3), 100, dtype=np.uint8)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("overlap", [16, 32, 60])
def test_the_map_is_that_of_one_pass(
    network: Network, counting: Counting, made: Made, surface: Surface, stride: int, overlap: int
) -> None:
    """With a margin as wide as the network sees; without one it is not."""
    pixels = surface(FRAME.height, FRAME.width)
    once = network(REGION.height, REGION.width, stride).infer({"frames": pixels[PARTS][None]})["map"][0]
    tiles = counting(network(TILE, TILE, stride))
    worst = {}
    for margin in (RADIUS[stride], 0):
        manifest = made(spec_of(overlap=overlap, margin=margin), TILE, TILE, stride=stride)
        got = tiles.judge(opened(manifest), pixels).map
        assert got.shape == (FRAME.height // stride, FRAME.width // stride)
        place = tuple(slice(part.start // stride, part.stop // stride) for part in PARTS)
        worst[margin] = np.abs(got[place] - once).max()
        got[place] = 0
        assert not got.any(), "nothing outside the region"
    assert worst[RADIUS[stride]] < 1e-5
    assert worst[0] > 1e-3, "without a margin the seams show: this network would pass any merge otherwise"


def test_the_score_is_that_of_the_worst_tile(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    pixels = surface(FRAME.height, FRAME.width)
    engine = network(TILE, TILE)
    region = pixels[PARTS]
    starts = [(top, left) for top in (0, 48) for left in (0, 48, 96)]
    each = [
        float(engine.infer({"frames": region[None, top : top + TILE, left : left + TILE]})["score"][0])
        for top, left in starts
    ]
    doubled = ScoreMap(artifact=(0.0, 1.0), source=(1.0, 3.0))
    for score_map, expected in ((None, max(each)), (doubled, 1 + 2 * max(each))):
        manifest = made(spec_of(), TILE, TILE, score_map=score_map)
        tiles = counting(engine)
        verdict = tiles.judge(opened(manifest), pixels)
        assert verdict.score == pytest.approx(expected, abs=1e-5)
        assert verdict.threshold == 0.5
        assert verdict.anomalous is (verdict.score > 0.5)
        assert tiles.entries == [6]


@pytest.mark.parametrize("localises", [True, False])
def test_the_batch_changes_nothing(
    network: Network, counting: Counting, made: Made, surface: Surface, localises: bool
) -> None:
    pixels = surface(FRAME.height, FRAME.width)
    verdicts = []
    for batch, entries in ((1, [1] * 6), (4, [4, 2]), (8, [6])):
        tiles = counting(network(TILE, TILE))
        manifest = made(spec_of(batch=batch), TILE, TILE, localises=localises)
        verdicts.append(tiles.judge(opened(manifest), pixels))
        assert tiles.entries == entries
    first, *others = verdicts
    for other in others:
        assert other.score == pytest.approx(first.score, abs=1e-6)
        assert (other.map is None) is (not localises)
        assert not localises or np.abs(other.map - first.map).max() < 1e-6


def test_a_frame_of_another_size_is_resized_first(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    large = surface(FRAME.height * 2, FRAME.width * 2)
    small = surface(FRAME.height // 2, FRAME.width // 2)
    front_end, tiles = opened(made(spec_of(), TILE, TILE)), counting(network(TILE, TILE))
    size = (FRAME.width, FRAME.height)
    for pixels, method in ((large, cv2.INTER_AREA), (small, cv2.INTER_LINEAR)):
        brought = np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.uint8)
        one, other = tiles.judge(front_end, pixels), tiles.judge(front_end, brought)
        assert one.score == other.score
        assert np.array_equal(one.map, other.map)


# Zones


def test_only_tiles_that_touch_a_zone_are_computed(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    pixels = surface(FRAME.height, FRAME.width)
    for zone, numbers in (
        (rectangle(32, 16, 40, 20), (0,)),
        (rectangle(32 + 64, 16, 32 + 70, 20), (1,)),
        (rectangle(32 + 63, 16, 32 + 63, 16), (0, 1)),  # the last pixel of tile 0
        (rectangle(100, 60, 110, 70), (1, 4)),
        (rectangle(0, 0, 223, 143), (0, 1, 2, 3, 4, 5)),
    ):
        front_end = opened(made(spec_of(zones=(zone,)), TILE, TILE))
        assert isinstance(front_end, Tiles)
        assert front_end.numbers == numbers
        tiles = counting(network(TILE, TILE))
        tiles.judge(front_end, pixels)
        assert tiles.entries == [len(numbers)]


def test_a_defect_in_tiles_wholly_inside_has_the_same_verdict(
    network: Network, counting: Counting, made: Made, flat: Pixels
) -> None:
    """The zone is the two left columns of tiles; the speck lies in both."""
    pixels = with_spot(flat, 32 + 56, 60)
    tiles = counting(network(TILE, TILE))
    free = tiles.judge(opened(made(spec_of(), TILE, TILE)), pixels)
    zone = rectangle(32, 16, 32 + 48 + TILE - 1, 127)
    kept = tiles.judge(opened(made(spec_of(zones=(zone,)), TILE, TILE)), pixels)
    assert tiles.entries == [6, 6], "the right column is touched"
    assert kept.score == free.score
    columns = slice(32, 32 + 48 + TILE)
    assert np.abs(kept.map[:, columns] - free.map[:, columns]).max() < 1e-6
    assert not kept.map[:, columns.stop :].any()


@pytest.mark.parametrize("rule", ["map-max", "map-mean", "map-mean-filter:7"])
def test_a_tile_partly_inside_ignores_what_is_outside(
    network: Network, counting: Counting, made: Made, flat: Pixels, rule: str
) -> None:
    zone = rectangle(40, 20, 60, 50)  # a part of tile 0
    engine = network(TILE, TILE)
    tiles = counting(engine)
    front_end = opened(made(spec_of(zones=(zone,)), TILE, TILE, score=rule))
    clean = tiles.judge(front_end, flat)
    outside = tiles.judge(front_end, with_spot(flat, 80, 40))
    within = tiles.judge(front_end, with_spot(flat, 50, 35))
    assert tiles.entries == [1, 1, 1]
    assert outside.score == pytest.approx(clean.score, abs=1e-6)
    assert abs(within.score - clean.score) > 1e-3
    whole = opened(made(spec_of(zones=(zone,)), TILE, TILE, score=None))
    quiet, loud = (tiles.judge(whole, pixels).score for pixels in (flat, with_spot(flat, 80, 40)))
    assert loud > quiet + 1e-3, "how the score follows is not known: the tile counts whole"
    # against the definition, on the tile's own map
    heat = engine.infer({"frames": with_spot(flat, 50, 35)[None, 16 : 16 + TILE, 32 : 32 + TILE]})["map"][0]
    inside = np.zeros((TILE, TILE), dtype=bool)
    inside[4:35, 8:29] = True
    judged = np.where(inside, heat, 0)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(judged, 3), (7, 7))
    expected = {
        "map-max": heat[inside].max(),
        "map-mean": heat[inside].mean(),
        "map-mean-filter:7": windows.mean(axis=(2, 3)).max(),
    }[rule]
    assert within.score == pytest.approx(float(expected), abs=1e-5)


def test_score_maps_come_after_the_score_was_made_anew(
    network: Network, counting: Counting, made: Made, surface: Surface
) -> None:
    pixels = surface(FRAME.height, FRAME.width)
    knots = ScoreMap(artifact=(0.0, 0.5, 1.0), source=(0.0, 10.0, 11.0))
    tiles = counting(network(TILE, TILE))
    spec = spec_of(zones=(rectangle(40, 20, 60, 50),))
    plain = tiles.judge(opened(made(spec, TILE, TILE)), pixels)
    mapped = tiles.judge(opened(made(spec, TILE, TILE, score_map=knots)), pixels)
    assert mapped.score == pytest.approx(np.interp(plain.score, knots.artifact, knots.source), abs=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_map_is_0_outside_of_zones_and_whole_inside(
    network: Network, counting: Counting, made: Made, surface: Surface, tmp_path: Path, stride: int
) -> None:
    """A mask with a hole over the seams, and odd borders."""
    mask = np.zeros((FRAME.height, FRAME.width), dtype=np.uint8)
    mask[31:100, 61:131] = 255
    mask[60:70, 80:90] = 0
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    pixels = surface(FRAME.height, FRAME.width)
    tiles = counting(network(TILE, TILE, stride))
    margin = RADIUS[stride]
    free = tiles.judge(opened(made(spec_of(margin=margin), TILE, TILE, stride=stride)), pixels).map
    spec = spec_of(margin=margin, mask="mask.png")
    kept = tiles.judge(opened(made(spec, TILE, TILE, stride=stride), tmp_path), pixels).map
    blocks = mask.reshape(FRAME.height // stride, stride, FRAME.width // stride, stride).any(axis=(1, 3))
    assert np.abs(kept[blocks] - free[blocks]).max() < 1e-6
    assert not kept[~blocks].any()
    place = tuple(slice(part.start // stride, part.stop // stride) for part in PARTS)
    assert free[place].all(), "the network gives 0 nowhere"


# Levels


def test_levels_bring_each_tile_to_the_common_scale(
    network: Network, counting: Counting, made: Made, flat: Pixels
) -> None:
    """Tile 0 shows something harmless every time; its level says so. By number in the whole grid."""
    pixels = with_spot(flat, 40, 24)
    engine = network(TILE, TILE)
    tiles = counting(engine)
    plain = tiles.judge(opened(made(spec_of(), TILE, TILE)), pixels).score
    rest = tiles.judge(opened(made(spec_of(), TILE, TILE)), flat).score
    assert plain > rest + 0.01
    same = ScoreMap()
    lower = ScoreMap(artifact=(0.0, 1.0), source=(-9.0, -8.0))
    higher = ScoreMap(artifact=(0.0, 1.0), source=(5.0, 7.0))
    levelled = opened(made(spec_of(levels=(lower, *[same] * 5)), TILE, TILE))
    assert tiles.judge(levelled, pixels).score == pytest.approx(rest, abs=0.01)
    raised = opened(made(spec_of(levels=(*[same] * 4, higher, same)), TILE, TILE))
    score = engine.infer({"frames": flat[None, 64:128, 80:144]})["score"][0]
    assert tiles.judge(raised, flat).score == pytest.approx(5 + 2 * score, abs=1e-5)
    # the numbers stay those of the whole grid where only some tiles are looked at
    zone = rectangle(100, 84, 120, 110)
    zoned = opened(made(spec_of(levels=(*[same] * 4, higher, same), zones=(zone,)), TILE, TILE))
    assert isinstance(zoned, Tiles)
    assert zoned.numbers == (4,)
    assert 5 < tiles.judge(zoned, flat).score < 7


# What cannot be


def test_a_broken_network_is_never_normal(made: Made, surface: Surface) -> None:
    """One tile that is no number must not hide among the others, nor behind a zone."""
    for zones in ((), (rectangle(100, 20, 130, 120),)):
        front_end = opened(made(spec_of(zones=zones), TILE, TILE))
        assert isinstance(front_end, Tiles)
        count = len(front_end.numbers)
        for bad in (np.nan, np.inf):
            scores = np.full(count, 0.1, dtype=np.float32)
            scores[-1] = bad
            maps = np.zeros((count, TILE, TILE), dtype=np.float32)
            with pytest.raises(EngineError, match="cannot be judged"):
                front_end.merge({"score": scores, "map": maps}, None)


def test_a_manifest_that_was_not_checked_is_refused(made: Made) -> None:
    good = made(spec_of(), TILE, TILE)
    spec = good.front_end
    wrong = [
        (msgspec.structs.replace(spec, tiles=None), "no frame size or no tiles"),
        (msgspec.structs.replace(spec, frame=None), "no frame size or no tiles"),
        (
            msgspec.structs.replace(spec, region=Region(left=0, top=0, width=63, height=64)),
            "the region is 63x64 pixels, expected 64x64",
        ),
    ]
    for front_end, said in wrong:
        with pytest.raises(BundleError, match=said):
            opened(msgspec.structs.replace(good, front_end=front_end))
