"""Which images are one exposure twice: saved again, cropped by a pixel, a little brighter, the next frame.

Images of one fixed part under a fixed lamp look alike, and so do copies of one exposure: what tells them
apart is not how alike they look but whether their noise is the same. So images are gathered by scene first,
by their thumbnails. Within a scene each is brought to 64 x 64 means of luma, and what all of the scene share
is taken off: their mean, and what a gain, a shift, a crop or a turn by few pixels would change. What remains
is noise, and what is the workpiece's own; its correlation is what a pair has in common.

Measured on drawn parts (plain, fine and coarse texture, flat; 256 to 640 pixels wide; noise of 3 and 6 grey
levels, part of it from photons; flicker of up to 2 %; shifts of up to 2 pixels, not whole ones; fixed-pattern
noise; cameras that send JPEG of quality 70 to 92), 100 exposures each and copies of them: two exposures
correlate by 0.3 at most; copies saved again as JPEG 80 by 0.6 or more, cropped by a pixel by 0.67, 1 %
brighter by 0.85, halved and enlarged by 0.88, cropped and saved as JPEG 80 by 0.48. Where texture of 80
levels moves by 2 of 256 pixels single pairs of exposures are taken for copies; where noise has one level,
JPEG 80 leaves 0.2 of it and such copies are not found. A folder of nothing but copies of one exposure looks
like exposures with less noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_export.pictures import DETAIL, Sample

__all__ = ["MINIMUM_SCENE", "NEAR_DUPLICATE_RMS", "TOGETHER", "Link", "Links", "find_links", "joined"]

TOGETHER = 0.3
"""Correlation of details from which two images are taken for one exposure: see above."""

MINIMUM_SCENE = 8
"""Fewest images of a scene whose shared part can be told from their noise.

The mean of n independent exposures holds each of them to 1/n, and so correlates any two by -1/(n - 1).
"""

NEAR_DUPLICATE_RMS = 1.5 / 255
"""In scenes of fewer images, thumbnails closer than this (root mean square, of [0, 1]) are one exposure."""

MOST_NOISE = 0.6
"""Root-mean-square difference of details, in grey levels, up to which two images can be one exposure.

Copies reach 0.35 (JPEG 80 of a crop, on 256 pixels); views of parts that lie elsewhere have 1 and more, and
correlate where they lie alike: those of the demo by up to 0.98.
"""

SAME_SCENE = 0.9
"""Correlation of two thumbnails, each less its mean, from which they show one scene.

Copies of one exposure have 0.99 and more, whatever is done to them; other views of a texture next to none.
"""

_GAIN = 0.03  # lamps flicker, people brighten: within this, brightness does not make two scenes
_REACH = (
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (-1, -1),
    (1, -1),
    (-1, 1),
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
)
_EXAMPLES = 8
_LARGEST = 2048  # longer sides are halved before the scene is moved by pixels
_BLOCK = 512
_MOST_LINKS = 48  # of one image to others before it: enough to connect what belongs together
_COLLINEAR = 1e-7  # share of the largest squared size below which a shared direction is rounding
_OUTLYING = 6.0  # robust standard deviations of a place beyond which a value belongs to a defect
_LEAST_OUTLYING = 2.0  # grey levels; what is nearer to the others does no harm
_NO_NOISE = 0.02  # grey levels; details below this are the same pixels again

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Link:
    """Two images that are taken for one exposure: their digests, and how alike their details are (-1 to 1).

    A likeness of 1 is the very same picture again. ``measured`` tells that the scene has images enough for
    the others; else they only order links.
    """

    first: str
    second: str
    likeness: float
    measured: bool


@dataclass(frozen=True, slots=True)
class Links:
    """What images have in common.

    Attributes:
        pairs: Images that belong together, those most alike first.
        scenes: Digest -> number of its scene, for images of scenes with two or more.
        details: Digest -> details as a unit vector, for images of scenes with :data:`MINIMUM_SCENE` or more.
    """

    pairs: tuple[Link, ...]
    scenes: dict[str, int]
    details: dict[str, npt.NDArray[np.float16]]

    def correlation(self, one: Iterable[Sample], other: Iterable[Sample]) -> float | None:
        """How much of ``other`` was seen in ``one``.

        Returns:
            The largest correlation of details of an image of ``other`` with any of ``one``, as the median
            over those that have one of their scene there; None where there are none.
        """
        sides: list[dict[int, list[npt.NDArray[np.float16]]]] = []
        for samples in (one, other):
            by_scene: dict[int, list[npt.NDArray[np.float16]]] = {}
            for digest in sorted({sample.digest for sample in samples} & self.details.keys()):
                by_scene.setdefault(self.scenes[digest], []).append(self.details[digest])
            sides.append(by_scene)
        largest: list[float] = []
        for scene in sides[0].keys() & sides[1].keys():
            seen, new = (np.stack(side[scene]).astype(np.float32) for side in sides)
            for start in range(0, len(new), _BLOCK):
                largest.extend((new[start : start + _BLOCK] @ seen.T).max(axis=1).tolist())
        return float(np.median(largest)) if largest else None


def find_links(samples: Sequence[Sample]) -> Links:
    """Compare all images with each other.

    Blocks of thumbnails are multiplied, and within scenes blocks of details (up to 3600 numbers an image); of
    large scenes :data:`_EXAMPLES` images are decoded again.

    Raises:
        PictureError: An image cannot be decoded any more.
    """
    unique = sorted({sample.digest: sample for sample in samples}.values(), key=lambda sample: sample.digest)
    pairs: list[Link] = []
    scenes: dict[str, int] = {}
    details: dict[str, npt.NDArray[np.float16]] = {}
    close, same = _compare_thumbnails(unique)
    for number, members in enumerate(joined(len(unique), same)):
        if len(members) < 2:
            continue
        own = [unique[member] for member in members]
        scenes.update((sample.digest, number) for sample in own)
        vectors, levels, still = _details(own)
        same_pixels = {*itertools.pairwise(still), *_identical(own)}
        measured = len(own) >= MINIMUM_SCENE
        if measured:
            wanted = {*same_pixels}
            wanted.update(pair for pair in _correlated(vectors) if _near(own, levels, *pair))
            details.update((s.digest, v.astype(np.float16)) for s, v in zip(own, vectors, strict=True))
        else:
            position = {member: place for place, member in enumerate(members)}
            wanted = {(position[a], position[b]) for a, b in close if a in position and b in position}
        for first, second in wanted:
            alike = 1.0 if (first, second) in same_pixels else float(vectors[first] @ vectors[second])
            pairs.append(Link(own[first].digest, own[second].digest, alike, measured))
    pairs.sort(key=lambda link: (-link.likeness, link.first, link.second))
    return Links(tuple(pairs), scenes, details)


def joined(
    count: int,
    pairs: Iterable[tuple[int, int]],
    loose: Iterable[tuple[int, int]] = (),
    most: int | None = None,
) -> list[list[int]]:
    """Numbers below ``count``, those of a pair together, groups in the order of their smallest number.

    Args:
        count: How many there are.
        pairs: What belongs together, whatever comes of it.
        loose: What belongs together while no group of more than ``most`` comes of it, the closest first.
        most: None: of any size.
    """
    parents, sizes = list(range(count)), [1] * count
    for limit, some in ((None, pairs), (most, loose)):
        for one, other in some:
            low, high = sorted((_root(parents, one), _root(parents, other)))
            if low != high and (limit is None or sizes[low] + sizes[high] <= limit):
                parents[high] = low
                sizes[low] += sizes[high]
    groups: dict[int, list[int]] = {}
    for number in range(count):
        groups.setdefault(_root(parents, number), []).append(number)
    return list(groups.values())


def _root(parents: list[int], item: int) -> int:
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


def _compare_thumbnails(
    samples: Sequence[Sample],
) -> tuple[list[tuple[int, int]], Iterator[tuple[int, int]]]:
    """Pairs within :data:`NEAR_DUPLICATE_RMS`, and pairs of one scene; first and second number of each."""
    close: list[tuple[int, int]] = []
    same: list[tuple[int, int]] = []
    if len(samples) < 2:
        return close, iter(same)
    flat = np.stack([sample.thumbnail.ravel() for sample in samples]).astype(np.float32)
    centred = flat - flat.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    squares = (flat.astype(np.float64) ** 2).sum(axis=1)
    limit = NEAR_DUPLICATE_RMS**2 * flat.shape[1]
    for start in range(0, len(flat), _BLOCK):
        rows = slice(start, start + _BLOCK)
        products = (flat[rows] @ flat.T).astype(np.float64)
        gain = np.clip(products / np.maximum(squares, 1e-9), 1 - _GAIN, 1 + _GAIN)
        distances = squares[rows, None] - 2 * gain * products + gain**2 * squares
        alike = centred[rows] @ centred.T >= SAME_SCENE
        for found, kept in ((distances <= limit, close), ((distances <= limit) | alike, same)):
            later = np.triu(found, start + 1)
            for row, columns in enumerate(later):
                others = np.flatnonzero(columns)
                kept.extend((start + row, int(other)) for other in others[:_MOST_LINKS])
    return close, iter(same)


def _details(samples: Sequence[Sample]) -> tuple[Vectors, Vectors, list[int]]:
    """What each image of a scene has for itself: as unit vectors, and in grey levels; who has nothing."""
    grid = DETAIL
    smallest = min(side for sample in samples for side in sample.size)
    while grid > 16 and smallest < 4 * grid:  # means of fewer than 4 x 4 pixels do not outlast a crop
        grid //= 2
    means = np.stack([_reduced(sample.detail, grid) for sample in samples])
    scene = _scene(means)
    vectors = _sharpened(means - scene)
    shared = _sharpened(np.stack(_changes(samples, scene, grid, vectors.shape[1] // 4)))
    weights = np.ones(vectors.shape[1], np.float32)
    left = _without(vectors, shared)
    levels = left
    strengths = np.sqrt((levels**2).mean(axis=1))
    if len(samples) >= MINIMUM_SCENE:
        for _ in range(2):  # edges move, and count for as much less
            spread = 1.4826 * np.median(np.abs(left / weights), axis=0)
            weights = 1 / np.sqrt(spread**2 + 0.25 * np.median(spread) ** 2 + 1e-6)
            weights = weights.astype(np.float32)
            left = _without(vectors * weights, shared * weights)
    still = [int(number) for number in np.flatnonzero(strengths < _NO_NOISE)]
    left = left.copy()
    left[still] = 0
    norms = np.linalg.norm(left, axis=1, keepdims=True)
    return (left / np.maximum(norms, 1e-9)).astype(np.float32), levels, still


def _scene(means: Vectors) -> Vectors:
    """(n, grid, grid) -> (grid, grid): their mean, without values far from the others at the same place.

    A defect that few images show would else be in the mean, and missing from all the others alike: they would
    have it in common.
    """
    middle = np.median(means, axis=0)
    distances = np.abs(means - middle)
    usual = distances <= np.maximum(_OUTLYING * 1.4826 * np.median(distances, axis=0), _LEAST_OUTLYING)
    return np.asarray((means * usual).sum(axis=0) / usual.sum(axis=0), dtype=np.float32)


def _near(samples: Sequence[Sample], levels: Vectors, one: int, other: int) -> bool:
    """Whether two images of a scene differ by little, not only in the same direction from the others."""
    if float(np.sqrt(np.square(levels[one] - levels[other]).mean())) <= MOST_NOISE:
        return True
    difference = samples[one].thumbnail - samples[other].thumbnail
    return float(np.sqrt(np.square(difference).mean())) <= NEAR_DUPLICATE_RMS


def _reduced(detail: npt.NDArray[np.uint16], grid: int) -> Vectors:
    """(64, 64) fixed-point means as (grid, grid) float32 grey levels."""
    levels = detail.astype(np.float32) / np.float32(256)
    side = DETAIL // grid
    return np.asarray(levels.reshape(grid, side, grid, side).mean(axis=(1, 3)), dtype=np.float32)


def _sharpened(planes: Vectors) -> Vectors:
    """(n, grid, grid) -> (n, m): less the means of 9 x 9 around, without two rows at the edge."""
    sharp = [(plane - cv2.blur(plane, (9, 9)))[2:-2, 2:-2].ravel() for plane in planes]
    return np.stack(sharp).astype(np.float32)


def _without(vectors: Vectors, shared: Vectors) -> Vectors:
    """What is left of the vectors when what the shared ones span is taken off."""
    sizes, turns = np.linalg.eigh((shared @ shared.T).astype(np.float64))
    kept = sizes > _COLLINEAR * sizes[-1]
    basis = ((turns[:, kept] / np.sqrt(sizes[kept])).T @ shared).astype(np.float32)
    return np.asarray(vectors - (vectors @ basis.T) @ basis, dtype=np.float32)


def _changes(samples: Sequence[Sample], scene: Vectors, grid: int, most: int) -> list[Vectors]:
    """What gain, shift, crop, turn and blur by few pixels change in a scene: at most ``most`` planes."""
    up, across = np.mgrid[0:grid, 0:grid].astype(np.float32) / np.float32(grid) - np.float32(0.5)
    planes = [scene, scene * across, scene * up]
    examples = min(_EXAMPLES, len(samples), (most - len(planes)) // (3 * len(_REACH)))
    for number in np.linspace(0, len(samples) - 1, examples).astype(int):
        grey = cv2.cvtColor(samples[number].pixels(), cv2.COLOR_RGB2GRAY)
        while max(grey.shape) > _LARGEST:
            grey = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        image = grey.astype(np.float32)
        own = cv2.resize(image, (grid, grid), interpolation=cv2.INTER_AREA)
        for right, down in _REACH:
            motion = np.array([[1, 0, right], [0, 1, down]], dtype=np.float32)
            size = (image.shape[1], image.shape[0])
            moved = cv2.warpAffine(image, motion, size, borderMode=cv2.BORDER_REPLICATE)
            change = cv2.resize(moved, (grid, grid), interpolation=cv2.INTER_AREA) - own
            planes += [change, change * across, change * up]
    return planes


def _correlated(vectors: Vectors) -> Iterator[tuple[int, int]]:
    """Pairs from :data:`TOGETHER` on; of each vector the closest before it."""
    for start in range(0, len(vectors), _BLOCK):
        products = vectors[start : start + _BLOCK] @ vectors[: start + _BLOCK].T
        for row, likeness in enumerate(products):
            before = likeness[: start + row]
            others = np.flatnonzero(before >= TOGETHER)
            if len(others) > _MOST_LINKS:
                others = others[np.argsort(-before[others], kind="stable")[:_MOST_LINKS]]
            yield from ((int(other), start + row) for other in others)


def _identical(samples: Sequence[Sample]) -> Iterator[tuple[int, int]]:
    """Each image with the first whose means are the very same."""
    first: dict[bytes, int] = {}
    for number, sample in enumerate(samples):
        before = first.setdefault(sample.detail.tobytes(), number)
        if before != number:
            yield before, number
