"""Published figures of hosts with the SSPCAB block on MVTec AD, and the row that fits a bundle.

Plain data with their sources; none was measured here. Where a figure was not published it is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sspcab_edge.errors import OptionError

__all__ = ["MVTEC_CATEGORIES", "PUBLISHED", "Published", "caveat", "find_published", "published_for"]


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a published table; areas are shares, 0 to 1.

    Attributes:
        host: The detector around the block.
        category: Of MVTec AD; None: the mean over its 15 categories.
        image_auroc: With the block.
        pixel_auroc: With the block.
        pixel_ap: With the block.
        baseline_image_auroc: Without the block.
        baseline_pixel_auroc: Without the block.
        baseline_pixel_ap: Without the block.
        source: Where the figures were read.
    """

    host: str
    category: str | None
    image_auroc: float
    baseline_image_auroc: float
    source: str
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    baseline_pixel_auroc: float | None = None
    baseline_pixel_ap: float | None = None

    @property
    def name(self) -> str:
        """As ``--paper`` takes it."""
        return self.host if self.category is None else f"{self.host}:{self.category}"


_PWC = "with the block [pwc]: a page of results by paper; without [readme]: as listed in the author's README"
_PADDLE = "[readme]: the READMEs of the Paddle ports, 3-way"

_CUTPASTE = {
    "bottle": (0.986, 0.983),
    "cable": (0.829, 0.806),
    "capsule": (0.981, 0.962),
    "carpet": (0.907, 0.931),
    "grid": (0.999, 0.999),
    "hazelnut": (0.983, 0.973),
    "leather": (1.0, 1.0),
    "metal_nut": (1.0, 0.993),
    "pill": (0.953, 0.924),
    "screw": (0.908, 0.863),
    "tile": (0.940, 0.934),
    "toothbrush": (0.988, 0.983),
    "transistor": (0.965, 0.955),
    "wood": (0.992, 0.986),
    "zipper": (0.981, 0.994),
}
"""Category -> image AUROC with the block, and without."""

MVTEC_CATEGORIES = frozenset(_CUTPASTE)
"""The 15 categories of MVTec AD."""

PUBLISHED: tuple[Published, ...] = (
    Published(
        host="draem",
        category=None,
        image_auroc=0.989,
        pixel_auroc=0.972,
        pixel_ap=0.699,
        baseline_image_auroc=0.981,
        baseline_pixel_auroc=0.975,
        baseline_pixel_ap=0.689,
        source=_PWC,
    ),
    Published(host="cutpaste", category=None, image_auroc=0.961, baseline_image_auroc=0.952, source=_PADDLE),
    *(
        Published(
            host="cutpaste", category=name, image_auroc=own, baseline_image_auroc=baseline, source=_PADDLE
        )
        for name, (own, baseline) in _CUTPASTE.items()
    ),
)
"""Every row that is known."""


def find_published(name: str) -> Published:
    """The row that ``--paper`` names: ``draem``, ``cutpaste`` or ``cutpaste:<category>``.

    Raises:
        OptionError: There is none of this name.
    """
    for row in PUBLISHED:
        if row.name == name:
            return row
    hosts = sorted({row.host for row in PUBLISHED})
    categories = ", ".join(f"cutpaste:{category}" for category in sorted(MVTEC_CATEGORIES))
    raise OptionError(f"no published row {name!r}: expected {', '.join(hosts)} or one of {categories}")


def published_for(host: str, categories: Sequence[str]) -> Published | None:
    """The row that fits a bundle's host, and the one category it is evaluated on where that has its own.

    None where nothing was published for the host.
    """
    of_host = [row for row in PUBLISHED if row.host in host.lower()]
    for row in of_host:
        if row.category is not None and list(categories) == [row.category]:
            return row
    return next((row for row in of_host if row.category is None), None)


def caveat(row: Published, categories: Sequence[str]) -> str:
    """What has to be said beside a published row: what it is of, and when it cannot be compared."""
    what = "published, on MVTec AD"
    if row.category is None:
        what += ", mean of its 15 categories"
    elif list(categories) != [row.category]:
        what += f", category {row.category}"
    known = bool(categories) and set(categories) <= MVTEC_CATEGORIES
    return what if known else f"{what}; another data set or training is not comparable"
