"""What a manifest is refused for, beyond its types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import Manifest, decode_manifest, encode_manifest
from sspcab_edge.ports import CONTRACT_VERSION


@pytest.mark.parametrize(("key", "said"), [("contract", "graph contract 2"), ("schema", "schema 2")])
def test_another_version_is_refused_and_said(key: str, said: str) -> None:
    plain: dict[str, Any] = json.loads((Path(__file__).parent / "manifest.json").read_text())
    assert plain["contract"] == CONTRACT_VERSION
    assert decode_manifest(json.dumps(plain).encode()).contract == CONTRACT_VERSION
    plain[key] = 2
    with pytest.raises(BundleError, match=f"{said}, expected 1"):
        decode_manifest(json.dumps(plain).encode())


# Front-ends

SQUARE = [[10, 10], [20, 10], [20, 20]]
REGISTRATION = {
    "reference": "reference.png",
    "motion": "rotation",
    "max_shift": 20,
    "max_angle": 3,
    "min_correlation": 0.5,
}
TILES = {"overlap": 16, "margin": 4, "batch": 8, "levels": []}
REGION = {"left": 30, "top": 10, "width": 240, "height": 136}


def plain_manifest(front_end: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A good manifest whose graph takes 64 x 48 pixels, with a mask and a reference beside it."""
    plain: dict[str, Any] = json.loads((Path(__file__).parent / "manifest.json").read_text())
    plain["preprocess"] |= {"width": 64, "height": 48}
    plain["files"] += [
        {"path": name, "size": 1, "sha256": "0" * 64} for name in ("mask.png", "reference.png")
    ]
    full = {"kind": "tiles", "frame": {"width": 320, "height": 200}, "tiles": TILES, **front_end}
    plain["front_end"] = {name: value for name, value in full.items() if value is not None}
    return {**plain, **changes}


def decoded(front_end: dict[str, Any], **changes: Any) -> Manifest:
    return decode_manifest(json.dumps(plain_manifest(front_end, **changes)).encode())


@pytest.mark.parametrize(
    "front_end",
    [
        {},
        {"region": REGION, "zones": [SQUARE, SQUARE[::-1]], "mask": "mask.png", "registration": REGISTRATION},
        {"region": {"left": 256, "top": 152, "width": 64, "height": 48}},
        {"tiles": TILES | {"overlap": 47, "margin": 23}},
        {"tiles": TILES | {"overlap": 0, "margin": 0, "batch": 1}},
        {"zones": [[[0, 0], [319, 0], [319, 199], [0, 199]]]},
        {"registration": REGISTRATION | {"max_shift": 100, "max_angle": 90, "min_correlation": -1}},
        {"kind": "whole-frame", "tiles": None, "frame": None},
        {"kind": "whole-frame", "tiles": None},
        {"kind": "whole-frame", "tiles": None, "region": {"left": 0, "top": 0, "width": 1, "height": 1}},
    ],
)
def test_good_front_ends_come_back_as_they_were(front_end: dict[str, Any]) -> None:
    manifest = decoded(front_end)
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_levels_are_counted_over_the_whole_grid() -> None:
    """240 x 136 pixels in tiles of 64 x 48 that overlap by 16: 5 x 4."""
    knots = {"artifact": [0, 1], "source": [0, 2]}
    for count in (19, 20, 21):
        spec = {"region": REGION, "tiles": TILES | {"levels": [knots] * count}, "zones": [SQUARE]}
        if count == 20:
            assert len(decoded(spec).front_end.tiles.levels) == 20  # type: ignore[union-attr]
            continue
        with pytest.raises(BundleError, match=f"levels for {count} tiles, expected 20"):
            decoded(spec)
    falling = {"artifact": [0, 1], "source": [2, 0]}
    with pytest.raises(BundleError, match="level of tile 7 is not strictly increasing"):
        decoded({"region": REGION, "tiles": TILES | {"levels": [knots] * 7 + [falling] + [knots] * 12}})


@pytest.mark.parametrize(
    ("front_end", "said"),
    [
        ({"tiles": None}, "no tiles for a front-end of kind tiles"),
        ({"kind": "whole-frame"}, "has tiles for a front-end of kind whole-frame"),
        ({"kind": "clips"}, "not a valid manifest"),
        ({"frame": None}, "has tiles but no frame size"),
        *(
            ({"kind": "whole-frame", "tiles": None, "frame": None, name: value}, f"has {name} but no frame")
            for name, value in (
                ("registration", REGISTRATION),
                ("region", REGION),
                ("zones", [SQUARE]),
                ("mask", "mask.png"),
            )
        ),
        ({"frame": {"width": 0, "height": 200}}, "frames of 0x200"),
        ({"frame": {"width": 320, "height": -1}}, "frames of 320x-1"),
        ({"frame": {"width": 32768, "height": 200}}, "frames of 32768x200"),
        ({"frame": {"width": 20000, "height": 20000}}, "frames of 20000x20000"),
        *(
            ({"region": REGION | change}, "expected one inside the frame of 320x200")
            for change in (
                {"left": -1},
                {"top": -1},
                {"width": 0},
                {"height": 0},
                {"left": 81},
                {"top": 65},
                {"left": 10**30},
            )
        ),
        ({"zones": [SQUARE, SQUARE[:2]]}, "zone 2 .* 2 corners, expected 3 or more"),
        ({"zones": [[]]}, "zone 1 .* 0 corners"),
        ({"zones": [[*SQUARE, [320, 5]]]}, r"corner at \(320, 5\), expected one inside"),
        ({"zones": [[*SQUARE, [5, 200]]]}, r"corner at \(5, 200\)"),
        ({"zones": [[*SQUARE, [-1, 5]]]}, r"corner at \(-1, 5\)"),
        ({"mask": "../mask.png"}, "refers to '../mask.png', which it does not list"),
        ({"mask": ""}, "refers to '', which it does not list"),
        ({"registration": REGISTRATION | {"reference": "other.png"}}, "refers to 'other.png'"),
        ({"registration": REGISTRATION | {"motion": "affine"}}, "not a valid manifest"),
        ({"registration": REGISTRATION | {"max_shift": -0.5}}, "max_shift -0.5, expected 0 to 100"),
        ({"registration": REGISTRATION | {"max_shift": 101}}, "max_shift 101, expected 0 to 100"),
        ({"registration": REGISTRATION | {"max_angle": 91}}, "max_angle 91, expected 0 to 90"),
        ({"registration": REGISTRATION | {"min_correlation": 1.5}}, "min_correlation 1.5, expected -1 to 1"),
        (
            {"frame": {"width": 320, "height": 63}, "registration": REGISTRATION},
            "registers frames of 320x63 pixels, expected 64 or more",
        ),
        ({"region": REGION | {"width": 63}}, "tiles of 64x48 pixels, expected at most the region's 63x136"),
        ({"region": REGION | {"height": 47}}, "tiles of 64x48 pixels, expected at most the region's 240x47"),
        ({"tiles": TILES | {"overlap": 48}}, "overlap by 48, expected 0 to 47"),
        ({"tiles": TILES | {"overlap": -1, "margin": 0}}, "overlap by -1"),
        ({"tiles": TILES | {"margin": 9}}, "margin of 9, expected 0 to 8"),
        ({"tiles": TILES | {"margin": -1}}, "margin of -1"),
        ({"tiles": TILES | {"batch": 0}}, "batches of 0 tiles"),
        (
            {"frame": {"width": 9000, "height": 9000}, "tiles": TILES | {"overlap": 47}},
            "tiles out of a frame, expected at most 4096",
        ),
        ({"tiles": TILES | {"overlap": 1.5}}, "not a valid manifest"),
        ({"sheets": 1}, "not a valid manifest"),
    ],
)
def test_front_ends_that_contradict_themselves_are_refused(front_end: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        decoded(front_end)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", ["map-max", "map-mean", "map-mean-filter:21", None])
def test_rules_of_scores(rule: str | None) -> None:
    assert decoded({}, score=rule).score == rule


@pytest.mark.parametrize(
    "rule", ["", "max", "map-max ", "map-max\n", "map-mean-filter", "map-mean-filter:0", "map-mean-filter:-3"]
)
def test_rules_of_scores_that_are_none(rule: str) -> None:
    with pytest.raises(BundleError, match="expected map-max, map-mean or map-mean-filter:K"):
        decoded({}, score=rule)
