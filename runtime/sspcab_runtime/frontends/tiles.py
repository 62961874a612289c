"""The front-end for details too small for one look: the region in tiles, at its own resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import apply_score_map, is_anomalous
from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Frame, Request, Verdict
from sspcab_runtime.frontends.map_size import map_size
from sspcab_runtime.frontends.pose import Pose
from sspcab_runtime.frontends.scores import on_source_scale, score_inside
from sspcab_runtime.frontends.tiling import cut, grid, merge, mosaic
from sspcab_runtime.frontends.view import open_view
from sspcab_runtime.frontends.zones import read_inside, touched

__all__ = ["Tiles"]


class Tiles:
    """One frame in, one entry of the batch for each tile that is looked at, one verdict out.

    The frame's score is that of its worst tile. A tile without a judged pixel is not computed. The score of a
    tile that is judged in part is made anew from that part of its map; a host whose score does not follow
    from its map is judged by whole tiles. Remembers nothing.

    Args:
        manifest: Of the bundle; its front-end has ``frame`` and ``tiles``.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
        folder: The bundle's, where the front-end has a reference or a mask.

    Attributes:
        view: Where the region lies.
        rows: First pixel of each row of tiles, in the region.
        columns: The same of each column.
        numbers: The tiles that are looked at, row by row over the whole grid.

    Raises:
        BundleError: A picture of the front-end cannot be read, nothing is left to look at, or the manifest
            says nothing of tiles that fit the region.
    """

    remembers = False

    def __init__(
        self, manifest: Manifest, artifact: Artifact, threshold: float | None, folder: Path | None = None
    ) -> None:
        spec, size = manifest.front_end, manifest.preprocess
        view = open_view(spec, folder)
        if view is None or spec.tiles is None:
            raise BundleError("the front-end cuts tiles but has no frame size or no tiles: export it again")
        if size.width > view.box.width or size.height > view.box.height:
            raise BundleError(
                f"the region is {view.box.width}x{view.box.height} pixels, expected {size.width}x"
                f"{size.height}, one tile, or more: choose a larger region"
            )
        self.view = view
        self.threshold = threshold
        self.tile = (size.height, size.width)
        self.rows = grid(view.box.height, size.height, spec.tiles.overlap)
        self.columns = grid(view.box.width, size.width, spec.tiles.overlap)
        self.inside = read_inside(spec, folder)
        places = [(top, left) for top in self.rows for left in self.columns]
        self.numbers = tuple(n for n, place in enumerate(places) if self._judged(place).any())
        self.places = tuple(places[number] for number in self.numbers)
        self._rule = manifest.score
        self._score_map = artifact.score_map
        self._batch = spec.tiles.batch
        self._levels = spec.tiles.levels
        size_of_map = map_size(manifest)
        self._mosaic = None
        self._whole: npt.NDArray[np.bool_] | None = None
        self._partly: dict[int, npt.NDArray[np.bool_]] = {}
        if size_of_map is not None:
            self._mosaic = mosaic(
                self.rows, self.columns, self.tile, spec.tiles.margin, size_of_map, self.numbers
            )
            if self.inside is not None:
                self._whole = touched(self.inside, self._mosaic.shape)
                self._partly = {
                    position: touched(judged, size_of_map)
                    for position, judged in enumerate(map(self._judged, self.places))
                    if not judged.all()
                }

    def push(self, frame: Frame) -> Request:
        """``frames``: (tiles, height, width, 3) uint8 RGB, contiguous.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
            RegistrationError: The frame does not show the scene where it should be.
        """
        pixels, pose = self.view.cut(frame)
        return Request({"frames": cut(pixels, self.places, self.tile)}, batch=self._batch, context=pose)

    def merge(self, outputs: Mapping[str, Array], context: object = None) -> Verdict:
        """The verdict of one frame from ``score`` (tiles,) and, where there is one, ``map`` (tiles, h, w).

        Raises:
            EngineError: A score is not finite; no threshold could judge it.
        """
        scores = np.array(outputs["score"], dtype=np.float64)
        on_source_scale(self._score_map, scores)
        heat = None
        if self._mosaic is not None:
            maps = np.asarray(outputs["map"], dtype=np.float32)
            if self._rule is not None:
                for position, inside in self._partly.items():
                    scores[position] = score_inside(self._rule, maps[position], inside)
            heat = merge(maps, self._mosaic)
            if self._whole is not None:
                heat *= self._whole
            heat = self.view.place(heat, context if isinstance(context, Pose) else None)
        score = float(self._levelled(on_source_scale(self._score_map, scores)).max())
        return Verdict(
            score=score,
            threshold=self.threshold,
            anomalous=is_anomalous(score, self.threshold),
            map=heat,
        )

    def reset(self) -> None:
        """Nothing is remembered, so nothing is forgotten."""

    def _judged(self, place: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(height, width): which pixels of the tile there are judged."""
        (top, left), (height, width) = place, self.tile
        if self.inside is None:
            return np.broadcast_to(np.True_, self.tile)
        return self.inside[top : top + height, left : left + width]

    def _levelled(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores of the tiles (N,), brought to their common scale."""
        if not self._levels:
            return scores
        pairs = zip(self.numbers, scores, strict=True)
        return np.array([apply_score_map(self._levels[n], np.array([score]))[0] for n, score in pairs])
