"""Whose frame is judged next. Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["next_cameras"]


def next_cameras(waiting: Mapping[str, float], served_s: Mapping[str, float], most: int) -> list[str]:
    """The cameras whose frames go into the next engine call, those longest without service first.

    Args:
        waiting: When the waiting frame of a camera was captured, monotonic seconds, by camera.
        served_s: When a camera was last served; none is never.
        most: Frames of one call.
    """
    never = float("-inf")
    order = sorted(waiting, key=lambda camera: (served_s.get(camera, never), waiting[camera], camera))
    return order[:most]
