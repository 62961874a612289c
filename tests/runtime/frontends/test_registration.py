"""Registration on natural pictures: known shifts and angles, other light, noise, and faults of the camera.

Frames are made by SciPy's splines from a larger picture, so that nothing of the code under test decides which
way is left and which way round is clockwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import affine_transform

from sspcab_edge.errors import BundleError, PictureError, RegistrationError
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region, Registration, Tiling
from sspcab_edge.manifest import Manifest
from sspcab_edge.protocols import Engine, Frame, FrontEnd
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.frontends.phase import turns_between, wheel
from sspcab_runtime.frontends.pose import Pose, to_frame, to_reference
from sspcab_runtime.frontends.registration import Aligner, open_aligner
from sspcab_runtime.pipeline import Failure, Parts, Result, stream

Pixels = npt.NDArray[np.uint8]
Natural = Callable[[str], Pixels]

NAMES = (
    "astronaut-1", "camera-1", "chelsea-1", "coffee-2", "grass-1", "gravel-1", "retina-1", "rocket-1",
    "000", "017",
)  # fmt: skip
WIDTH, HEIGHT = 640, 480


def enlarged(picture: Pixels, side: int) -> npt.NDArray[np.float32]:
    big = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(np.asarray(big, dtype=np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32)


def photograph(
    scene: npt.NDArray[np.float32],
    shift_x: float = 0.0,
    shift_y: float = 0.0,
    angle: float = 0.0,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> npt.NDArray[np.float32]:
    """(height, width): what a camera sees of the middle of a scene after it was moved.

    What it would see at its centre c is at c + shift, and turned clockwise about it: the pixel p shows what
    the unmoved camera sees at R(-angle) (p - c - shift) + c. In rows and columns, as SciPy wants it.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    back = np.array([[cos, -sin], [sin, cos]])  # (row, column): the transpose of (x, y), turned back
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    corner = (np.array(scene.shape) - (height, width)) / 2
    offset = corner + centre - back @ (centre + np.array([shift_y, shift_x]))
    order = 3 if angle or shift_x % 1 or shift_y % 1 else 1
    return np.asarray(
        affine_transform(scene, back, offset, (height, width), order=order, mode="nearest"), dtype=np.float32
    )


def exposed(
    grey: npt.NDArray[np.float32], gain: float = 1.0, level: float = 0.0, noise: float = 0.0
) -> Pixels:
    """A grey view as 8-bit RGB, with another brightness and contrast, and noise of a standard deviation."""
    rng = np.random.default_rng(4)
    values = grey * gain + level + rng.normal(0, 1, grey.shape) * noise
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def spec_of(
    motion: Any = "translation", max_shift: float = 60.0, max_angle: float = 0.0, least: float = 0.5
) -> Registration:
    return Registration(
        reference="reference.png",
        motion=motion,
        max_shift=max_shift,
        max_angle=max_angle,
        min_correlation=least,
    )


@pytest.fixture(scope="module")
def scenes(natural: Natural) -> dict[str, npt.NDArray[np.float32]]:
    return {name: enlarged(natural(name), 860) for name in NAMES}


@pytest.fixture(scope="module")
def references(scenes: dict[str, npt.NDArray[np.float32]]) -> dict[str, Pixels]:
    return {name: exposed(photograph(scene))[..., 0] for name, scene in scenes.items()}


@pytest.mark.parametrize("name", NAMES)
def test_shifts_are_found_to_a_quarter_of_a_pixel(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels], name: str
) -> None:
    aligner = Aligner(spec_of(), references[name])
    for shift_x, shift_y, gain, level in (
        (0.0, 0.0, 1.0, 0.0),
        (0.4, -0.3, 1.1, -20.0),
        (-12.25, 7.5, 0.6, 30.0),
        (37.3, -44.6, 0.8, 10.0),
    ):
        frame = exposed(photograph(scenes[name], shift_x, shift_y), gain, level, 5.0)
        pose = aligner.align(frame, name)
        assert abs(pose.shift_x - shift_x) < 0.25, (pose, shift_x)
        assert abs(pose.shift_y - shift_y) < 0.25, (pose, shift_y)
        assert pose.angle == 0
        assert pose.correlation > (0.85 if name in ("camera-1", "grass-1", "gravel-1") else 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_angles_are_found_to_a_tenth_of_a_degree(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels], name: str
) -> None:
    aligner = Aligner(spec_of("rotation", max_angle=40), references[name])
    for shift_x, shift_y, angle in ((3.5, -2.25, 0.3), (-20.5, 14.0, -4.7), (9.0, -30.5, 33.0)):
        frame = exposed(photograph(scenes[name], shift_x, shift_y, angle), 0.8, 15.0, 5.0)
        pose = aligner.align(frame, name)
        assert abs(pose.angle - angle) < 0.1, (pose, angle)
        assert abs(pose.shift_x - shift_x) < 0.25, (pose, shift_x)
        assert abs(pose.shift_y - shift_y) < 0.25, (pose, shift_y)


@pytest.mark.parametrize(("width", "height", "within"), [(1600, 1000, 0.25), (160, 120, 0.3)])
def test_large_and_small_frames(natural: Natural, width: int, height: int, within: float) -> None:
    scene = enlarged(natural("astronaut-1"), int(width * 1.3))
    aligner = Aligner(
        spec_of("rotation", max_shift=height / 5, max_angle=5),
        exposed(photograph(scene, width=width, height=height))[..., 0],
    )
    shift_x, shift_y, angle = 0.1 * width, -0.07 * height, 2.0
    moved = photograph(scene, shift_x, shift_y, angle, width, height)
    pose = aligner.align(exposed(moved, 0.9, 0, 4), "frame")
    assert abs(pose.shift_x - shift_x) < within
    assert abs(pose.shift_y - shift_y) < within
    assert abs(pose.angle - angle) < 0.1 * max(1, 320 / width)


@pytest.mark.parametrize("name", ["000", "017"])
@pytest.mark.parametrize(("shift_x", "shift_y"), [(28, 47), (19, 47), (-66, -47), (66, 47), (75, 47)])
def test_the_next_course_of_a_wall_is_another_place(
    natural: Natural, name: str, shift_x: int, shift_y: int
) -> None:
    """Moved by the height of a brick, long joints lie on long joints: the few short ones have to object."""
    scene = enlarged(natural(name), 270)
    aligner = Aligner(spec_of(max_shift=18.75), exposed(photograph(scene, width=200, height=150))[..., 0])
    refused(aligner, exposed(photograph(scene, shift_x, shift_y, 0, 200, 150), 0.8, 5, 5))


def test_a_lamp_from_the_side_moves_nothing(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels]
) -> None:
    lamp = np.linspace(0.4, 1.2, WIDTH, dtype=np.float32)
    pose = Aligner(spec_of(), references["camera-1"]).align(
        exposed(photograph(scenes["camera-1"], 10, 5) * lamp, 1, 0, 3), "frame"
    )
    assert math.hypot(pose.shift_x - 10, pose.shift_y - 5) < 0.25


@pytest.mark.parametrize("radius", [8, 30, 60])
def test_a_defect_moves_nothing_and_is_no_fault(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels], radius: int
) -> None:
    """Whatever its contrast: an anomaly must not be taken for a camera that was moved."""
    view = photograph(scenes["000"], -8.5, 3.0)
    cv2.circle(view, (400, 200), radius, 20.0, -1)
    cv2.circle(view, (400, 200), radius // 2, 255.0, -1)
    pose = Aligner(spec_of(), references["000"]).align(exposed(view, 1, 0, 3), "frame")
    assert math.hypot(pose.shift_x + 8.5, pose.shift_y - 3) < 0.5


# Faults


def refused(aligner: Aligner, frame: Pixels) -> str:
    with pytest.raises(RegistrationError) as caught:
        aligner.align(frame, "shift/003.png")
    text = str(caught.value)
    assert isinstance(caught.value, PictureError)
    assert text.startswith("shift/003.png ")
    assert "a camera fault, not an anomaly" in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("motion", ["translation", "rotation"])
def test_frames_that_show_nothing(references: dict[str, Pixels], motion: str) -> None:
    aligner = Aligner(spec_of(motion, max_angle=5), references["coffee-2"])
    for level in (0, 128, 255):
        assert "shows nothing" in refused(aligner, np.full((HEIGHT, WIDTH, 3), level, dtype=np.uint8))
    dark = refused(aligner, exposed(np.zeros((HEIGHT, WIDTH), np.float32), 1, 12, 6))
    assert abs(float(dark.split("correlates ")[1].split()[0])) < 0.1, "a covered lens has noise"


@pytest.mark.parametrize("motion", ["translation", "rotation"])
def test_another_scene(references: dict[str, Pixels], motion: str) -> None:
    aligner = Aligner(spec_of(motion, max_angle=5), references["coffee-2"])
    for name in ("astronaut-1", "grass-1", "rocket-1", "000"):
        text = refused(aligner, np.repeat(references[name][..., None], 3, axis=2))
        assert "with the reference picture, expected 0.5 or more" in text
        assert float(text.split("correlates ")[1].split()[0]) < 0.3


@pytest.mark.parametrize("name", ["astronaut-1", "gravel-1", "017"])
def test_shifts_over_the_limit_are_told(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels], name: str
) -> None:
    aligner = Aligner(spec_of(max_shift=20), references[name])
    for shift_x, shift_y in ((21.0, 0.0), (-15.0, 16.0), (90.0, -70.0)):
        text = refused(aligner, exposed(photograph(scenes[name], shift_x, shift_y), 0.9, 5, 4))
        length = float(text.split("is shifted by ")[1].split()[0])
        assert length == pytest.approx(math.hypot(shift_x, shift_y), abs=0.11)
        found = re.search(r"\(x (\S+), y (\S+)\)", text)
        assert found is not None
        assert [float(number) for number in found.groups()] == pytest.approx([shift_x, shift_y], abs=0.11)
        assert "expected at most 20:" in text
    aligner.align(exposed(photograph(scenes[name], 19.5, 0), 0.9, 5, 4), "just within")


def test_angles_over_the_limit_are_told(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels]
) -> None:
    aligner = Aligner(spec_of("rotation", max_angle=3), references["chelsea-1"])
    for angle in (3.4, -25.0):
        text = refused(aligner, exposed(photograph(scenes["chelsea-1"], 4, 4, angle), 1, 0, 3))
        assert f"is turned by {angle:+.1f} degrees" in text
        assert "expected at most 3:" in text


def test_a_turn_is_no_shift(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels]
) -> None:
    """A camera that may only be shifted and is turned: what is found lies elsewhere, and is refused."""
    aligner = Aligner(spec_of(), references["camera-1"])
    assert "correlates" in refused(aligner, exposed(photograph(scenes["camera-1"], 0, 0, 6), 1, 0, 3))


def test_a_wrong_place_on_a_wall_is_no_place(
    scenes: dict[str, npt.NDArray[np.float32]], references: dict[str, Pixels]
) -> None:
    """Courses of bricks fit each other anywhere along them: only the joints between tell where."""
    wall = references["000"]
    aligner = Aligner(spec_of(max_shift=40), wall)
    text = refused(aligner, exposed(photograph(scenes["000"], 75, 0), 1, 0, 3))
    assert float(text.split("is shifted by ")[1].split()[0]) == pytest.approx(75, abs=0.3)
    along = np.roll(wall, 75, axis=1).astype(np.float32)[20:-20, 80:-80].ravel()
    assert np.corrcoef(along, wall[20:-20, 80:-80].ravel())[0, 1] > 0.5, "grey values alone would not tell"


@pytest.mark.parametrize("direction", ["nothing", "along x", "along y"])
def test_references_that_do_not_tell_their_place_are_refused_when_opened(
    tmp_path: Path, direction: str
) -> None:
    lines = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    if direction == "along x":
        lines += (np.arange(HEIGHT) // 30 % 2 * 120.0)[:, None]
    elif direction == "along y":
        lines += np.arange(WIDTH) // 30 % 2 * 120.0
    flat = exposed(lines, 1, 60, 3)[..., 0]
    assert cv2.imwrite(str(tmp_path / "reference.png"), flat)
    with pytest.raises(BundleError, match="shows too little structure, or lines of one direction only"):
        open_aligner(spec_of(), FrameSize(width=WIDTH, height=HEIGHT), tmp_path)


# Poses


def test_poses_bring_frames_and_maps_to_their_places(scenes: dict[str, npt.NDArray[np.float32]]) -> None:
    """A registered frame is the unmoved one; a map of the reference lies where the camera sees it."""
    pose = Pose(12.5, -7.25, 5.0, 1.0)
    frame = exposed(photograph(scenes["astronaut-1"], 12.5, -7.25, 5.0))
    box = Region(left=100, top=80, width=400, height=300)
    unmoved = exposed(photograph(scenes["astronaut-1"]))[80:380, 100:500]
    back = to_reference(frame, pose, box)
    assert back.shape == unmoved.shape
    assert np.abs(back.astype(int) - unmoved).mean() < 2
    assert np.abs(frame[80:380, 100:500].astype(int) - unmoved).mean() > 10
    heat = unmoved_map = photograph(scenes["astronaut-1"])
    moved = to_frame(unmoved_map, pose, WIDTH, HEIGHT)
    inner = (slice(80, 400), slice(80, 560))
    assert np.abs(moved[inner] - photograph(scenes["astronaut-1"], 12.5, -7.25, 5.0)[inner]).mean() < 2
    half = cv2.resize(heat, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    coarse = to_frame(np.asarray(half, np.float32), pose, WIDTH, HEIGHT)
    assert coarse.shape == half.shape
    shrunk = cv2.resize(moved, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(coarse - shrunk)[60:180, 60:260].mean() < 2


def test_what_the_reference_does_not_show_is_0() -> None:
    moved = to_frame(np.ones((30, 40), np.float32), Pose(80.0, 0.0, 0.0, 1.0), 400, 300)
    assert (moved[:, :8] == 0).all()
    assert np.abs(moved[:, 8:] - 1).max() < 1e-6


def test_wheels_turn_with_pictures(scenes: dict[str, npt.NDArray[np.float32]]) -> None:
    for name in ("astronaut-1", "rocket-1"):
        views = [photograph(scenes[name], 20, -9, angle, 256, 192) for angle in (0, -31, 70)]
        first, *others = (wheel(view - cv2.GaussianBlur(view, (0, 0), 4)) for view in views)
        assert [turns_between(first, other, None, 1)[0] for other in others] == pytest.approx(
            [-31, 70], abs=1
        )
        assert turns_between(first, others[1], 40, 3)[0] != pytest.approx(70, abs=1)
        assert all(abs(angle) <= 40 for angle in turns_between(first, others[1], 40, 3))


# From frames to verdicts

TILE = 64


@pytest.fixture
def setup(
    tmp_path: Path, made: Callable[..., Manifest], references: dict[str, Pixels]
) -> Callable[[Any], FrontEnd]:
    """A front-end of a kind over a small part of the surface, with its reference in a folder."""

    def open_(kind: Any) -> FrontEnd:
        assert cv2.imwrite(str(tmp_path / "reference.png"), references["000"])
        spec = FrontEndSpec(
            kind=kind,
            frame=FrameSize(width=WIDTH, height=HEIGHT),
            registration=spec_of("rotation", max_shift=40, max_angle=5),
            region=Region(left=120, top=100, width=256, height=192),
            zones=(((130, 110), (370, 110), (370, 285), (130, 285)),),
            tiles=Tiling(overlap=16, margin=4, batch=4) if kind == "tiles" else None,
        )
        manifest = made(spec, TILE, TILE)
        return open_front_end(manifest, manifest.artifacts[0], 0.5, tmp_path)

    return open_


@pytest.mark.parametrize("kind", ["whole-frame", "tiles"])
def test_moved_frames_get_the_verdicts_of_unmoved_ones(
    network: Callable[..., Engine],
    counting: Callable[[Engine], Any],
    setup: Callable[[Any], FrontEnd],
    scenes: dict[str, npt.NDArray[np.float32]],
    kind: str,
) -> None:
    """The defect is hot where the camera shows it, and as hot as it was."""
    scene = np.asarray(cv2.GaussianBlur(scenes["000"], (0, 0), 1.5), dtype=np.float32)
    broken = scene.copy()
    x, y = 230, 190  # in the reference's view
    left, top = (860 - WIDTH) // 2 + x, (860 - HEIGHT) // 2 + y
    cv2.circle(broken, (left, top), 14, 255.0, -1)
    cv2.circle(broken, (left, top), 8, 0.0, -1)
    broken = np.asarray(cv2.GaussianBlur(broken, (0, 0), 1.0), dtype=np.float32)
    front_end, engine = setup(kind), counting(network(TILE, TILE))
    normal = engine.judge(front_end, exposed(photograph(scene)))
    still = engine.judge(front_end, exposed(photograph(broken)))
    contrast = still.score - normal.score
    assert contrast > 0.005, "the network sees it"
    for shift_x, shift_y, angle in ((23.0, -17.0, 0.0), (-30.4, 11.7, 3.5)):
        plain = engine.judge(front_end, exposed(photograph(scene, shift_x, shift_y, angle)))
        moved = engine.judge(front_end, exposed(photograph(broken, shift_x, shift_y, angle)))
        assert abs(plain.score - normal.score) < 0.2 * contrast
        assert abs(moved.score - still.score) < 0.2 * contrast
        row, column = np.unravel_index(np.argmax(moved.map - plain.map), moved.map.shape)
        across, down = WIDTH / moved.map.shape[1], HEIGHT / moved.map.shape[0]
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        from_x, from_y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
        seen_x = (WIDTH - 1) / 2 + shift_x + cos * from_x - sin * from_y
        seen_y = (HEIGHT - 1) / 2 + shift_y + sin * from_x + cos * from_y
        assert math.hypot((column + 0.5) * across - seen_x, (row + 0.5) * down - seen_y) < 18


def test_a_moved_camera_is_a_failure_and_others_go_on(
    network: Callable[..., Engine],
    setup: Callable[[Any], FrontEnd],
    scenes: dict[str, npt.NDArray[np.float32]],
) -> None:
    good = exposed(photograph(scenes["000"], 5, 5))
    frames = [good, exposed(photograph(scenes["000"], 75, 0)), np.zeros_like(good), good]

    class Film:
        uri, count = "film", len(frames)

        def __init__(self) -> None:
            self._frames = iter(
                [Frame(pixels, index, "film", 0.0, 0.0) for index, pixels in enumerate(frames)]
            )

        def __iter__(self) -> Film:
            return self

        def __next__(self) -> Frame:
            return next(self._frames)

        def close(self) -> None:
            pass

    results = list(stream(Parts(network(TILE, TILE), setup("tiles"), 0.5), Film()))
    assert [type(result) for result in results] == [Result, Failure, Failure, Result]
    said = [str(result.error) for result in results if isinstance(result, Failure)]
    assert said[0].startswith("frame 1 is shifted by 75.0 pixels")
    assert said[1].startswith("frame 2 shows nothing")
