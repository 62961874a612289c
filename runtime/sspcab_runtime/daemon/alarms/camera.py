"""The alarms of one camera: one for the whole frame, or one a zone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.manifest import Quantiles
from sspcab_runtime.daemon.alarms.alarm import Alarm, AlarmClosed, AlarmOpened
from sspcab_runtime.daemon.config import AlarmConfig, ZoneConfig

__all__ = ["CameraAlarms", "largest_share", "zone_mask"]

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class CameraAlarms:
    """Scores and maps in, alarms out.

    A zone is judged by the frame's score where the map is highest inside the zone, else by the highest value
    of the map there, if that is less: maps are on the score's scale. Without a map every zone has the frame's
    score.

    Args:
        config: The camera's alarm table.
        threshold: Of the camera; zones may have their own.
        normal: Scores of normal pictures.
    """

    def __init__(self, config: AlarmConfig, threshold: float, normal: Quantiles | None) -> None:
        self._config, self._threshold = config, threshold
        self._alarms: list[tuple[ZoneConfig | None, float, Alarm]] = []
        for zone in config.zones or (None,):
            own = threshold if zone is None or zone.threshold is None else zone.threshold
            alarm = Alarm(config, own, normal, None if zone is None else zone.name)
            self._alarms.append((zone, own, alarm))
        self._masks: dict[tuple[str, tuple[int, ...]], Mask] = {}

    @property
    def open(self) -> bool:
        """Whether any is raised."""
        return any(alarm.open for _, _, alarm in self._alarms)

    def push(
        self, score: float, heat: Map | None, now: float, frame: int
    ) -> Sequence[AlarmOpened | AlarmClosed]:
        """The verdict of the next frame: its score, and its (h, w) map if it has one."""
        changes = []
        for zone, threshold, alarm in self._alarms:
            own, inside = score, None
            if zone is not None and heat is not None:
                inside = self._mask(zone, heat.shape)
                highest = float(heat[inside].max(initial=-np.inf))
                own = score if highest >= float(heat.max()) else min(score, highest)
            large = True
            if self._config.min_area and heat is not None and own > threshold:
                large = largest_share(heat > threshold, inside) >= self._config.min_area
            change = alarm.push(own, now, frame, large=large)
            if change is not None:
                changes.append(change)
        return changes

    def gap(self, now: float, reason: str = "gap") -> Sequence[AlarmClosed]:
        """Frames are missing: open alarms are over."""
        closed = (alarm.gap(now, reason) for _, _, alarm in self._alarms)
        return [change for change in closed if change is not None]

    def _mask(self, zone: ZoneConfig, shape: tuple[int, ...]) -> Mask:
        key = (zone.name, shape)
        if key not in self._masks:
            self._masks[key] = zone_mask(zone.corners, shape[0], shape[1])
        return self._masks[key]


def zone_mask(corners: Sequence[tuple[float, float]], height: int, width: int) -> Mask:
    """(h, w) bool: which cells of a map have their centre in a polygon, or are touched by its border.

    ``corners`` are (x, y) as shares of width and height.
    """
    scale = np.array([width, height])
    points = np.round(np.asarray(corners) * scale - 0.5).astype(np.int32)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [points], 1)
    return mask.astype(bool)


def largest_share(above: Mask, inside: Mask | None) -> float:
    """Size of the largest connected piece (8 neighbours) of a map, as a share of all its cells."""
    chosen = above if inside is None else above & inside
    count, _, stats, _ = cv2.connectedComponentsWithStats(chosen.astype(np.uint8), connectivity=8)
    if count <= 1:
        return 0.0
    return float(stats[1:, cv2.CC_STAT_AREA].max()) / above.size
