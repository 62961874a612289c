"""The demo's surface: a brick wall, its defects, its pictures and its video, all made from one seed.

Used by ``train_demo.py``. The wall is a CC0 photograph that scikit-image ships, rectified and coloured,
divided into parts for training, calibration and test that share no pixel. Defects are drawn: see
``demo/SOURCES.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

U8: TypeAlias = npt.NDArray[np.uint8]
F32: TypeAlias = npt.NDArray[np.float32]

# ----------------------------------------------------------------------------------------------------------
# The surface
# ----------------------------------------------------------------------------------------------------------

#: Size of the rectified wall, in pixels. All regions below are in its pixels.
WALL_WIDTH: Final = 708
WALL_HEIGHT: Final = 512

#: The part of ``skimage.data.brick()`` (512x512) that becomes the wall, as (x, y): the photograph shows it
#: turned by 90 degrees and in perspective. In the order of the wall's corners TL, BL, BR, TR.
WALL_CORNERS: Final = ((65.0, 0.0), (425.5, 0.0), (511.0, 511.0), (0.0, 511.0))

#: Side of the part of the wall that one picture shows, in wall pixels, and of the picture, in pixels.
VIEW: Final = 192.0
PICTURE: Final = 288

JPEG_QUALITY: Final = 82

#: Side of what the network sees, in pixels.
INPUT: Final = 256


@dataclass(frozen=True)
class Region:
    """A rectangle of the wall: rows ``top..bottom-1``, columns ``left..right-1``."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, wall: F32) -> F32:
        """Return the region's own pixels: what is made from this copy cannot see its neighbours."""
        return wall[self.top : self.bottom, self.left : self.right].copy()


#: Three disjoint parts of the wall. The gaps of 8 pixels are wider than the rectification interpolates.
TRAIN: Final = Region(0, 296, 0, 708)
CALIBRATION: Final = Region(304, 512, 0, 300)
TEST: Final = Region(304, 512, 308, 708)


def assert_disjoint(regions: Sequence[Region], gap: int = 8) -> None:
    """Stop unless every two regions are at least ``gap`` pixels apart, in rows or in columns."""
    for index, one in enumerate(regions):
        for other in regions[index + 1 :]:
            rows = max(one.top - other.bottom, other.top - one.bottom)
            columns = max(one.left - other.right, other.left - one.right)
            if max(rows, columns) < gap:
                raise AssertionError(f"regions {one} and {other} are not {gap} pixels apart")


def tint(grey: F32) -> F32:
    """Colour a grey picture: dark values become reddish brown (brick), light ones warm grey (mortar).

    Args:
        grey: [H, W] float32, 0..255.

    Returns:
        [H, W, 3] float32 BGR, 0..255. Each channel is a smooth function of the grey value alone.
    """
    tone = np.clip((grey - 40.0) * 1.15, 0.0, 255.0)
    light = np.clip((grey - 98.0) / (150.0 - 98.0), 0.0, 1.0)
    light = (light * light * (3.0 - 2.0 * light))[..., None]
    brick = np.array([0.98, 1.26, 2.20], np.float32)
    mortar = np.array([1.02, 1.16, 1.26], np.float32)
    colour = tone[..., None] * (brick * (1.0 - light) + mortar * light)
    return np.asarray(np.clip(colour, 0.0, 255.0), np.float32)


def photograph(name: str) -> U8:
    """Return a photograph that scikit-image ships: [H, W] or [H, W, 3] uint8."""
    load: Callable[[], U8] = getattr(skimage.data, name)
    return np.asarray(load(), np.uint8)


def load_wall() -> F32:
    """Return the rectified, coloured wall, courses horizontal: [512, 708, 3] float32 BGR, 0..255."""
    brick = np.asarray(photograph("brick"), np.float32)
    target = ((0, 0), (0, WALL_HEIGHT - 1), (WALL_WIDTH - 1, WALL_HEIGHT - 1), (WALL_WIDTH - 1, 0))
    matrix = cv2.getPerspectiveTransform(np.array(WALL_CORNERS, np.float32), np.array(target, np.float32))
    size = (WALL_WIDTH, WALL_HEIGHT)
    border = cv2.BORDER_REPLICATE
    grey = cv2.warpPerspective(brick, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border)
    return tint(np.clip(grey, 0.0, 255.0).astype(np.float32))


# ----------------------------------------------------------------------------------------------------------
# The camera
# ----------------------------------------------------------------------------------------------------------


def view(region: F32, rng: np.random.Generator) -> F32:
    """Look at a random place of a region: random mirror images, rotation to 1.5 degrees, scale to 2 percent.

    Args:
        region: [h, w, 3] float32, at least 208 pixels high and wide.

    Returns:
        [288, 288, 3] float32, 0..255.
    """
    if rng.random() < 0.5:
        region = region[:, ::-1]
    if rng.random() < 0.5:
        region = region[::-1]
    height, width = region.shape[:2]
    angle = math.radians(rng.uniform(-1.5, 1.5))
    side = VIEW * rng.uniform(0.98, 1.02)
    half = 0.5 * side * (math.cos(angle) + abs(math.sin(angle))) + 2.0
    centre_x = rng.uniform(half, width - 1 - half)
    centre_y = rng.uniform(half, height - 1 - half)
    step = side / PICTURE
    cos, sin = step * math.cos(angle), step * math.sin(angle)
    middle = 0.5 * (PICTURE - 1)
    to_region = np.array(
        [
            [cos, -sin, centre_x - cos * middle + sin * middle],
            [sin, cos, centre_y - sin * middle - cos * middle],
        ],
        np.float32,
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (PICTURE, PICTURE)
    picture = cv2.warpAffine(np.ascontiguousarray(region), to_region, size, flags=flags)
    return np.clip(picture, 0.0, 255.0).astype(np.float32)


def expose(picture: F32, rng: np.random.Generator) -> U8:
    """Photograph a scene: light (gain, gradient, white balance), slight blur, sensor noise, 8 bits.

    Args:
        picture: [H, W, 3] float32 BGR, 0..255.

    Returns:
        [H, W, 3] uint8 BGR.
    """
    height, width = picture.shape[:2]
    gain = rng.uniform(0.92, 1.08)
    direction = rng.uniform(0.0, 2.0 * math.pi)
    slope = rng.uniform(0.0, 0.07)
    y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    light = gain * (1.0 + slope * (x * math.cos(direction) + y * math.sin(direction)))
    balance = rng.uniform(0.985, 1.015, 3)
    lit = picture * light[..., None] * balance
    lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.3, 0.7))
    return add_noise(lit.astype(np.float32), rng.uniform(1.0, 2.0), rng)


def add_noise(picture: F32, sigma: float, rng: np.random.Generator) -> U8:
    """Add sensor noise that grows with brightness, and round to 8 bits."""
    strength = sigma * (0.6 + 0.4 * picture / 128.0)
    noisy = picture + strength * rng.standard_normal(picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def encode_jpeg(picture: U8) -> bytes:
    """Encode a BGR picture as the camera would store it."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return data.tobytes()


def network_input(picture: U8) -> U8:
    """Resize a BGR picture of any size to what the network takes, [256, 256, 3] uint8 BGR."""
    return np.asarray(cv2.resize(picture, (INPUT, INPUT), interpolation=cv2.INTER_LINEAR), np.uint8)


# ----------------------------------------------------------------------------------------------------------
# Defects of the test pictures. None of them is of the kind that training draws.
# ----------------------------------------------------------------------------------------------------------

#: Masks are drawn this many times larger and then averaged: edges are soft, widths need not be whole.
SUPERSAMPLE: Final = 4


def fill(shape: tuple[int, ...], polygon: npt.NDArray[np.float64]) -> F32:
    """Return the coverage of a polygon of [n, 2] points (x, y): [H, W] float32, 0..1, with smooth edges."""
    height, width = shape[:2]
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    points = np.rint((polygon + 0.5) * SUPERSAMPLE).astype(np.int32)
    cv2.fillPoly(canvas, [points.reshape(-1, 1, 2)], 255)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.float32) / 255.0


def stroke(shape: tuple[int, ...], path: npt.NDArray[np.float64], widths: npt.NDArray[np.float64]) -> F32:
    """Return the coverage of a line along [n, 2] points with one width for each: [H, W] float32, 0..1."""
    height, width = shape[:2]
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    points = np.rint((path + 0.5) * SUPERSAMPLE).astype(int)
    for start, end, thickness in zip(points[:-1], points[1:], widths[:-1], strict=True):
        pixels = max(1, round(float(thickness) * SUPERSAMPLE))
        cv2.line(canvas, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 255, pixels)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.float32) / 255.0


def soften(mask: F32, sigma: float) -> F32:
    """Blur a mask."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.float32)


def shift(mask: F32, dx: float, dy: float) -> F32:
    """Move a mask by (dx, dy) pixels; what comes in at the border is 0."""
    matrix = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]], np.float32)
    return np.asarray(cv2.warpAffine(mask, matrix, (mask.shape[1], mask.shape[0])), np.float32)


def blend(picture: F32, colour: F32 | Sequence[float], alpha: F32) -> F32:
    """Lay a colour ([3] or [H, W, 3]) over a picture with the opacity ``alpha`` [H, W], 0..1."""
    top = np.asarray(colour, np.float32)
    return np.asarray(picture + (top - picture) * alpha[..., None], np.float32)


def rough(shape: tuple[int, ...], cell: float, rng: np.random.Generator) -> F32:
    """Return smooth random relief with features of about ``cell`` pixels: [H, W] float32, unit deviation."""
    height, width = shape[:2]
    rows, columns = max(2, round(height / cell)), max(2, round(width / cell))
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    relief = np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    return relief / max(float(relief.std()), 1e-6)


def ring(
    centre: tuple[float, float], radius: float, uneven: float, corners: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return a closed outline around a centre, its radius uneven by about that share: [corners, 2]."""
    angles = np.linspace(0.0, 2.0 * math.pi, corners, endpoint=False) + rng.uniform(0.0, 2.0 * math.pi)
    jitter = 1.0 + uneven * rng.uniform(-1.0, 1.0, corners)
    radii = radius * jitter
    return np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], axis=1)


def somewhere(shape: tuple[int, ...], margin: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return a random (x, y) that is at least ``margin`` pixels from every border."""
    height, width = shape[:2]
    return float(rng.uniform(margin, width - margin)), float(rng.uniform(margin, height - margin))


def wander(
    start: tuple[float, float], heading: float, length: float, restless: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return a jagged walk of about ``length`` pixels that keeps to its first heading: [n, 2]."""
    step = 5.0
    points = [start]
    turn = 0.0
    for _ in range(max(2, round(length / step))):
        turn = 0.75 * turn + restless * float(rng.standard_normal())
        x, y = points[-1]
        points.append((x + step * math.cos(heading + turn), y + step * math.sin(heading + turn)))
    return np.array(points)


def draw_crack(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw a dark crack with branches."""
    shape = picture.shape
    heading = rng.uniform(0.0, 2.0 * math.pi)
    length = rng.uniform(110.0, 210.0)
    centre = somewhere(shape, 105.0, rng)
    start = (centre[0] - 0.5 * length * math.cos(heading), centre[1] - 0.5 * length * math.sin(heading))
    trunk = wander(start, heading, length, 0.38, rng)
    width = rng.uniform(2.4, 4.2)
    mask = stroke(shape, trunk, width * np.linspace(1.0, 0.35, len(trunk)))
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(trunk) // 5, 4 * len(trunk) // 5))
        side = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.1)
        reach = rng.uniform(0.2, 0.45) * length
        branch = wander((trunk[at, 0], trunk[at, 1]), heading + side, reach, 0.4, rng)
        mask = np.maximum(mask, stroke(shape, branch, 0.6 * width * np.linspace(1.0, 0.3, len(branch))))
    depth = rng.uniform(0.62, 0.85)
    lit_edge = np.clip(shift(mask, 1.2, 1.2) - mask, 0.0, 1.0)
    done = picture * (1.0 + 0.14 * lit_edge[..., None])
    return np.asarray(done * (1.0 - depth * soften(mask, 0.5)[..., None]), np.float32), mask


def draw_scratch(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw one to three bright, nearly parallel scratches, as something hard leaves that is dragged along."""
    shape = picture.shape
    heading = rng.uniform(0.0, 2.0 * math.pi)
    along = np.array([math.cos(heading), math.sin(heading)])
    across = np.array([-along[1], along[0]])
    centre = np.array(somewhere(shape, 90.0, rng))
    bend = rng.uniform(-0.12, 0.12)
    fresh = np.array([158.0, 182.0, 218.0], np.float32) * rng.uniform(0.9, 1.08)
    total = np.zeros(shape[:2], np.float32)
    done = picture
    for number in range(int(rng.integers(1, 4))):
        length = rng.uniform(70.0, 165.0)
        offset = number * rng.uniform(6.0, 12.0) + rng.uniform(-1.5, 1.5)
        t = np.linspace(-0.5, 0.5, 60)
        bow = 4.0 * bend * length * (t * t - 0.25)
        path = centre + np.outer(t * length, along) + np.outer(offset + bow, across)
        pressure = np.clip(np.sqrt(np.clip(1.0 - (2.0 * t) ** 2, 0.0, 1.0)), 0.25, 1.0)
        mask = stroke(shape, path, rng.uniform(1.6, 3.0) * pressure)
        groove = np.clip(shift(mask, 1.0, 1.0) - mask, 0.0, 1.0)
        patchy = np.clip(0.85 + 0.25 * rough(shape, 7.0, rng), 0.3, 1.0)
        done = np.asarray(done * (1.0 - 0.35 * groove[..., None]), np.float32)
        done = blend(done, fresh, rng.uniform(0.6, 0.9) * soften(mask, 0.4) * patchy)
        total = np.maximum(total, mask)
    return done, total


def draw_stain(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw a soft-edged stain (oil, lime, rust or moss): the wall's texture still shows through."""
    shape = picture.shape
    x, y = somewhere(shape, 70.0, rng)
    size = rng.uniform(20.0, 36.0)
    blob = np.zeros(shape[:2], np.float32)
    for _ in range(int(rng.integers(3, 6))):
        centre = (x + rng.uniform(-0.7, 0.7) * size, y + rng.uniform(-0.7, 0.7) * size)
        outline = ring(centre, rng.uniform(0.5, 0.9) * size, 0.12, 24, rng)
        blob = np.maximum(blob, fill(shape, outline))
    soft = soften(blob, rng.uniform(3.0, 6.0))
    soft = np.asarray(soft * np.clip(0.92 + 0.10 * rough(shape, 9.0, rng), 0.6, 1.0), np.float32)
    kind = rng.choice(["oil", "lime", "rust", "moss"])
    strength = rng.uniform(0.75, 1.0)
    if kind == "oil":
        wet = picture * np.array([0.40, 0.38, 0.36], np.float32)
        return blend(picture, wet, strength * soft), soft
    if kind == "lime":
        return blend(picture, [205.0, 214.0, 218.0], 0.62 * strength * soft), soft
    if kind == "rust":
        return blend(picture, [22.0, 84.0, 168.0], 0.66 * strength * soft), soft
    return blend(picture, [46.0, 92.0, 74.0], 0.66 * strength * soft), soft


def draw_hole(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw a drilled hole: dark inside, its lower right wall lit, a pale chipped rim."""
    shape = picture.shape
    centre = somewhere(shape, 45.0, rng)
    radius = rng.uniform(9.0, 17.0)
    bore = fill(shape, ring(centre, radius, 0.02, 40, rng))
    rim = fill(shape, ring(centre, radius + rng.uniform(3.0, 6.5), 0.22, 19, rng))
    dust = np.array([150.0, 172.0, 205.0], np.float32) + 12.0 * rough(shape, 3.0, rng)[..., None]
    done = blend(picture, np.asarray(dust, np.float32), rng.uniform(0.55, 0.8) * soften(rim, 0.7))
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    towards_light = ((x - centre[0]) + (y - centre[1])) / (math.sqrt(2.0) * radius)
    inside = np.clip(0.16 + 0.14 * towards_light, 0.06, 0.32)
    wall_of_bore = np.asarray(inside[..., None] * np.array([120.0, 150.0, 215.0]), np.float32)
    return blend(done, wall_of_bore, soften(bore, 0.6)), np.maximum(rim, bore)


def draw_object(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw a metal thing stuck to the wall: a hexagon bolt or a coin, with its shadow."""
    shape = picture.shape
    centre = somewhere(shape, 50.0, rng)
    radius = rng.uniform(15.0, 25.0)
    bolt = rng.random() < 0.5
    turn = rng.uniform(0.0, 2.0 * math.pi)
    count = 6 if bolt else 60
    angles = turn + np.linspace(0.0, 2.0 * math.pi, count, endpoint=False)
    outline = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
    body = fill(shape, outline)
    reach = rng.uniform(3.0, 5.0)
    shadow = np.clip(soften(shift(body, reach, reach), 2.2) - body, 0.0, 1.0)
    metals = ([168.0, 166.0, 160.0], [82.0, 150.0, 190.0], [118.0, 122.0, 126.0])
    metal = np.array(metals[int(rng.integers(len(metals)))], np.float32)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    slope = ((x - centre[0]) + (y - centre[1])) / (math.sqrt(2.0) * radius)
    shade = 1.0 - 0.22 * slope
    face = fill(shape, ring(centre, 0.79 * radius, 0.0, 60, rng))
    bevel = np.clip(body - face, 0.0, 1.0)
    shade = shade * (1.0 - bevel * (0.12 + 0.38 * slope))
    if not bolt:
        emboss = soften(rough(shape, 4.5, rng) * fill(shape, ring(centre, 0.6 * radius, 0.15, 14, rng)), 0.8)
        shade = shade + 0.10 * emboss
    shade = shade + 0.03 * rough(shape, 2.0, rng)
    done = np.asarray(picture * (1.0 - 0.55 * shadow[..., None]), np.float32)
    surface = np.asarray(np.clip(shade, 0.15, 1.5)[..., None] * metal, np.float32)
    return blend(done, surface, soften(body, 0.5)), np.maximum(body, np.asarray(shadow > 0.3, np.float32))


def draw_chip(picture: F32, rng: np.random.Generator) -> tuple[F32, F32]:
    """Draw a missing chunk: raw rough clay, one edge in the shadow and the opposite one lit."""
    shape = picture.shape
    centre = somewhere(shape, 60.0, rng)
    size = rng.uniform(17.0, 32.0)
    stretch = rng.uniform(0.6, 0.9)
    outline = ring(centre, size, 0.30, int(rng.integers(9, 14)), rng)
    outline[:, 1] = centre[1] + stretch * (outline[:, 1] - centre[1])
    mask = fill(shape, outline)
    relief = np.asarray(0.8 * rough(shape, 9.0, rng) + 0.35 * rough(shape, 3.0, rng), np.float32)
    lit = shift(relief, -0.7, -0.7) - shift(relief, 0.7, 0.7)
    clay = np.array([92.0, 116.0, 182.0], np.float32) * rng.uniform(0.85, 1.1)
    raw = clay * (1.0 + 0.11 * lit + 0.05 * relief)[..., None]
    depth = rng.uniform(3.5, 6.0)
    dark_edge = soften(np.clip(mask - shift(mask, depth, depth), 0.0, 1.0), 0.8)
    lit_edge = soften(np.clip(mask - shift(mask, -0.7 * depth, -0.7 * depth), 0.0, 1.0), 0.7)
    raw = raw * (1.0 - 0.62 * dark_edge + 0.16 * lit_edge)[..., None]
    return blend(picture, np.asarray(raw, np.float32), soften(mask, 0.5)), mask


#: kind of defect -> how it is drawn: ``(picture, rng) -> (picture with the defect, its coverage [H, W])``.
DEFECTS: Final[dict[str, Callable[[F32, np.random.Generator], tuple[F32, F32]]]] = {
    "chip": draw_chip,
    "crack": draw_crack,
    "hole": draw_hole,
    "object": draw_object,
    "scratch": draw_scratch,
    "stain": draw_stain,
}

# ----------------------------------------------------------------------------------------------------------
# Pictures and video on disk
# ----------------------------------------------------------------------------------------------------------

CALIBRATION_PICTURES: Final = 64
GOOD_PICTURES: Final = 40
PICTURES_PER_DEFECT: Final = 8

VIDEO_FRAMES: Final = 240
VIDEO_FPS: Final = 24
VIDEO_STEP: Final = 8  # pixels of a frame by which the wall moves from frame to frame
#: The middle of the test region. Both ends lie on joints, so that mirror images meet without odd bricks.
VIDEO: Final = Region(304, 512, 355, 659)
#: Kinds of defect, and where their middles are, in pixels from the left end of the strip.
VIDEO_DEFECTS: Final = (("crack", 420), ("object", 880), ("stain", 1340), ("hole", 1800))


def stream(seed: int, *name: int) -> np.random.Generator:
    """Return the random numbers of one thing that is made, independent of how many others there are."""
    return np.random.default_rng([seed, *name])


def write_pictures(out: Path, wall: F32, seed: int) -> None:
    """Write ``calibration``, ``test`` and ``ground_truth``."""
    assert_disjoint([TRAIN, CALIBRATION, TEST])
    calibration, test = CALIBRATION.cut(wall), TEST.cut(wall)
    folder = make_folder(out / "calibration")
    for index in range(CALIBRATION_PICTURES):
        rng = stream(seed, 1, index)
        (folder / f"{index:03d}.jpg").write_bytes(encode_jpeg(expose(view(calibration, rng), rng)))
    folder = make_folder(out / "test" / "good")
    for index in range(GOOD_PICTURES):
        rng = stream(seed, 2, index)
        (folder / f"{index:03d}.jpg").write_bytes(encode_jpeg(expose(view(test, rng), rng)))
    for number, (kind, draw) in enumerate(DEFECTS.items()):
        folder, masks = make_folder(out / "test" / kind), make_folder(out / "ground_truth" / kind)
        for index in range(PICTURES_PER_DEFECT):
            rng = stream(seed, 3, number, index)
            picture, coverage = draw(view(test, rng), rng)
            (folder / f"{index:03d}.jpg").write_bytes(encode_jpeg(expose(picture, rng)))
            mask = np.where(coverage > 0.25, 255, 0).astype(np.uint8)
            cv2.imwrite(str(masks / f"{index:03d}_mask.png"), mask, [cv2.IMWRITE_PNG_BILEVEL, 1])


def make_folder(folder: Path) -> Path:
    """Make a folder, or empty it of the files that an earlier run of this script left there."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("[0-9]*.jpg"), *folder.glob("[0-9]*_mask.png")]:
        old.unlink()
    return folder


def video_strip(wall: F32, seed: int) -> tuple[F32, list[tuple[str, npt.NDArray[np.bool_]]]]:
    """Return the stretch of wall that passes the camera, with its defects.

    A part of the test region is laid side by side with its mirror image, again and again.

    Returns:
        strip: [312, W, 3] float32 BGR, 0..255; and for each defect its kind and mask [312, W].
    """
    region = VIDEO.cut(wall)
    scale = PICTURE / VIEW
    size = (round(region.shape[1] * scale), round(region.shape[0] * scale))
    tile = np.clip(cv2.resize(region, size, interpolation=cv2.INTER_CUBIC), 0.0, 255.0)
    width = VIDEO_FRAMES * VIDEO_STEP + PICTURE
    pair = np.concatenate([tile, tile[:, ::-1]], axis=1)
    strip = np.tile(pair, (1, math.ceil(width / pair.shape[1]), 1))[:, :width].astype(np.float32)
    defects: list[tuple[str, npt.NDArray[np.bool_]]] = []
    top = (strip.shape[0] - PICTURE) // 2
    for number, (kind, x) in enumerate(VIDEO_DEFECTS):
        blank = np.zeros((PICTURE, PICTURE, 3), np.float32)
        _, trial = DEFECTS[kind](blank, stream(seed, 4, number))
        columns = np.flatnonzero((trial > 0.25).any(axis=0))
        left = x - int(columns[0] + columns[-1]) // 2
        part = np.s_[top : top + PICTURE, left : left + PICTURE]
        strip[part], coverage = DEFECTS[kind](strip[part], stream(seed, 4, number))
        mask = np.zeros(strip.shape[:2], np.bool_)
        mask[part] = coverage > 0.25
        defects.append((kind, mask))
    return strip, defects


def write_video(out: Path, wall: F32, seed: int) -> None:
    """Write ``surface.mp4`` (H.264, BT.709, limited range) and ``surface.json``."""
    import av  # PyAV: only the video needs it
    from av.video.reformatter import ColorRange, Colorspace

    strip, defects = video_strip(wall, seed)
    rng = stream(seed, 5)
    top = (strip.shape[0] - PICTURE) // 2
    in_view: list[list[int]] = [[] for _ in defects]
    whole: list[list[int]] = [[] for _ in defects]
    with av.open(str(out / "surface.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=VIDEO_FPS)
        video.width = video.height = PICTURE
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "22", "preset": "slow", "threads": "1"}
        video.codec_context.color_range = int(ColorRange.MPEG)
        video.codec_context.colorspace = int(Colorspace.ITU709)
        for index in range(VIDEO_FRAMES):
            left = index * VIDEO_STEP
            sway = round(6.0 * math.sin(2.0 * math.pi * index / 97.0))
            rows, columns = slice(top + sway, top + sway + PICTURE), slice(left, left + PICTURE)
            light = 1.0 + 0.04 * math.sin(2.0 * math.pi * index / 180.0)
            lit = cv2.GaussianBlur(strip[rows, columns] * light, (0, 0), 0.5)
            picture = add_noise(np.asarray(lit, np.float32), 1.2, rng)
            for number, (_, mask) in enumerate(defects):
                seen = int(mask[rows, columns].sum())
                if seen > 0:
                    in_view[number].append(index)
                if seen >= 0.98 * int(mask.sum()):
                    whole[number].append(index)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[..., ::-1]), format="rgb24")
            frame = frame.reformat(
                format="yuv420p",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
    facts = {
        "frames": VIDEO_FRAMES,
        "fps": VIDEO_FPS,
        "width": PICTURE,
        "height": PICTURE,
        "note": "frame numbers from 0, both ends included; visible: any pixel of the defect is in the "
        "picture; whole: at least 98 percent of it",
        "defects": [
            {"kind": kind, "visible": [seen[0], seen[-1]], "whole": [all_of_it[0], all_of_it[-1]]}
            for (kind, _), seen, all_of_it in zip(defects, in_view, whole, strict=True)
        ],
    }
    (out / "surface.json").write_text(json.dumps(facts, indent=2) + "\n")
